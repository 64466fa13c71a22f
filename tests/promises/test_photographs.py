"""zennit reproduced on a real network and real photographs, without a canonizer.

The network is EfficientNet-Lite0 with its ImageNet weights, the photographs are the 20 labelled ones
in the package foolbox. zennit needs batch norm merged and the residual additions made modules; the
tests do that for it in :func:`explicit`. ``lrp_fx`` gets the model as it is.
"""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from zennit import composites as zennit_composites
from zennit.layer import Sum

from lrp_fx import LRPFx
from lrp_fx.composites import compat
from lrp_fx.zoo.efficientnet_lite0 import InvertedResidual
from tests.helpers.closeness import distance
from tests.helpers.photographs import CORRELATION, correlation, network, photographs

ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-9}
"""Of max |R| of a photograph. The same sums in another order through 50 layers; small denominators
magnify it. Seen in float32: 7e-5 at most, in float64: 5e-12."""

BORDER = 3
"""Pixels at the right and lower border that are not compared under ``Flat``: there the first windows
reach into the padding. For zennit the padding is an image of its own and gets its share; here it is
the convolution's own, as if the convolution did the padding, and gets none."""

FEW = slice(None, None, 5)
"""Four of the photographs, for the tests that run always."""

THEIRS = {
    "epsilon_plus": zennit_composites.EpsilonPlus,
    "epsilon_plus_flat": zennit_composites.EpsilonPlusFlat,
    "epsilon_gamma_box": zennit_composites.EpsilonGammaBox,
    "epsilon_alpha2_beta1": zennit_composites.EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": zennit_composites.EpsilonAlpha2Beta1Flat,
}
OF_IMAGES = ["epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box"]


class ExplicitResidual(nn.Module):
    """A residual block whose addition is a module, as zennit needs it for its ``Norm`` rule."""

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        self.branch = nn.Sequential(block.expand, block.depthwise, block.project)
        self.sum = Sum()

    def forward(self, x: Tensor) -> Tensor:
        return self.sum(torch.stack([x, self.branch(x)], dim=-1))


def explicit(model: nn.Module) -> nn.Module:
    """A copy for zennit: explicit additions, and batch norm folded as torch itself does it.

    zennit's own merging forgets the ε of batch norm and leaves the forward 6e-6 off.
    """
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, InvertedResidual) and child.residual:
                setattr(parent, name, ExplicitResidual(child))
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for place, layer in enumerate(layers):
            if isinstance(layer, nn.BatchNorm2d):
                layers[place - 1] = fuse_conv_bn_eval(layers[place - 1], layer)
                layers[place] = nn.Identity()
    return model


def padded_bounds() -> dict[str, Tensor]:
    """The z-box bounds for zennit, of what its first convolution reads: the image, zero-padded.

    zennit takes the bounds at that convolution; lrp_fx takes those of the model's input, and the
    padding in front of the convolution applies to them too.
    """
    low, high = (F.pad(bound.expand(1, 3, 224, 224), (0, 1, 0, 1)) for bound in network().bounds)
    return {"low": low, "high": high}


def zennit_maps(model: nn.Module, x: Tensor, target: Tensor, name: str, **bounds: Tensor) -> Tensor:
    """zennit's relevance of the target logits, (N, H, W)."""
    with THEIRS[name](**bounds).context(model) as prepared:
        x = x.clone().requires_grad_()
        output = prepared(x)
        logits = output.detach().gather(1, target[:, None])
        start = torch.zeros_like(output).scatter(1, target[:, None], logits)
        (relevance,) = torch.autograd.grad(output, x, start)
    return relevance.sum(1)


def our_maps(model: nn.Module, x: Tensor, target: Tensor, name: str) -> Tensor:
    """The library's relevance of the target logits, (N, H, W)."""
    bounds: tuple[Any, ...] = network().bounds if name == "epsilon_gamma_box" else ()
    relevance: Tensor = LRPFx(model, compat.zennit(name, *bounds)).attribute(x, target=target)
    return relevance.sum(1)


def compare(name: str, chosen: slice, dtype: torch.dtype = torch.float32) -> None:
    """The two maps of each chosen photograph, for the class that the network sees in it."""
    model = copy.deepcopy(network().model).to(dtype)
    prepared = explicit(model)
    bounds = padded_bounds() if name == "epsilon_gamma_box" else {}
    bounds = {key: bound.to(dtype) for key, bound in bounds.items()}
    for x in photographs()[0][chosen].to(dtype).split(4):
        with torch.no_grad():
            target = model(x).argmax(1)
        ours = our_maps(model, x, target, name)
        theirs = zennit_maps(prepared, x, target, name, **bounds)
        if name.endswith("_flat"):
            ours, theirs = ours[:, :-BORDER, :-BORDER], theirs[:, :-BORDER, :-BORDER]
        for found, expected in zip(ours, theirs, strict=True):
            assert correlation(found, expected) >= CORRELATION
            assert distance(found, expected) <= ROUNDING[dtype]


def test_photographs_are_recognized() -> None:
    """What is compared here is a working network on photographs that it knows: 18 of 20 right."""
    x, labels = photographs()
    with torch.no_grad():
        best = network().model(x).topk(5).indices
    assert len(x) == 20
    assert int((best[:, 0] == labels).sum()) == 18
    assert int((best == labels[:, None]).any(1).sum()) == 19


@pytest.mark.parametrize("name", OF_IMAGES)
def test_maps_are_those_of_zennit(name: str) -> None:
    """``compat.zennit`` gives zennit's maps on a plain residual network with batch norm."""
    compare(name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_IMAGES)
def test_maps_are_those_of_zennit_on_all_photographs(name: str) -> None:
    """So it is on each of the 20 photographs."""
    compare(name, slice(None))


@pytest.mark.parametrize("name", THEIRS)
def test_maps_agree_to_rounding(name: str) -> None:
    """In float64 all five composites are zennit's to the last digits, α2β1 too."""
    compare(name, slice(1), torch.float64)


def test_zennit_needs_what_is_done_for_it() -> None:
    """The comparison is not vacuous: without the explicit additions zennit's maps are others."""
    model, x = network().model, photographs()[0][:1]
    target = torch.tensor([243])
    theirs = zennit_maps(copy.deepcopy(model), x, target, "epsilon_plus")
    assert correlation(our_maps(model, x, target, "epsilon_plus"), theirs) < CORRELATION


def test_bounds_of_zennit_differ_at_the_padded_border_only() -> None:
    """zennit's users give bounds without padding: it then takes padded zeros for black to white.

    Only the last windows reach the padding, two pixels deep; elsewhere the maps are the same.
    """
    x, target = photographs()[0][:1], torch.tensor([243])
    low, high = network().bounds
    theirs = zennit_maps(
        explicit(network().model), x, target, "epsilon_gamma_box", low=low[None], high=high[None]
    )[0]
    ours = our_maps(network().model, x, target, "epsilon_gamma_box")[0]
    scale = theirs.abs().max()
    difference = (ours - theirs).abs() / scale
    assert difference[:222, :222].max() <= ROUNDING[torch.float32]
    assert difference.max() > ROUNDING[torch.float32]
    assert correlation(ours, theirs) >= CORRELATION
