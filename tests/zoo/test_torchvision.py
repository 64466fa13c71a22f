"""torchvision's classification networks without layer norm: attributes, conservation, both engines."""

from __future__ import annotations

import copy
import gc
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import CONSERVED, ROUNDING, distance
from tests.helpers.models import input_x_gradient, without_shifts
from tests.helpers.numbers import numbers

SAME_MAP = 1e-8
"""Of max |R| in float64: relevance with ε = 0 divides by activations that input × gradient does not
divide by; over a hundred layers the quotients lose some digits."""
CONSERVED_IN_FLOAT32 = 1e-3
"""Of the logit in float32 with ε = 0: the issue's bound for a hundred layers of quotients."""
TARGET = 3

NOT_HOMOGENEOUS = ("mobilenet", "efficientnet", "regnet_y")
"""Families with units that saturate (ReLU6, hard-swish, SiLU) or gates that multiply."""
LAYER_NORM = ("convnext", "vit", "swin", "maxvit")
QUICK = (
    *("alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "densenet121", "googlenet"),
    *("inception_v3", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5"),
    *("squeezenet1_1", "efficientnet_b0", "regnet_x_400mf", "regnet_y_400mf"),
)
"""One of each family, for the quick suite."""
ALL = tuple(
    name
    for name in torchvision.models.list_models(module=torchvision.models)
    if not name.startswith(LAYER_NORM)
)
MODELS = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow, id=name) for name in ALL
]


@dataclass(frozen=True)
class Sample:
    """A network without additive constants in float64, images, and what torch says of them."""

    model: nn.Module
    images: Tensor
    logits: Tensor


@pytest.fixture(scope="module")
def given(request: pytest.FixtureRequest) -> Sample:
    """The network of that name, its running variances set from a batch."""
    name: str = request.param
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False, "aux_logits": False}
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, **options).double()
    side = 96 if name == "inception_v3" else 64
    images = numbers(4, 3, side, side)
    without_shifts(model, images)
    images = images[:2]
    with torch.no_grad():
        return Sample(model, images, model(images)[:, TARGET])


each_network = pytest.mark.parametrize("given", MODELS, indirect=True, scope="module")
each_homogeneous_network = pytest.mark.parametrize(
    "given",
    [param for param in MODELS if not str(param.id).startswith(NOT_HOMOGENEOUS)],
    indirect=True,
    scope="module",
)


@each_network
def test_relevance_sums_to_the_logit(given: Sample) -> None:
    """Nothing is lost or doubled anywhere: the preset ``zero`` conserves in both precisions."""
    _, delta = LRPFx(given.model, "zero").attribute(
        given.images, target=TARGET, return_convergence_delta=True
    )
    assert (delta / given.logits).abs().max() < CONSERVED
    gc.collect()
    single = copy.deepcopy(given.model).float()
    _, delta = LRPFx(single, "zero").attribute(
        given.images.float(), target=TARGET, return_convergence_delta=True
    )
    assert (delta / given.logits).abs().max() < CONSERVED_IN_FLOAT32


@each_network
def test_both_engines_agree_under_the_default_composite(given: Sample) -> None:
    """The analytic adjoints are those of the operations: autograd finds the same relevance."""
    direct = LRPFx(given.model).attribute(given.images, target=TARGET)
    gc.collect()  # the largest network's weights, folded and split, fit in memory once only
    gradient = LRPFx(given.model, propagation="gradient").attribute(given.images, target=TARGET)
    assert distance(direct, gradient) < ROUNDING


@each_homogeneous_network
def test_the_map_is_input_times_gradient_on_homogeneous_networks(given: Sample) -> None:
    """On positively homogeneous networks the preset ``zero`` has a known answer."""
    relevance = LRPFx(given.model, "zero").attribute(given.images, target=TARGET)
    (expected,) = input_x_gradient(lambda x: given.model(x)[:, TARGET], given.images)
    assert distance(relevance, expected) < SAME_MAP
