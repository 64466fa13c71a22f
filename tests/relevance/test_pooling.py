"""Averages and maxima against slow twins in explicit matrix form (``helpers/twins.py``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import rules
from lrp_fx.composites import Composite, operation
from lrp_fx.errors import CompositeError
from lrp_fx.rules import Stabilizer
from tests.helpers import twins
from tests.helpers.closeness import assert_close
from tests.helpers.numbers import numbers
from tests.helpers.twins import EPS, explain, ways

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
