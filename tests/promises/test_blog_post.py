"""The blog post of 2021 reproduced: ``compat.blog`` gives the maps of its algorithm on the VGGs.

The post (Kai Fischer, "Relevance Propagation with PyTorch") goes through a VGG layer by layer with
autograd. ``post_map`` writes that down again from its formulas, as a reference that shares nothing
with the library.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from lrp_fx import LRPFx, rules
from lrp_fx.composites import Composite, anything, compat, first, operation
from lrp_fx.relevance.engines import ENGINES, Engine
from tests.helpers.closeness import distance

EPS = 1e-5  # the post's, added without a sign
TOP_K = 0.05  # the post's filter keeps 5 %

SAME_MAP = {torch.float32: 1e-5, torch.float64: 1e-12}
"""Of max |R|. Both add up the same terms, perhaps in another order. All are positive, so nothing
cancels and errors stay near the dtype's precision through all of VGG-19."""

NO_TIE = 1e-11
"""Relative gap at the filter's edge. Values closer than this may change places with the order of
summation (rounding: 1e-14 in float64), and then two right maps differ. In float32 there are such
near-ties, hence filtered maps are compared in float64, where the reference refuses them."""

NOTICED = 1e-7
"""Of max |R|: what a changed detail of the algorithm must make at least, to be told from rounding
(1e-12); the smallest change here, ε, makes 4e-4."""


def post_map(model: models.VGG, images: Tensor, top_k: float | None = None) -> Tensor:
    """The post's relevance map of each image, (N, H, W)."""
    layers = [*model.features, model.avgpool, nn.Flatten(1), *model.classifier]
    values = [images]
    with torch.no_grad():
        for layer in layers:  # copies, for torchvision's ReLUs write into their input
            values.append(layer(values[-1].clone()))
    relevance = values.pop().softmax(1)  # of all classes at once
    values[0] = torch.ones_like(images)  # the image itself says nothing about relevance
    for layer, value in zip(reversed(layers), reversed(values), strict=True):
        relevance = post_step(layer, value, relevance, top_k)
    return relevance.sum(1)


def post_step(layer: nn.Module, value: Tensor, relevance: Tensor, top_k: float | None) -> Tensor:
    """One layer: z = layer⁺(a) + ε, s = R / z, c = ∂(Σ z·s)/∂a, R ← a·c."""
    if isinstance(layer, nn.ReLU | nn.Dropout):
        return relevance
    if isinstance(layer, nn.Flatten):
        return relevance.reshape(value.shape)
    if top_k is not None:
        relevance = largest(relevance, top_k)
    value = value.detach().requires_grad_()
    z = positive(layer, value) + EPS
    s = (relevance / z).detach()
    (c,) = torch.autograd.grad((z * s).sum(), value)
    return (value * c).detach()


def positive(layer: nn.Module, value: Tensor) -> Tensor:
    """The layer with positive weights and without bias; max pooling as average pooling."""
    if isinstance(layer, nn.Linear):
        return F.linear(value, layer.weight.detach().clamp(min=0))
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(value, layer.weight.detach().clamp(min=0), padding=layer.padding)
    if isinstance(layer, nn.MaxPool2d):
        return F.avg_pool2d(value, 2)
    assert isinstance(layer, nn.AdaptiveAvgPool2d)
    return layer(value)


def largest(relevance: Tensor, top_k: float) -> Tensor:
    """The ``top_k`` largest values of each sample, zero elsewhere; refuses near-ties."""
    flat = relevance.flatten(1)
    k = max(1, int(top_k * flat.shape[1]))
    ordered, places = flat.sort(1, descending=True)
    last, next_one = ordered[:, k - 1], ordered[:, k]
    assert (last - next_one >= NO_TIE * last).all(), "a near-tie: choose other images"
    return torch.zeros_like(flat).scatter(1, places[:, :k], ordered[:, :k]).view_as(relevance)


def vgg(name: str, dtype: torch.dtype) -> models.VGG:
    """A VGG with random weights, and dense layers of which most units are left out: they take time."""
    torch.manual_seed(0)
    model = models.get_model(name, weights=None)
    model.classifier = nn.Sequential(
        *(nn.Linear(512 * 7 * 7, 256), nn.ReLU(inplace=True), nn.Dropout()),
        *(nn.Linear(256, 256), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(256, 100)),
    )
    return with_biases(model).to(dtype)


def small_vgg() -> models.VGG:
    """A VGG of three convolutions and two linear layers, in float64."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(n, m, 3, padding=1) for n, m in ((3, 8), (8, 8), (8, 16))]
    relus = [nn.ReLU(inplace=True) for _ in convolutions]
    layers = [layer for pair in zip(convolutions, relus, strict=True) for layer in pair]
    model = models.VGG(nn.Sequential(*layers, nn.MaxPool2d(2)), init_weights=False)
    model.classifier = nn.Sequential(
        nn.Linear(16 * 7 * 7, 32), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(32, 10)
    )
    return with_biases(model).double()


def with_biases(model: models.VGG) -> models.VGG:
    """The model in eval mode with random biases: torchvision's own start at zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def photographs(dtype: torch.dtype) -> Tensor:
    """Two small images of either sign, as normalised photographs are."""
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


def library_map(model: models.VGG, images: Tensor, composite: Composite, **options: Any) -> Tensor:
    """The library's relevance map of each image, (N, H, W)."""
    lrp = LRPFx(model, composite, **{"start": "softmax", **options})
    relevance: Tensor = lrp.attribute(images)
    return relevance.sum(1)


def check_maps(name: str, dtype: torch.dtype, top_k: float | None = None) -> None:
    model, images = vgg(name, dtype), photographs(dtype)
    found = library_map(model, images, compat.blog(top_k or 1.0))
    assert found.dtype == dtype
    assert distance(found, post_map(model, images, top_k)) <= SAME_MAP[dtype]


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
def test_maps_are_those_of_the_post(name: str) -> None:
    """``compat.blog`` with ``start="softmax"`` is the post's algorithm on every VGG."""
    check_maps(name, torch.float32)


DEEP = [pytest.param(name, marks=pytest.mark.slow) for name in ("vgg13", "vgg16", "vgg19")]


@pytest.mark.parametrize("name", ["vgg11", *DEEP])
def test_filtered_maps_are_those_of_the_post(name: str) -> None:
    """So it is with the post's relevance filter: the same values are kept before every layer."""
    check_maps(name, torch.float64, TOP_K)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
def test_maps_agree_to_rounding(name: str) -> None:
    """In float64 the maps agree so closely that no part of the formula can be another."""
    check_maps(name, torch.float64)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("top_k", [None, TOP_K])
def test_both_engines_follow_the_post(engine: Engine, top_k: float | None) -> None:
    """The post used autograd; the analytic adjoints give the same, with and without the filter."""
    model, images = small_vgg(), photographs(torch.float64)
    found = library_map(model, images, compat.blog(top_k or 1.0), propagation=engine)
    assert distance(found, post_map(model, images, top_k)) <= SAME_MAP[torch.float64]


def test_filter_is_an_option_too() -> None:
    """``LRPFx(..., top_k=)`` sets the filter at the same places as ``compat.blog(top_k)``."""
    model, images = small_vgg(), photographs(torch.float64)
    by_option = library_map(model, images, compat.blog(), top_k=TOP_K)
    assert torch.equal(by_option, library_map(model, images, compat.blog(TOP_K)))


def changed(
    *,
    eps: float = EPS,
    at_first: rules.Rule | None = None,
    pooling: rules.Rule | None = None,
    bias: bool = False,
) -> Composite:
    """``compat.blog`` written again with one detail changed."""
    stabilizer = rules.Stabilizer(eps, signed=False)
    unsplit = compat.UnsplitZPlus(bias=bias, stabilizer=stabilizer)
    proportional = rules.Proportional(stabilizer)
    return Composite(
        [
            (first(), at_first or rules.WPlus(stabilizer=stabilizer)),
            (anything(), unsplit),
            (operation("max pooling"), pooling or proportional),
            (operation("average pooling"), proportional),
        ],
        bias="absorb" if bias else "ignore",
    )


@pytest.mark.parametrize(
    ("composite", "options"),
    [
        pytest.param(changed(eps=1e-6), {}, id="another epsilon"),
        pytest.param(changed(bias=True), {}, id="the bias kept"),
        pytest.param(changed(at_first=rules.Flat()), {}, id="another first layer"),
        pytest.param(changed(at_first=rules.ZPlus()), {}, id="the image kept"),
        pytest.param(changed(pooling=rules.Winner()), {}, id="max pooling kept"),
        pytest.param(changed(), {"start": lambda z: z.softmax(1) ** 2}, id="another start"),
        pytest.param(changed(), {"top_k": 0.5}, id="a filter"),
    ],
)
def test_every_detail_is_noticed(composite: Composite, options: dict[str, Any]) -> None:
    """No detail of the post could be lost without these tests failing; unchanged they pass."""
    model, images = small_vgg(), photographs(torch.float64)
    expected = post_map(model, images)
    assert distance(library_map(model, images, changed()), expected) <= SAME_MAP[torch.float64]
    assert distance(library_map(model, images, composite, **options), expected) >= NOTICED
