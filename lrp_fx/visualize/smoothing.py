"""Smoothing of maps, and the grid that strides leave in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lrp_fx.visualize.arrays import Floats, Relevance, as_maps

PERIODS = (2, 4, 8, 16)
"""The periods that are looked for: products of strides of 2, and the patches of transformers."""
REPEATS = 7
"""A grid of fewer repetitions in a direction cannot be told from the content of the image."""
EVIDENT = 50.0
"""The ratio of variances from which a grid is reported; without one it is near 1."""


@dataclass(frozen=True)
class StrideGrid:
    """A regular grid in a map.

    Args:
        period: the distance of its lines in pixels.
        ratio: the variance of mean |R| between the positions in the grid, divided by what chance
            would give (the F statistic of a one-way analysis of variance).
    """

    period: int
    ratio: float

    def __str__(self) -> str:
        return (
            f"the fine grid has a period of {self.period} pixels: layers with a stride read some "
            "pixels more often than others (smoothing averages over it)"
        )


def stride_grid(relevance: Relevance) -> StrideGrid | None:
    """The regular grid in the relevance of images, if there is one.

    A convolution with stride s and a kernel that s does not divide reads some pixels more often
    than others, and pooling with a stride passes relevance to some of them only. So relevance has a
    grid of period s. It belongs to the network, not to the image.

    Args:
        relevance: ``(C, H, W)`` or ``(N, C, H, W)``.

    Returns:
        The grid of the period with the largest ratio; None if none is evident.

    Raises:
        InputError: for another shape, or values that are not finite.
    """
    return grid_in(as_maps(relevance))


def grid_in(maps: Floats) -> StrideGrid | None:
    """As :func:`stride_grid`, for maps (N, H, W)."""
    largest = float(np.abs(maps).max())
    if not largest:
        return None
    sizes = np.abs(maps) / largest
    found = [
        StrideGrid(period, ratio)
        for period in PERIODS
        if min(maps.shape[1:]) >= REPEATS * period
        if (ratio := _ratio(sizes, period)) > EVIDENT
    ]
    return max(found, key=lambda grid: grid.ratio, default=None)


def _ratio(sizes: Floats, period: int) -> float:
    """The F statistic of sizes grouped by their position in a grid."""
    count, height, width = sizes.shape
    high, wide = height // period, width // period
    cut = sizes[:, : high * period, : wide * period]
    groups = cut.reshape(count, high, period, wide, period).transpose(2, 4, 0, 1, 3)
    flat = groups.reshape(period * period, -1)
    between = float(flat.mean(axis=1).var(ddof=1)) * flat.shape[1]
    within = float(flat.var(axis=1, ddof=1).mean())
    if within:
        return between / within
    return math.inf if between else 0.0


def smoothed(heat: Floats, sigma: float, axes: tuple[int, ...] = (-2, -1)) -> Floats:
    """The map, averaged with Gaussian weights. The sum of the map stays.

    Args:
        heat: (…, H, W).
        sigma: the standard deviation in pixels; 0 for none.
        axes: the dimensions to smooth.
    """
    if not sigma:
        return heat
    radius = max(1, math.ceil(3 * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    for axis in axes:
        size = heat.shape[axis]
        pads = [(0, 0)] * heat.ndim
        pads[axis] = (radius, radius)
        wide = np.pad(heat, pads, mode="symmetric")  # mirrored ends return what would leave
        heat = sum(
            (
                weight * np.take(wide, range(place, place + size), axis=axis)
                for place, weight in enumerate(weights)
            ),
            start=np.zeros_like(heat),
        )
    return heat
