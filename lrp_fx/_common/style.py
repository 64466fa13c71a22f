"""The style of all figures, and the letters that their font has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock

from lrp_fx._common.packages import needed

MISSING = "▯"
"""Stands for a letter that the font of figures lacks."""
KEPT = ("font.family", "font.sans-serif", "font.serif", "font.monospace")
"""The settings of the user that hold in figures too: the font."""
KEPT_IN_FILES = ("pdf.fonttype", "ps.fonttype", "svg.fonttype", "svg.hashsalt")
"""How files hold text: some journals take one way only."""
_SETTINGS = RLock()
"""Matplotlib has one set of settings for all threads, so only one thread changes it at a time."""


@contextmanager
def own_style() -> Iterator[None]:
    """Draw or save with the defaults of matplotlib instead of ``rcParams``, but in their font.

    A map must look the same in every notebook: styles would turn it upside down
    (``image.origin``), darken its ground, or cut its margins. As a decorator, it holds for a whole
    function.

    Raises:
        OptionError: if matplotlib is missing.
    """
    with needed("pictures need"):
        import matplotlib
        import matplotlib.style
    with _SETTINGS:
        kept = {
            name: matplotlib.rcParams[name]
            for name in matplotlib.rcParams
            if name in KEPT or name in KEPT_IN_FILES
        }
        with matplotlib.style.context("default"):
            matplotlib.rcParams.update(kept)
            yield


def drawable(text: str) -> str:
    """The text with ``▯`` for each letter that the font of figures lacks."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    with needed("pictures need"):
        from matplotlib.font_manager import FontProperties, findfont
    known: set[int] = {ord("\n")}
    for family in FontProperties().get_family():
        known |= _letters_in(str(findfont(FontProperties(family=[family]))))
    return "".join(
        each if ord(each) in known and (each.isprintable() or each == "\n") else MISSING
        for each in text
    )


@cache
def _letters_in(font: str) -> frozenset[int]:
    """The letters of a font file."""
    from matplotlib.font_manager import get_font

    return frozenset(get_font(font).get_charmap())
