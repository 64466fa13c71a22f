"""Colour maps: from relevance to colours, with zero exactly in the middle."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrp_fx._common import check_nonnegative, needed
from lrp_fx.errors import OptionError
from lrp_fx.visualize.arrays import Floats, Relevance, as_floats

Pixels: TypeAlias = NDArray[np.uint8]

DEFAULT = "blue-orange"
BLUE = ("#c1dbff", "#83b5fe", "#438cff", "#0060ed", "#003fb4")
ORANGE = ("#fbcfad", "#f59b5a", "#dc6b02", "#ad4d03", "#803200")
RED = ("#ffcac2", "#fe9182", "#f24f43", "#ce0212", "#94020d")
PURPLE = ("#e7cdfa", "#ce9af3", "#b464ea", "#952bd4", "#6e01a3")
GREEN = ("#bae6c2", "#6fcb85", "#00ac4f", "#05843c", "#035d28")
GREY = ("#d4d4d4", "#aaaaaa", "#808080", "#585858", "#333333")
COLOR_MAPS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "blue-orange": (BLUE, "#ffffff", ORANGE),
    "purple-green": (PURPLE, "#ffffff", GREEN),
    "blue-red": (BLUE, "#ffffff", RED),
    "grey-red": (GREY, "#ffffff", RED),
    "black-red-yellow": (("#0000ff", "#00ffff"), "#000000", ("#ff0000", "#ffff00")),
}
"""Name → the colours of negative relevance from the middle outwards, of zero, and of positive.

In the first three, the lightness of both sides falls equally and evenly (in OKLCH), so that R and −R
stand out equally. The first two are also distinct to people who confuse red and green. In the last,
the look of the blog post of 2021, zero is black.
"""
STEPS = 257
"""The number of colours; it is odd, so that zero has a colour of its own, the middle one."""


def color_maps() -> tuple[str, ...]:
    """The names of the library's colour maps; those of matplotlib can be used as well."""
    return tuple(COLOR_MAPS)


def table_of(colors: str) -> Floats:
    """The colours of a map from −1 to 1, (257, 3) in [0, 1].

    Args:
        colors: one of :func:`color_maps`, or the name of a colour map of matplotlib.

    Raises:
        OptionError: for an unknown name.
    """
    if isinstance(colors, str) and colors in COLOR_MAPS:
        negative, zero, positive = COLOR_MAPS[colors]
        anchors = np.array([_rgb(code) for code in (*negative[::-1], zero, *positive)])
        middle = len(negative)
        places = np.concatenate(
            [np.linspace(-1, 0, middle + 1), np.linspace(0, 1, len(positive) + 1)[1:]]
        )
        wanted = np.linspace(-1, 1, STEPS)
        return np.stack([np.interp(wanted, places, channel) for channel in anchors.T], axis=1)
    return _of_matplotlib(colors)


def _of_matplotlib(colors: str) -> Floats:
    with needed("this colour map needs"):
        from matplotlib import colormaps
    if not isinstance(colors, str) or colors not in colormaps:
        raise OptionError(
            f"colors must be one of {', '.join(map(repr, COLOR_MAPS))} or the name of a colour map "
            f"of matplotlib, got {colors!r}"
        )
    table: Floats = np.asarray(colormaps[colors](np.linspace(0, 1, STEPS)), dtype=np.float64)
    return table[:, :3]


def _rgb(code: str) -> tuple[float, ...]:
    return tuple(int(code[place : place + 2], 16) / 255 for place in (1, 3, 5))


def colorize(heat: Relevance, limit: float, colors: str = DEFAULT) -> Pixels:
    """The colours of a map: ``-limit`` and below is one end, zero the middle, ``limit`` the other.

    Args:
        heat: an array or a tensor of any shape (…).
        limit: the |R| of full colour, positive.
        colors: as in :func:`table_of`.

    Returns:
        8-bit RGB of shape (…, 3). Zero gets exactly the middle colour, white where the map says so.

    Raises:
        InputError: for values that are not finite, or no numbers.
        OptionError: unless ``limit`` is a positive, finite number, or for an unknown colour map.
    """
    check_nonnegative("limit", limit)
    if not limit:
        raise OptionError("limit must be positive: the |R| that gets full colour")
    table = np.rint(table_of(colors) * 255).astype(np.uint8)
    return table[np.rint((shares(as_floats(heat), limit) + 1) / 2 * (STEPS - 1)).astype(np.intp)]


def shares(heat: Floats, limit: float) -> Floats:
    """``heat / limit``, cut to [−1, 1]; safe for huge and tiny values."""
    cut = np.clip(heat, -limit, limit)
    return np.clip(cut / limit, -1, 1)


def hex_of(color: NDArray[np.uint8]) -> str:
    """The colour as ``#rrggbb``."""
    return "#" + "".join(f"{int(value):02x}" for value in color)


def text_color(background: NDArray[np.uint8]) -> str:
    """Black or white, whichever can be read better on a background (WCAG 2.1, contrast ratio)."""
    channel = background.astype(np.float64) / 255
    linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"
