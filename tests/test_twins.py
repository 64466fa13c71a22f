"""Every rule on every kind of operation, against slow twins in explicit matrix form (``twins.py``)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import twins
from torch import Tensor, nn
from twins import Apply, assert_close, explain, numbers, seeded

from lrp_fx import LRPFx, rules
from lrp_fx.composites import Composite, Uniform, compat, operation
from lrp_fx.errors import CompositeError, UnsupportedOperationError
from lrp_fx.relevance.engines import ENGINES
from lrp_fx.relevance.handling import BIAS_POLICIES
from lrp_fx.stabilizer import Stabilizer

EPS = 0.01
"""Large enough for a wrong stabilizer to show."""
UNSIGNED = Stabilizer(EPS, signed=False)
MIXED = 1e-5
"""Of max |R| where a part of the model runs in float32 (1e-7 per operation, a few operations)."""

# PyTorch says so of padding="same" with an even kernel, in the model's own forward
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

exported = pytest.mark.slow  # half a second each
captures = pytest.mark.parametrize("capture", ["auto", pytest.param("export", marks=exported)])
ways = pytest.mark.parametrize(
    "options",
    [
        pytest.param({"propagation": "direct"}, id="direct"),
        pytest.param({"propagation": "gradient"}, id="gradient"),
        pytest.param({"capture": "export"}, id="export", marks=exported),
    ],
)
"""Both engines, and the other capture, which writes some operations in other ways."""


# Linear operations


class ConstantMatmul(nn.Module):
    """``x @ W``: a linear layer that is no module."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


LINEAR: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "linear on tokens": (lambda: nn.Linear(5, 4), (3, 5)),
    "matmul": (lambda: ConstantMatmul(5, 4), (3, 5)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1), (2, 6)),
    "conv1d grouped": (lambda: nn.Conv1d(4, 6, 3, 2, 2, dilation=2, groups=2), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 4, 4)),
    "conv2d grouped": (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), dilation=(1, 2), groups=2),
        (4, 5, 5),
    ),
    "conv2d depthwise": (lambda: nn.Conv2d(3, 3, 2, groups=3), (3, 4, 3)),
    "conv2d same": (lambda: nn.Conv2d(2, 3, 3, padding="same", dilation=2), (2, 4, 4)),
    "conv2d same, even kernel": (lambda: nn.Conv2d(2, 3, (2, 3), padding="same"), (2, 4, 4)),
    "conv2d without bias": (lambda: nn.Conv2d(2, 3, 3, padding=1, bias=False), (2, 4, 4)),
    "conv3d": (
        lambda: nn.Conv3d(2, 4, 2, stride=(1, 2, 1), padding=(1, 0, 1), groups=2),
        (2, 3, 4, 3),
    ),
    "conv3d dilated": (lambda: nn.Conv3d(1, 2, 2, dilation=(1, 2, 1)), (1, 3, 4, 3)),
    "conv_transpose1d": (
        lambda: nn.ConvTranspose1d(4, 6, 3, 3, padding=1, output_padding=1, groups=2),
        (4, 4),
    ),
    "conv_transpose1d with gaps": (
        lambda: nn.ConvTranspose1d(2, 3, 2, stride=4, output_padding=1),
        (2, 3),
    ),
    "conv_transpose2d": (
        lambda: nn.ConvTranspose2d(
            *(2, 3, (3, 2), (2, 3), (1, 0)), output_padding=(1, 2), dilation=(1, 2)
        ),
        (2, 3, 3),
    ),
    "conv_transpose3d": (
        lambda: nn.ConvTranspose3d(2, 4, 2, stride=2, output_padding=1, groups=2),
        (2, 2, 2, 2),
    ),
}


def unsplit_z_plus(with_bias: bool) -> twins.LinearTwin:
    def twin(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[twins.Units]:
        return [twins.Units(twins.plus(w) * x, b if with_bias else torch.zeros_like(b))]

    return twin


def plain_bias_gamma(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[twins.Units]:
    return [twins.Units((w + 0.25 * twins.plus(w)) * x, b)]


_SMALL = {"stabilizer": Stabilizer(EPS)}
RULES: dict[str, tuple[rules.LinearRule, twins.LinearTwin]] = {
    "zero": (rules.Zero(), twins.epsilon),
    "epsilon": (rules.Epsilon(EPS), twins.epsilon),
    "epsilon unsigned": (rules.Epsilon(stabilizer=UNSIGNED), twins.epsilon),
    "z plus": (rules.ZPlus(**_SMALL), twins.z_plus),
    "alpha 1 beta 0": (rules.AlphaBeta(1, 0, **_SMALL), twins.alpha_beta(1, 0)),
    "alpha 2 beta 1": (rules.AlphaBeta(2, 1, **_SMALL), twins.alpha_beta(2, 1)),
    "gamma": (rules.Gamma(0.3, **_SMALL), twins.gamma(0.3)),
    "generalized gamma": (rules.GeneralizedGamma(0.3, **_SMALL), twins.generalized_gamma(0.3)),
    "w square": (rules.WSquare(**_SMALL), twins.w_square),
    "flat": (rules.Flat(**_SMALL), twins.flat),
    "w plus": (rules.WPlus(**_SMALL), twins.w_plus),
    "captum's alpha 1 beta 0": (compat.UnsplitZPlus(**_SMALL), unsplit_z_plus(True)),
    "the blog's z plus": (
        compat.UnsplitZPlus(bias=False, stabilizer=UNSIGNED),
        unsplit_z_plus(False),
    ),
    "captum's gamma": (compat.PlainBiasGamma(**_SMALL), plain_bias_gamma),
}


@cache
def linear_case(name: str) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The layer, its matrix, its bias and an input."""
    make, shape = LINEAR[name]
    layer = seeded(make)
    weight, _ = twins.matrix(twins.without_bias(layer), torch.Size(shape))
    _, bias = twins.matrix(layer, torch.Size(shape))
    return layer, weight, bias, numbers(2, *shape, seed=1)


def check_linear(
    name: str,
    rule: rules.LinearRule,
    twin: twins.LinearTwin,
    model: nn.Module,
    inputs: Tensor,
    x: Tensor,
) -> None:
    """Under each bias policy and by each engine: the relevance of the layer's input ``x``.

    ``model`` is the layer, or passes relevance unchanged from the layer's input to ``inputs``.
    """
    layer, weight, bias, _ = linear_case(name)
    upper = numbers(*layer(x).shape, seed=2)
    stabilizer = rule.stabilizer
    for policy in BIAS_POLICIES:
        options = {"eps": stabilizer.eps, "signed": stabilizer.signed, "policy": policy}
        expected = twins.linear_twin(twin, weight, bias, x, upper, **options)
        for engine in ENGINES:
            options = {"bias": policy, "propagation": engine}
            mine = explain(model, inputs, upper, Uniform(rule), **options)
            assert_close(mine, expected, case=f"{policy}, {engine}")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", LINEAR)
def test_rules_on_signed_inputs(name: str, rule: str) -> None:
    layer, *_, x = linear_case(name)
    check_linear(name, *RULES[rule], layer, x, x)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", LINEAR)
def test_rules_on_inputs_known_to_be_nonnegative(name: str, rule: str) -> None:
    """After a ReLU the branches in x⁻ are left out: the result stays that of the whole table."""
    layer, *_, x = linear_case(name)
    check_linear(name, *RULES[rule], nn.Sequential(nn.ReLU(), layer), x, x.relu())


@pytest.mark.parametrize("top_k", [1.0, 0.2])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_of_one_sample_without_a_batch(transposed: bool, top_k: float) -> None:
    """What torch's adjoint kernels do not know: relevance is that of a batch of one."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 5, 3) if transposed else nn.Conv2d(3, 5, 3, padding=1)
    layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), layer, nn.ReLU()).double()

    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layers(x[0]).mean((1, 2))[None]

    class Batch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layers(x).mean((2, 3))

    x = numbers(1, 3, 6, 6)
    for engine in ENGINES:
        options = {"top_k": top_k, "propagation": engine}
        mine, expected = (
            LRPFx(model, "epsilon_plus", **options).attribute(x, 2) for model in (Single(), Batch())
        )
        assert_close(mine, expected, case=engine)


@pytest.mark.parametrize("kind", ["number", "channel", "entry"])
@pytest.mark.parametrize("name", LINEAR)
def test_z_box(name: str, kind: str) -> None:
    """Bounds as a number, per channel and per entry."""
    layer, *_, x = linear_case(name)
    shape = {"number": (), "channel": (x.shape[1], *[1] * (x.dim() - 2)), "entry": x.shape[1:]}
    low = -3 - numbers(*shape[kind], seed=3).abs()
    high = 3 + numbers(*shape[kind], seed=4).abs()
    bounds = (float(low), float(high)) if kind == "number" else (low, high)
    flat = [bound.expand(x.shape[1:]).flatten() for bound in (low, high)]
    rule = rules.ZBox(*bounds, stabilizer=Stabilizer(EPS))
    check_linear(name, rule, twins.z_box(*flat), layer, x, x)


# Averages, sums over dimensions, interpolation

AVERAGES: dict[str, tuple[twins.Function, tuple[int, ...]]] = {
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, 2, 1), (2, 7)),
    "avg_pool1d, ceil": (lambda x: F.avg_pool1d(x, 3, 2, 1, True, False), (2, 8)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), (2, 4, 5)),
    "avg_pool2d, padded": (lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 1)), (2, 5, 4)),
    "avg_pool2d, pad not counted": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        (2, 5, 4),
    ),
    "avg_pool2d, ceil": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), (2, 6, 4)),
    "avg_pool2d, divisor": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), (1, 4, 4)),
    "AvgPool2d": (nn.AvgPool2d(3, stride=1, padding=1), (2, 4, 3)),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, (1, 2, 3), (1, 2, 2), (0, 1, 1)), (2, 2, 4, 4)),
    "avg_pool3d, ceil": (
        lambda x: F.avg_pool3d(x, 2, 2, 1, ceil_mode=True, count_include_pad=False),
        (1, 3, 4, 3),
    ),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 3), (2, 7)),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (2, 5, 7)),
    "adaptive_avg_pool2d, one": (nn.AdaptiveAvgPool2d(1), (2, 5, 3)),
    "adaptive_avg_pool2d, one side": (nn.AdaptiveAvgPool2d((None, 2)), (2, 3, 5)),
    "adaptive_avg_pool3d": (lambda x: F.adaptive_avg_pool3d(x, (2, 1, 3)), (1, 3, 4, 5)),
    "mean": (lambda x: x.mean((2, 3)), (2, 3, 4)),
    "mean, kept": (lambda x: torch.mean(x, (-1, 1), keepdim=True), (2, 3, 4)),
    "mean of one dimension": (lambda x: x.mean(1), (2, 3)),
    "mean, by name": (lambda x: torch.mean(x, dim=-1), (2, 3)),
    "sum": (lambda x: x.sum(2), (2, 3, 4)),
    "sum, kept": (lambda x: torch.sum(x, dim=[1, -1], keepdim=True), (2, 3, 4)),
    "cumsum": (lambda x: x.cumsum(-1), (2, 4)),
    "fold": (lambda x: F.fold(x, (4, 5), (2, 3), stride=(2, 1)), (12, 6)),
    "nearest1d": (lambda x: F.interpolate(x, size=5), (2, 3)),
    "nearest2d": (lambda x: F.interpolate(x, scale_factor=2), (2, 3, 2)),
    "nearest2d, uneven": (lambda x: F.interpolate(x, scale_factor=(1.5, 2.4)), (1, 3, 4)),
    "nearest2d, smaller": (nn.Upsample(size=(2, 3)), (1, 5, 4)),
    "nearest3d": (lambda x: F.interpolate(x, scale_factor=(1, 2, 1.5)), (1, 2, 2, 3)),
    "linear": (lambda x: F.interpolate(x, scale_factor=1.7, mode="linear"), (2, 4)),
    "linear, aligned": (
        lambda x: F.interpolate(x, size=7, mode="linear", align_corners=True),
        (2, 4),
    ),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (2, 2, 3)),
    "bilinear, size of another": (
        lambda x: F.interpolate(x[:, :, :3], size=x.shape[-2:], mode="bilinear"),
        (2, 4, 5),
    ),
    "bilinear, aligned": (
        lambda x: F.interpolate(x, size=(3, 7), mode="bilinear", align_corners=True),
        (2, 4, 3),
    ),
    "bilinear, recomputed": (
        lambda x: F.interpolate(x, scale_factor=1.6, mode="bilinear", recompute_scale_factor=True),
        (1, 4, 3),
    ),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"), (1, 4, 5)),
    "bicubic, aligned": (
        lambda x: F.interpolate(x, size=(6, 3), mode="bicubic", align_corners=True),
        (1, 4, 5),
    ),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), (1, 2, 3, 2)),
    "trilinear, aligned": (
        lambda x: F.interpolate(x, size=(3, 4, 3), mode="trilinear", align_corners=True),
        (1, 2, 3, 2),
    ),
    "area": (lambda x: F.interpolate(x, size=(2, 3), mode="area"), (1, 5, 4)),
}
AVERAGE_KINDS = operation("average pooling", "interpolation", "sum")


@ways
@pytest.mark.parametrize("name", AVERAGES)
def test_averages_proportionally(name: str, options: dict[str, Any]) -> None:
    function, shape = AVERAGES[name]
    x = numbers(2, *shape)
    upper = numbers(*function(x).shape, seed=1)
    composite = Composite([(AVERAGE_KINDS, rules.Proportional(Stabilizer(EPS)))])
    mine = explain(function, x, upper, composite, **options)
    assert_close(mine, twins.averaged(function, x, upper, EPS))


@ways
@pytest.mark.parametrize("name", AVERAGES)
def test_averages_uniformly(name: str, options: dict[str, Any]) -> None:
    function, shape = AVERAGES[name]
    x = numbers(2, *shape)
    upper = numbers(*function(x).shape, seed=1)
    composite = Composite([(AVERAGE_KINDS, rules.Uniform())])
    mine = explain(function, x, upper, composite, **options)
    assert_close(mine, twins.uniform(function, x, upper))


# Maxima

MAX_POOLS: dict[str, tuple[twins.Function, twins.Function, tuple[int, ...]]] = {
    "max_pool1d": (
        lambda x: F.max_pool1d(x, 3, 2, 1),
        lambda x: F.avg_pool1d(x, 3, 2, 1),
        (2, 7),
    ),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), (2, 4, 5)),
    "max_pool2d, overlapping": (
        lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0)),
        lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0)),
        (2, 5, 4),
    ),
    "max_pool2d, ceil": (
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        (2, 6, 4),
    ),
    "max_pool3d": (
        lambda x: F.max_pool3d(x, 2, 1, 1),
        lambda x: F.avg_pool3d(x, 2, 1, 1),
        (1, 2, 3, 2),
    ),
}
"""Max pooling, and the average pooling over the same windows."""

MAXIMA: dict[str, tuple[twins.Function, tuple[int, ...]]] = {
    **{name: (function, shape) for name, (function, _, shape) in MAX_POOLS.items()},
    "max_pool2d, dilated": (lambda x: F.max_pool2d(x, 2, 1, 1, dilation=2), (2, 4, 5)),
    "adaptive_max_pool1d": (nn.AdaptiveMaxPool1d(3), (2, 7)),
    "adaptive_max_pool2d": (nn.AdaptiveMaxPool2d((2, 3)), (2, 5, 4)),
    "adaptive_max_pool3d": (nn.AdaptiveMaxPool3d((1, 2, 2)), (1, 3, 4, 3)),
    "amax": (lambda x: x.amax((2, 3)), (2, 3, 4)),
    "amax, kept": (lambda x: torch.amax(x, 1, keepdim=True), (3, 2)),
    "max": (lambda x: x.max(dim=1)[0], (3, 2)),
    "max, by position": (lambda x: torch.max(x, -1)[0], (3, 2)),
    "max, kept": (lambda x: x.max(2, True).values, (3, 2)),
}


def with_ties(*shape: int) -> Tensor:
    """Rounded numbers, so that windows have several equal maxima."""
    return (numbers(*shape) * 2).round()


@ways
@pytest.mark.parametrize("make", [numbers, with_ties])
@pytest.mark.parametrize("name", MAXIMA)
def test_winner_takes_all(name: str, make: Callable[..., Tensor], options: dict[str, Any]) -> None:
    function, shape = MAXIMA[name]
    x = make(2, *shape)
    upper = numbers(*function(x).shape, seed=1)
    assert_close(explain(function, x, upper, **options), twins.won(function, x, upper))


@ways
@pytest.mark.parametrize("name", MAXIMA)
def test_winner_by_value(name: str, options: dict[str, Any]) -> None:
    """Captum's form ``x R / S(x)``."""
    function, shape = MAXIMA[name]
    x = numbers(2, *shape)
    upper = numbers(*function(x).shape, seed=1)
    composite = Composite([(operation("max pooling"), rules.Winner(Stabilizer(EPS)))])
    mine = explain(function, x, upper, composite, **options)
    assert_close(mine, twins.won(function, x, upper, EPS))


@ways
@pytest.mark.parametrize("name", MAX_POOLS)
def test_max_pooling_as_average(name: str, options: dict[str, Any]) -> None:
    """Shares in proportion to the entries of the window, as in the blog post."""
    function, average, shape = MAX_POOLS[name]
    x = numbers(2, *shape)
    upper = numbers(*function(x).shape, seed=1)
    composite = Composite([(operation("max pooling"), rules.Proportional(Stabilizer(EPS)))])
    mine = explain(function, x, upper, composite, **options)
    assert_close(mine, twins.averaged(average, x, upper, EPS))


@ways
@pytest.mark.parametrize("name", MAX_POOLS)
def test_max_pooling_uniformly(name: str, options: dict[str, Any]) -> None:
    function, average, shape = MAX_POOLS[name]
    x = numbers(2, *shape)
    upper = numbers(*function(x).shape, seed=1)
    composite = Composite([(operation("max pooling"), rules.Uniform())])
    mine = explain(function, x, upper, composite, **options)
    assert_close(mine, twins.uniform(average, x, upper))


@pytest.mark.parametrize("rule", [rules.Proportional(), rules.Uniform()], ids=str)
def test_dilated_max_pooling_has_no_average(rule: rules.Rule) -> None:
    """An error when the composite is applied, not a wrong map."""
    composite = Composite([(operation("max pooling"), rule)])
    with pytest.raises(CompositeError, match="dilat"):
        explain(lambda x: F.max_pool2d(x, 2, dilation=2), numbers(1, 1, 4, 4), None, composite)


# Routing

ORDER = torch.tensor([2, 0, 0])
MASK = torch.tensor([True, False, True])
PLACES = torch.tensor([[[0, 1, 1], [2, 0, 2]]])


def channels_last_flat(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def overwritten_slice(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :1] = x[:, 1:2]
    return y


def unread_pieces(x: Tensor) -> Tensor:
    first, _, last = x.split([1, 2, 1], 1)
    return torch.cat([last, first, last], 1)


def last_of_three(x: Tensor) -> Tensor:
    return x.chunk(3, 1)[2]


def some_unbound(x: Tensor) -> Tensor:
    pieces = x.unbind(1)
    return torch.stack([pieces[2], pieces[0], pieces[2]], -1)


def pieces_from_the_end(x: Tensor) -> Tensor:
    pieces = x.chunk(3, 1)
    return torch.cat([pieces[-1], pieces[0], pieces[2], pieces[-1]], 1)


def overwritten_by_constant(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:] = 0.5
    return y


def overwritten_entry(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = x[:, 2]
    return y


ROUTES: dict[str, tuple[twins.Function, tuple[int, ...]]] = {
    "reshape": (lambda x: x.reshape(x.shape[0], -1), (2, 3, 2)),
    "view": (lambda x: x.view(x.size(0), 3, 4), (2, 3, 2)),
    "flatten": (lambda x: torch.flatten(x, 1), (2, 3, 2)),
    "unflatten": (lambda x: x.unflatten(1, (2, 3)), (6, 2)),
    "squeeze": (lambda x: x.squeeze(2), (2, 1, 3)),
    "unsqueeze": (lambda x: x.unsqueeze(-2), (2, 3)),
    "new axis": (lambda x: x[:, None], (2, 3)),
    "permute": (lambda x: x.permute(0, 3, 1, 2), (2, 3, 4)),
    "transpose": (lambda x: x.transpose(1, -1), (2, 3, 4)),
    "swapaxes": (lambda x: x.swapaxes(1, 2), (2, 3)),
    "mT": (lambda x: x.mT, (2, 3)),
    "movedim": (lambda x: x.movedim(1, -1), (2, 3, 4)),
    "movedims": (lambda x: torch.movedim(x, (1, 2), (3, 1)), (2, 3, 4)),
    "tokens": (channels_last_flat, (2, 3, 4)),
    "expand": (lambda x: x.expand(-1, 3, -1), (1, 4)),
    "expand, new dimension": (lambda x: x[:, None].expand(-1, 3, -1, -1), (2, 2)),
    "expand_as": (lambda x: x[:, :1].expand_as(x), (3, 2)),
    "repeat": (lambda x: x.repeat(1, 2, 3), (2, 2)),
    "tile": (lambda x: x.tile(1, 2, 1), (2, 2)),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, dim=1), (2, 3)),
    "repeat_interleave, last": (lambda x: x.repeat_interleave(2, -1), (2, 3)),
    "repeat_interleave, last but one": (lambda x: x.repeat_interleave(2, -2), (2, 3)),
    "select": (lambda x: x[:, -1], (2, 3)),
    "slice": (lambda x: x[:, 1:, ::2], (3, 5)),
    "slice from the end": (lambda x: x[..., -2:], (3, 5)),
    "slice to the end": (lambda x: x[:, :-1, 1:-1], (3, 5)),
    "narrow": (lambda x: x.narrow(1, 1, 2), (4, 2)),
    "narrow from the end": (lambda x: x.narrow(1, -2, 2), (4, 2)),
    "index": (lambda x: x[:, ORDER], (3, 2)),
    "index by mask": (lambda x: x[:, MASK], (3, 2)),
    "index by list": (lambda x: x[:, [2, 0, 0]], (3, 2)),
    "index_select": (lambda x: x.index_select(2, ORDER), (2, 3)),
    "gather": (lambda x: x.gather(2, PLACES.expand(x.shape[0], -1, -1)), (2, 3)),
    "flip": (lambda x: x.flip(1, -1), (2, 3)),
    "roll": (lambda x: torch.roll(x, (1, -2), (1, 2)), (3, 4)),
    "roll one": (lambda x: x.roll(2, -1), (3, 4)),
    "pad": (lambda x: F.pad(x, (1, 0, 2, 1)), (2, 3, 2)),
    "pad with a value": (lambda x: F.pad(x, (1, 2), value=3.0), (2, 3)),
    "pad less than nothing": (lambda x: F.pad(x, (-1, 1, 0, -2)), (3, 4)),
    "reflect1d": (lambda x: F.pad(x, (2, 1), mode="reflect"), (2, 4)),
    "reflect2d": (nn.ReflectionPad2d((1, 2, 0, 1)), (1, 3, 4)),
    "reflect3d": (lambda x: F.pad(x, (1, 0, 1, 1, 0, 1), mode="reflect"), (1, 2, 3, 2)),
    "replicate1d": (lambda x: F.pad(x, (2, 3), mode="replicate"), (2, 2)),
    "replicate2d": (nn.ReplicationPad2d((0, 2, 1, 1)), (1, 3, 2)),
    "replicate3d": (nn.ReplicationPad3d(1), (1, 2, 2, 1)),
    "circular1d": (lambda x: F.pad(x, (2, 1), mode="circular"), (2, 3)),
    "circular2d": (nn.CircularPad2d((1, 2, 0, 1)), (1, 3, 4)),
    "circular3d": (lambda x: F.pad(x, (1, 0, 1, 1, 2, 1), mode="circular"), (1, 2, 3, 2)),
    "zero pad": (nn.ZeroPad2d((0, 1, 2, 0)), (1, 2, 2)),
    "pixel_shuffle": (nn.PixelShuffle(2), (8, 2, 3)),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), (2, 4, 2)),
    "channel_shuffle": (nn.ChannelShuffle(2), (6, 1, 2)),
    "unfold to columns": (nn.Unfold((2, 3), padding=1, stride=2, dilation=1), (2, 4, 5)),
    "unfold": (lambda x: x.unfold(2, 3, 2), (2, 7)),
    "cat": (lambda x: torch.cat([x, x[:, :1]], 1), (3, 2)),
    "stack": (lambda x: torch.stack([x, x.flip(1)], 2), (3, 2)),
    "split": (lambda x: x.split(2, 1)[1], (5, 2)),
    "split in sizes, one unread": (unread_pieces, (4, 2)),
    "chunk, two unread": (last_of_three, (5, 2)),
    "unbind, one unread": (some_unbound, (3, 2)),
    "chunk, from the end": (pieces_from_the_end, (5, 2)),
    "split, a slice of the pieces": (lambda x: torch.cat(x.split(2, 1)[1:], 1), (5, 2)),
    "tensor_split": (lambda x: torch.tensor_split(x, 3, 1)[1], (5, 2)),
    "where": (lambda x: torch.where(MASK, x, x.flip(1)), (2, 3)),
    "where else a number": (lambda x: torch.where(MASK, x, -1.5), (2, 3)),
    "masked_fill": (lambda x: x.masked_fill(MASK, -2.0), (2, 3)),
    "overwritten slice": (overwritten_slice, (3, 2)),
    "overwritten entry": (overwritten_entry, (3, 2)),
    "overwritten by one number for all": (overwritten_by_constant, (3, 2)),
    "double": (lambda x: x.double(), (3,)),
}


@ways
@pytest.mark.parametrize("name", ROUTES)
def test_routing(name: str, options: dict[str, Any]) -> None:
    """Each input gets the relevance of the places to which its value went; padding keeps its own."""
    function, shape = ROUTES[name]
    x = numbers(2, *shape)
    upper = numbers(*function(x).shape, seed=1)
    assert_close(explain(function, x, upper, **options), twins.routed(function, x, upper))


def test_relevance_follows_a_change_of_dtype() -> None:
    """Layers of two precisions in one model: relevance is cast as the values were."""
    model = Apply(lambda x: model.second(model.first(x.float()).double()))
    both = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    model.first, model.second = copy.deepcopy(both[0]).float(), both[1]
    x, upper = numbers(2, 4), numbers(2, 2, seed=1)
    expected = explain(both, x, upper, "epsilon")
    assert_close(explain(model, x, upper, "epsilon"), expected, MIXED)


# Additions

A, B = numbers(2, 3, 4, seed=5), numbers(2, 3, 4, seed=6)
THIN = numbers(2, 1, 4, seed=7)
CONSTANT = numbers(3, 1, seed=8)


def proportional_shares(terms: list[Tensor], upper: Tensor, eps: float) -> list[Tensor]:
    """Of each summand, in its own shape: its part of the sum."""
    y = sum(term.expand(upper.shape) for term in terms)
    q = twins.quotient(upper, y, eps)
    return [unbroadcast(term.expand(upper.shape) * q, term.shape) for term in terms]


def unbroadcast(value: Tensor, shape: torch.Size) -> Tensor:
    """Summed over the dimensions in which ``shape`` is one."""
    for dim, size in enumerate(shape):
        if size == 1 and value.shape[dim] != 1:
            value = value.sum(dim, keepdim=True)
    return value


def added_in_place(a: Tensor, b: Tensor) -> Tensor:
    a = a * 1
    a += b
    return a


ADDITIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor, float, float]] = {
    # the function, the second operand, the factors with which both enter
    "add": (lambda a, b: a + b, B, 1, 1),
    "sub": (lambda a, b: a - b, B, 1, -1),
    "torch.add": (lambda a, b: torch.add(a, b, alpha=0.3), B, 1, 0.3),
    "torch.sub": (lambda a, b: torch.sub(a, b, alpha=3), B, 1, -3),
    "rsub": (lambda a, b: torch.rsub(a, b, alpha=0.5), B, -0.5, 1),
    "method": (lambda a, b: a.add(b), B, 1, 1),
    "in place": (added_in_place, B, 1, 1),
    "broadcast": (lambda a, b: a + b, THIN, 1, 1),
    "broadcast, other way": (lambda a, b: b - a, THIN, -1, 1),
}
ADDITION_RULES = {
    "proportional": rules.Proportional(Stabilizer(EPS)),
    "by magnitude": rules.ByMagnitude(Stabilizer(EPS)),
    "half": rules.Half(),
}


@pytest.mark.parametrize("rule", ADDITION_RULES)
@pytest.mark.parametrize("name", ADDITIONS)
def test_additions(name: str, rule: str) -> None:
    """Factors count as part of the summand; a broadcast summand gets the sum of its shares."""
    function, b, factor_a, factor_b = ADDITIONS[name]
    upper = numbers(*A.shape, seed=1)
    terms = [factor_a * A, factor_b * b]
    if rule == "proportional":
        expected = proportional_shares(terms, upper, EPS)
    elif rule == "by magnitude":
        expected = proportional_shares([term.abs() for term in terms], upper, EPS)
    else:
        expected = [unbroadcast(upper / 2, term.shape) for term in terms]
    composite = Composite([(operation("addition"), ADDITION_RULES[rule])])
    mine = explain(function, (A, b), upper, composite)
    for operand, share, relevance in zip("ab", expected, mine, strict=True):
        assert_close(relevance, share, case=operand)


WITH_CONSTANTS: dict[str, tuple[twins.Function, Any, Any]] = {
    # the function of a ReLU's output, the factor of that output, the constant summand
    "number": (lambda h: h + 0.7, 1, 0.7),
    "number first": (lambda h: 0.7 - h, -1, 0.7),
    "number and alpha": (lambda h: torch.sub(h, 2, alpha=0.25), 1, -0.5),
    "tensor": (lambda h: h - CONSTANT, 1, -CONSTANT),
    "tensor first": (lambda h: CONSTANT - h, -1, CONSTANT),
    "tensor and alpha": (lambda h: torch.add(CONSTANT, h, alpha=2), 2, CONSTANT),
    "in place": (lambda h: h.add_(0.7), 1, 0.7),
}


@pytest.mark.parametrize("rule", ADDITION_RULES)
@pytest.mark.parametrize("name", WITH_CONSTANTS)
def test_a_constant_summand_absorbs_its_share(name: str, rule: str) -> None:
    """As a bias does."""
    function, factor, constant = WITH_CONSTANTS[name]
    h, upper = A.relu(), numbers(*A.shape, seed=1)
    terms = [factor * h, torch.as_tensor(constant, dtype=h.dtype).expand(h.shape)]
    if rule == "proportional":
        expected = proportional_shares(terms, upper, EPS)[0]
    elif rule == "by magnitude":
        expected = proportional_shares([term.abs() for term in terms], upper, EPS)[0]
    else:
        expected = upper / 2
    composite = Composite([(operation("addition"), ADDITION_RULES[rule])])
    assert_close(explain(lambda x: function(x.relu()), A, upper, composite), expected)


@pytest.mark.parametrize("rule", ADDITION_RULES)
def test_a_summand_that_comes_twice_gets_both_shares(rule: str) -> None:
    """x + x passes the relevance on, whatever the rule (ε aside)."""
    upper = numbers(*A.shape, seed=1)
    composite = Composite([(operation("addition"), ADDITION_RULES[rule])])
    y = {"proportional": 2 * A, "by magnitude": 2 * A.abs(), "half": None}[rule]
    expected = upper if y is None else y * twins.quotient(upper, y, EPS)
    assert_close(explain(lambda x: x + x, A, upper, composite), expected)


PREPROCESSING: dict[str, tuple[twins.Function, tuple[int, ...]]] = {
    "subtract a tensor": (lambda x: x - CONSTANT, (2, 3, 4)),
    "subtract a number": (lambda x: x - 0.5, (2, 3, 4)),
    "add first": (lambda x: 0.5 + x, (2, 3, 4)),
    "normalize": (lambda x: (x - CONSTANT) / CONSTANT.abs(), (2, 3, 4)),
    "scale, then shift": (lambda x: x * 2 - 1, (2, 3, 4)),
    "after rearranging": (lambda x: x.flip(2) - CONSTANT, (2, 3, 4)),
    "batch norm": (seeded(lambda: nn.BatchNorm1d(3)), (2, 3, 4)),
    "one channel to three": (lambda x: x - CONSTANT, (2, 1, 4)),
    "batch of one to several": (lambda x: (x[:, None] - CONSTANT).flatten(1), (2, 4)),
}


@ways
@pytest.mark.parametrize("name", PREPROCESSING)
def test_normalization_of_the_input_passes_relevance(name: str, options: dict[str, Any]) -> None:
    """A constant added to the model's input is preprocessing: x / (x − mean) has a pole."""
    function, shape = PREPROCESSING[name]
    x = numbers(*shape)
    upper = numbers(*function(x).shape, seed=1)

    def moves(x: Tensor) -> Tensor:
        """The same moves and broadcasts, without factors and summands."""
        if name == "after rearranging":
            return x.flip(2)
        if name == "batch of one to several":
            return x[:, None].expand(-1, 3, -1).flatten(1)
        return x.expand(-1, 3, -1)

    assert_close(explain(function, x, upper, **options), twins.routed(moves, x, upper))


# Products

ZEROS = torch.tensor([[2.0], [0.0], [-1.0]], dtype=torch.float64)

SCALINGS: dict[str, tuple[twins.Function, Any]] = {
    "number": (lambda h: h * 3, 3),
    "number first": (lambda h: 0.5 * h, 0.5),
    "nothing": (lambda h: h * 0, 0),
    "tensor with a zero": (lambda h: h * ZEROS, ZEROS),
    "tensor first": (lambda h: ZEROS * h, ZEROS),
    "by a number": (lambda h: h / 4, 1),
    "by a tensor": (lambda h: h / CONSTANT, CONSTANT),
    "in place": (lambda h: h.mul_(3), 3),
    "negation": (lambda h: -h, -1),
}


@ways
@pytest.mark.parametrize("name", SCALINGS)
def test_products_with_constants(name: str, options: dict[str, Any]) -> None:
    """Pass, and zero where the constant is zero."""
    function, constant = SCALINGS[name]
    upper = numbers(*A.shape, seed=1)
    alive = (torch.as_tensor(constant) != 0).expand(A.shape)
    mine = explain(lambda x: function(x.relu()), A, upper, **options)
    assert_close(mine, torch.where(alive, upper, 0))


def test_a_product_that_broadcasts_its_input() -> None:
    """One channel times three constants: the input gets what the three products get."""
    upper = numbers(2, 3, 4, seed=1)
    mine = explain(lambda x: x * ZEROS, THIN, upper)
    assert_close(mine, upper[:, :1] + upper[:, 2:])


def through_reshapes(a: Tensor, b: Tensor) -> Tensor:
    weights = b.flatten(1).softmax(-1).reshape(b.shape).transpose(1, 2)
    return a * weights.transpose(1, 2)


def selected(a: Tensor, b: Tensor) -> Tensor:
    """Two branches weighted by the two halves of one softmax (selective kernels)."""
    weights = torch.stack([b, -b], 1).softmax(1).chunk(2, 1)
    return a * weights[0].squeeze(1)


def unbound(a: Tensor, b: Tensor) -> Tensor:
    weights = torch.stack([b, -b], 1).softmax(1).unbind(1)
    return a * weights[1]


PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float, float | None]] = {
    # the function of a and b, the share of a, the share of b; None for some, not element by element
    "two signals": (lambda a, b: a * b, 0.5, 0.5),
    "tanh is a signal": (lambda a, b: a * b.tanh(), 0.5, 0.5),
    "sigmoid": (lambda a, b: a * b.sigmoid(), 1, 0),
    "sigmoid first": (lambda a, b: a.sigmoid() * b, 0, 1),
    "hardsigmoid": (lambda a, b: a * F.hardsigmoid(b), 1, 0),
    "softmax": (lambda a, b: a * b.softmax(1), 1, 0),
    "softmax through reshapes": (through_reshapes, 1, 0),
    "softmax in two pieces": (selected, 1, 0),
    "softmax unbound": (unbound, 1, 0),
    "tanh beside a sigmoid": (lambda a, b: a.tanh() * b.sigmoid(), 1, 0),
    "sigmoid beside a tanh": (lambda a, b: a.sigmoid() * b.tanh(), 0, 1),
    "two gates": (lambda a, b: a.sigmoid() * b.sigmoid(), 0.5, 0.5),
    "a sigmoid that is a signal's root": (lambda a, b: a * (b.sigmoid() + 1), 0.5, None),
    "mean": (lambda a, b: a * a.mean((1, 2), keepdim=True), 1, 0),
    "norm": (lambda a, b: a / a.square().sum(1, keepdim=True).sqrt(), 1, 0),
    "root mean square": (lambda a, b: a * torch.rsqrt(a.pow(2).mean(-1, True) + 1e-3), 1, 0),
    "standard deviation": (lambda a, b: a / (a.std(1, keepdim=True) + 1e-3), 1, 0),
    "variance": (lambda a, b: a / a.var(dim=-1, keepdim=True), 1, 0),
    "vector norm": (lambda a, b: a / torch.linalg.vector_norm(a, dim=1, keepdim=True), 1, 0),
    "largest": (lambda a, b: a * a.abs().amax(1, keepdim=True), 1, 0),
    "largest, with its place": (lambda a, b: a / a.abs().max(1, keepdim=True)[0], 1, 0),
    "largest of all": (lambda a, b: a * b.amax(), 0.5, None),
    "variance with the mean": (lambda a, b: a / torch.var_mean(a, 1, keepdim=True)[0], 1, 0),
    "expanded like a value": (lambda a, b: a / a.norm(dim=1, keepdim=True).expand_as(b), 1, 0),
    "mean of the other": (lambda a, b: a * b.mean((1, 2), keepdim=True), 0.5, None),
    "norm of the other": (lambda a, b: a / b.square().sum(1, keepdim=True).sqrt(), 0.5, None),
    "mean beside a gate": (lambda a, b: a.mean(1, True) * b.sigmoid(), None, 0),
    "quotient of signals": (lambda a, b: a / (b * b + 1), 0.5, None),
}


@captures
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, capture: str) -> None:
    """A statistic of the other factor gets nothing, a gate gets nothing, else half each."""
    function, *shares = PRODUCTS[name]
    upper = numbers(*A.shape, seed=1)
    mine = explain(function, (A, B), upper, capture=capture)
    for operand, relevance, share in zip("ab", mine, shares, strict=True):
        if share is None:
            assert float(relevance.abs().sum()) > 0, operand
        else:
            assert_close(relevance, share * upper, case=operand)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda a, gate: a * gate.sigmoid(), lambda upper: (upper, torch.zeros_like(THIN))),
        (lambda a, b: a.sigmoid() * b, lambda upper: (0 * A, upper.sum(1, keepdim=True))),
        (lambda a, b: a * b, lambda upper: (upper / 2, upper.sum(1, keepdim=True) / 2)),
    ],
    ids=["gate", "signal", "both"],
)
def test_products_that_broadcast(function: Any, expected: Any) -> None:
    """A gate of one channel for all (squeeze and excitation), and a signal of one channel."""
    upper = numbers(*A.shape, seed=1)
    mine = explain(function, (A, THIN), upper)
    for operand, relevance, share in zip("ab", mine, expected(upper), strict=True):
        assert relevance.shape == share.shape
        assert torch.equal(relevance, share), operand


def test_half_where_there_is_a_gate() -> None:
    """A composite may give a gate its half."""
    upper = numbers(*A.shape, seed=1)
    composite = Composite([(operation("product"), rules.Half())])
    a, b = explain(lambda a, b: a * b.sigmoid(), (A, B), upper, composite)
    assert torch.equal(a, upper / 2)
    assert torch.equal(b, upper / 2)


def test_a_value_over_its_norm_gets_everything() -> None:
    """``F.normalize`` expands the norm like the value itself, which makes it no less a statistic."""
    upper = numbers(*A.shape, seed=1)
    assert torch.equal(explain(lambda x: F.normalize(x, dim=2), A, upper), upper)


def test_a_square_gets_both_halves() -> None:
    upper = numbers(*A.shape, seed=1)
    assert torch.equal(explain(lambda x: x * x, A, upper), upper)


# Normalization, softmax, bounds


@ways
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_leftover_batch_norm(dims: int, options: dict[str, Any]) -> None:
    """After a ReLU it cannot be folded: ε on its affine map, the shift absorbs."""
    norm = seeded(lambda: (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](3))
    with torch.no_grad():
        norm.running_mean.copy_(numbers(3, seed=2))
        norm.running_var.copy_(numbers(3, seed=3).square() + 0.1)
        norm.weight.copy_(numbers(3, seed=4))
        norm.bias.copy_(numbers(3, seed=5))
    x = numbers(2, 3, *[2] * dims)
    upper = numbers(*x.shape, seed=1)
    composite = Composite([(operation("normalization"), rules.Epsilon(EPS))])
    mine = explain(nn.Sequential(nn.ReLU(), norm), x, upper, composite, **options)
    assert_close(mine, twins.averaged(norm, x.relu(), upper, EPS))


@pytest.mark.parametrize(
    "last",
    [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), nn.Sequential(nn.Sigmoid(), nn.Softmax(1))],
    ids=str,
)
@captures
def test_final_softmax_is_explained_at_its_input(last: nn.Module, capture: str) -> None:
    model = seeded(lambda: nn.Linear(4, 3))
    x, upper = numbers(2, 4), numbers(2, 3, seed=1)
    expected = explain(model, x, upper, "epsilon")
    mine = explain(nn.Sequential(model, last), x, upper, "epsilon", capture=capture)
    assert torch.equal(mine, expected)


MEAN = torch.tensor([0.4, 0.1], dtype=torch.float64)[:, None, None]
SCALE = torch.tensor([-2.0, 0.5], dtype=torch.float64)[:, None, None]


def normalized_with_negative_scale(x: Tensor) -> Tensor:
    return (x - MEAN) / SCALE


def padded_with_a_value(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 0, 1), value=0.3)


def padded_then_normalized(x: Tensor) -> Tensor:
    return (F.pad(x, (1, 0, 1, 1)) - MEAN) * SCALE


def reflected(x: Tensor) -> Tensor:
    return F.pad(1 - x, (1, 1, 1, 1), mode="reflect")


def channel_by_channel(x: Tensor) -> Tensor:
    first = (x[:, 0:1] - 0.4) / -2.0
    second = x[:, 1:2] * 2 + 0.1
    return torch.cat([first, second], 1)


def channels_swapped(x: Tensor) -> Tensor:
    pieces = x.split(1, 1)
    return torch.cat([pieces[1], -pieces[0]], 1)


BEFORE: dict[str, twins.Function] = {
    "nothing": lambda x: x * 1,
    "normalized, negative scale": normalized_with_negative_scale,
    "negated": lambda x: -x,
    "subtracted from": lambda x: 1 - x,
    "padded": lambda x: F.pad(x, (1, 1, 2, 0)),
    "padded with a value": padded_with_a_value,
    "padded, then normalized": padded_then_normalized,
    "reflected": reflected,
    "channel by channel": channel_by_channel,
    "channels swapped": channels_swapped,
    "rearranged": lambda x: x.transpose(2, 3).flip(3),
}


@captures
@pytest.mark.parametrize("name", BEFORE)
def test_bounds_are_carried_to_the_first_layer(name: str, capture: str) -> None:
    """ZBox's bounds are those of the model's input, wherever the first layer stands.

    The twin: bounds that went through the same steps, each entry ordered (a negative factor swaps
    them), then the rule on the layer, then the relevance moved back by the steps' moves.
    """
    before = BEFORE[name]
    layer = seeded(lambda: nn.Conv2d(2, 3, 2, padding=1))
    x = numbers(2, 2, 4, 3).sigmoid()
    low, high = -0.25, torch.tensor([1.0, 1.5], dtype=torch.float64)[:, None, None]
    h = before(x)
    ends = [before(torch.zeros_like(x[:1]) + bound) for bound in (low, high)]
    box = twins.z_box(torch.minimum(*ends).flatten(), torch.maximum(*ends).flatten())
    shape = h.shape[1:]
    weight, bias = twins.matrix(twins.without_bias(layer), shape)[0], twins.matrix(layer, shape)[1]
    upper = numbers(*layer(h).shape, seed=1)
    at_layer = twins.linear_twin(box, weight, bias, h, upper, eps=EPS)
    moves, _ = twins.matrix(before, x.shape[1:])
    expected = (at_layer.flatten(1) @ (moves != 0).double()).reshape(x.shape)

    rule = rules.ZBox(low, high, stabilizer=Stabilizer(EPS))
    model = nn.Sequential(Apply(before), layer)
    assert_close(explain(model, x, upper, Uniform(rule), capture=capture), expected)


def test_bounds_end_at_an_activation() -> None:
    """Behind a ReLU the input's bounds say nothing that the rule could use: an error."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(3, 2)).double()
    with pytest.raises(CompositeError, match="ZBox is for first layers"):
        explain(model, numbers(1, 3), None, Uniform(rules.ZBox(0.0, 1.0)))


# Static sign analysis

MAYBE_NEGATIVE: dict[str, twins.Function] = {
    "where else a number": lambda x: torch.where(MASK, x.relu(), -1.0),
    "masked_fill": lambda x: x.relu().masked_fill(MASK, -1.0),
    "pad with a value": lambda x: F.pad(x.relu(), (0, 1), value=-2.0)[:, :, 1:],
    "add a negative number": lambda x: torch.cat(  # else it is part of the layer
        [x.relu()[:, :1] - 0.5, x.relu()[:, 1:] - 0.5], 1
    ),
    "add with a negative factor": lambda x: torch.add(x.relu(), x.sigmoid(), alpha=-1),
    "times a negative number": lambda x: x.relu() * -1,
    "divided by a negative number": lambda x: x.relu() / -2,
    "cat with a parameter": lambda x: torch.cat([x.relu()[:, :1], -x.relu()[:, 1:]], 1),
    "bicubic": lambda x: F.interpolate(
        F.pad(x.relu()[:, :1, :1], (2, 1, 1, 1))[:, None], (5, 3), mode="bicubic"
    )[:, 0],
    "hardtanh": lambda x: F.hardtanh(x),
    "clamp from above": lambda x: x.clamp(max=1.0),
    "gelu": lambda x: F.gelu(x),
    "leaky": lambda x: F.leaky_relu(x),
    "maximum of a window": lambda x: F.max_pool1d(x, 1),
    "odd power": lambda x: x.pow(3),
}


@pytest.mark.parametrize("name", MAYBE_NEGATIVE)
def test_negative_values_are_never_taken_for_nonnegative(name: str) -> None:
    """The branch in x⁻ must stay wherever a value can be negative: z⁺ differs where it is left out."""
    before = MAYBE_NEGATIVE[name]
    layer = seeded(lambda: nn.Linear(3, 4))
    x = numbers(2, 2, 3)
    h = before(x)
    assert float(h.min()) < 0
    upper = numbers(*layer(h).shape, seed=1)
    whole = explain(nn.Sequential(Apply(before), layer), x, upper, Uniform(rules.ZPlus()))
    at_layer = explain(layer, h, upper, Uniform(rules.ZPlus()))
    assert_close(whole, explain(before, x, at_layer))


# What a layer is not


def convolved_with_itself(x: Tensor) -> Tensor:
    return F.conv1d(x, x[:1, :, :2])


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: F.linear(x, x.mean(0)), "the weight of 'linear'"),
        (lambda x: F.linear(x, torch.ones(2, 4).double(), x[0, 0, :2]), "the bias of 'linear'"),
        (convolved_with_itself, "the weight of 'conv1d'"),
    ],
)
def test_weights_computed_from_the_input_are_refused(function: twins.Function, named: str) -> None:
    """They would get no relevance, without a word."""
    with pytest.raises(UnsupportedOperationError, match=named):
        explain(function, numbers(2, 3, 4), None)


@pytest.mark.parametrize("function", [torch.maximum, torch.max, torch.minimum])
def test_of_two_tensors_the_chosen_entries_get_all(function: Callable[..., Tensor]) -> None:
    """It must not be taken for the maximum of a dimension."""
    a, b, upper = numbers(2, 3), numbers(2, 3, seed=1), numbers(2, 3, seed=2)
    mine = explain(lambda a, b: function(a, b), (a, b), upper)
    is_first = function(a, b) == a
    assert_close(mine[0], upper * is_first)
    assert_close(mine[1], upper * ~is_first)


def test_a_rule_that_the_composite_chose_leads_on() -> None:
    """With Half on a gate, relevance reaches what lies behind the gate, and unknown operations there."""
    composite = Composite([(operation("product"), rules.Half())])
    with pytest.raises(UnsupportedOperationError, match="cumprod"):
        explain(lambda x: x * x.cumprod(1).sigmoid(), numbers(2, 3), None, composite)
    explain(lambda x: x * x.cumprod(1).sigmoid(), numbers(2, 3), numbers(2, 3))


LOW_PRECISION = 0.05
"""Of max |R| against float64: bfloat16 keeps 8 bits, and inputs and weights are rounded to it."""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", ["z plus", "alpha 2 beta 1", "generalized gamma", "w square"])
def test_half_precision(rule: str, dtype: torch.dtype, engine: str) -> None:
    """Rules run in the model's own dtype, and do not overflow or lose their ε there."""
    layer, *_, x = linear_case("conv2d")
    upper = numbers(*layer(x).shape, seed=2)
    composite = Uniform(RULES[rule][0])
    low = copy.deepcopy(layer).to(dtype)
    mine = explain(low, x.to(dtype), upper.to(dtype), composite, propagation=engine)
    assert mine.dtype == dtype
    assert_close(mine.double(), explain(layer, x, upper, composite), LOW_PRECISION)
