"""Maps and photographs in sizes that can be drawn: reduced by whole numbers, and fitting each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Floats
from lrp_fx.visualize.canvas import reduced
from lrp_fx.visualize.photographs import Photographs, Picture, Statistics, as_pictures

LARGEST = 1200
"""A map with a longer side is reduced by a whole number before it is drawn."""


def _factor(height: int, width: int) -> int:
    """By how much a map is reduced before it is drawn."""
    return -(-max(height, width) // LARGEST)


def smaller(maps: Floats) -> tuple[Floats, str]:
    """The maps (N, H, W) in a size that can be drawn, and what was done to them in words."""
    height, width = maps.shape[1:]
    factor = _factor(height, width)
    if factor == 1:
        return maps, ""
    small = np.stack([reduced(heat, factor) for heat in maps])
    note = f"each dot is the mean of {min(factor, height)} × {min(factor, width)} pixels"
    largest = float(np.abs(maps).max()) or 1.0
    before, after = (float(np.abs(each / largest).mean()) for each in (maps, small))
    if after < before / 2:
        note += f", in which {1 - after / before:.0%} of |relevance| cancels"
    return small, note


def smaller_picture(picture: Picture, maps: Sequence[Floats]) -> Picture:
    """A photograph in a size that can be drawn, which is a multiple of the size of its maps."""
    height, width = picture.pixels.shape[:2]
    covered = [height // each.shape[1] for each in maps]  # pixels under a value, down and across
    factors = [_factor(*each.shape[1:]) for each in maps]
    if max(factors) > 1:
        factor = max(each * pixels for each, pixels in zip(factors, covered, strict=True))
    else:
        common, least = math.gcd(*covered), _factor(height, width)
        factor = next((each for each in range(least, common) if common % each == 0), common)
        factor = factor if least > 1 else 1
    if factor == 1:
        return picture
    pixels = reduced(picture.pixels.astype(np.float64), factor)
    return Picture(np.rint(pixels).astype(np.uint8), picture.words)


def pictures_of(
    photographs: Photographs | None, maps: Floats, mean: Statistics, std: Statistics
) -> list[Picture]:
    """The photographs of the maps; none if there are none."""
    if photographs is None:
        return []
    found = as_pictures(photographs, len(maps), mean, std)
    for picture in found:
        check_fit(picture, maps, "the relevance")
    return found


def check_fit(picture: Picture, maps: Floats, name: str) -> None:
    """A map is never stretched over a photograph that the model did not see."""
    high, wide = picture.pixels.shape[:2]
    height, width = maps.shape[1:]
    if high % height or wide % width or high // height != wide // width:
        raise InputError(
            f"{name} has {height} × {width} positions, but the photograph has {high} × {wide} "
            "pixels: pass the photograph as the model saw it, resized and cropped, or the model's "
            "input itself with mean= and std=. Each value of a map covers a square of pixels; if a "
            "layer strides differently down and across, repeat its values by repeat_interleave"
        )
