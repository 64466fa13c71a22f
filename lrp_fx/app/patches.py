"""Patches over a picture: what a model predicts, and why, when a region is covered."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageFilter

from lrp_fx._common import check_choice, check_count
from lrp_fx.errors import InputError

Kind = Literal["mean", "grey", "blur", "noise", "black", "white"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BLUR = 4
"""The radius of the blur is the side of the patch divided by this."""
Point = tuple[int, int]


def cover(
    picture: Image.Image,
    start: Point,
    end: Point | None = None,
    *,
    kind: Kind = "mean",
    size: int = 32,
    seed: int | None = None,
) -> Image.Image:
    """A copy of a picture with one region covered.

    Args:
        picture: RGB.
        start: x and y of the centre of a square patch; or of one corner of a rectangle, with
            ``end``.
        end: the opposite corner.
        kind: ``"mean"`` for the mean colour of the region, ``"grey"`` for the middle grey,
            ``"blur"`` for a blurred copy, ``"noise"`` for uniform random pixels, or ``"black"``,
            ``"white"``.
        size: the side of the square in pixels.
        seed: of the noise.

    Raises:
        InputError: if the point lies outside of the picture.
        OptionError: for another kind or size.
    """
    check_choice("kind", kind, KINDS)
    check_count("size", size)
    box = _box(picture, start, end, size)
    pixels = np.array(picture.convert("RGB"))
    left, top, right, bottom = box
    region = pixels[top:bottom, left:right]
    if kind == "mean":
        region[:] = np.rint(region.mean((0, 1)))
    elif kind == "blur":
        radius = max(1.0, min(right - left, bottom - top) / BLUR)
        blurred = picture.convert("RGB").filter(ImageFilter.GaussianBlur(radius))
        region[:] = np.asarray(blurred)[top:bottom, left:right]
    elif kind == "noise":
        region[:] = np.random.default_rng(seed).integers(0, 256, region.shape)
    else:
        region[:] = {"grey": 128, "black": 0, "white": 255}[kind]
    return Image.fromarray(pixels)


def _box(
    picture: Image.Image, start: Point, end: Point | None, size: int
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the region, inside the picture and with one pixel or more."""
    width, height = picture.size
    for x, y in (start,) if end is None else (start, end):
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f"({x}, {y}) lies outside of the picture of {width} × {height} pixels")
    if end is None:
        left, top = start[0] - size // 2, start[1] - size // 2
        right, bottom = left + size, top + size
    else:
        (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
        right, bottom = right + 1, bottom + 1
    return max(0, left), max(0, top), min(width, right), min(height, bottom)
