"""The layout of figures of images: rows of panels, the texts above and below them, the notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from lrp_fx._common import entries
from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Floats
from lrp_fx.visualize.canvas import Class, Words, class_name, sheet, zoom_for
from lrp_fx.visualize.look import Look
from lrp_fx.visualize.marks import as_marks
from lrp_fx.visualize.panels import Panel, Style
from lrp_fx.visualize.photographs import Picture
from lrp_fx.visualize.scales import Limits, sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
PER_ROW = 4
"""How many panels of a batch stand in a row."""


def in_rows(each: Sequence[T]) -> list[Sequence[T]]:
    """The values of the samples of a batch, row by row."""
    return [each[start : start + PER_ROW] for start in range(0, len(each), PER_ROW)]


def figure_of_panels(
    rows: Sequence[Sequence[Panel]],
    words: Words,
    heads: Sequence[Sequence[str]],
    feet: Sequence[Sequence[str]],
    sides: Sequence[str],
    look: Look,
    limits: Limits,
    maps: Sequence[Floats],
    drawn: Sequence[Floats],
    pictures: Sequence[Picture],
    extra: Sequence[str] = (),
    style: Style | None = None,
) -> Figure:
    """The figure of rows of panels, all in the size of the largest one.

    Marks are in pixels of the photographs, or of the first map if there are none.
    """
    panels = [panel for row in rows for panel in row]
    high = max(panel.pixels.shape[0] for panel in panels)
    wide = max(panel.pixels.shape[1] for panel in panels)
    down, across = zoom_for(high, wide, look.size)
    notes = list(look.notes(maps, limits, colored=style != "contours"))
    notes[0] += "".join(f" {sentence(each)}." for each in extra if each)
    stated = _stated(limits, [heat for each in drawn for heat in each])
    ends = limits.ends(stated[0] if len(set(stated)) == 1 else None)
    made = sheet(
        len(rows),
        max(map(len, rows)),
        wide * across,
        high * down,
        Words(words.target, words.title, tuple(notes), ends),
        heads=heads,
        feet=feet,
        sides=sides,
        colors=None if style == "contours" else look.colors,
    )
    rows_of, columns_of = pictures[0].pixels.shape[:2] if pictures else maps[0].shape[1:]
    for row, axes_row in zip(rows, made.panels, strict=True):
        for axes in axes_row[len(row) :]:
            axes.set_visible(False)
        for panel, axes in zip(row, axes_row, strict=False):
            # A map of a lower resolution than the photograph gets larger rectangles.
            each = down * high // panel.pixels.shape[0], across * wide // panel.pixels.shape[1]
            panel.draw(axes, *each, look, on_photograph=style == "contours")
            for mark in as_marks(look.marks):
                mark.draw(axes, high * down / rows_of, wide * across / columns_of)
    return made.figure


def _stated(limits: Limits, maps: Sequence[Floats]) -> list[float]:
    """The scales of the maps that are not zero everywhere, or of all if all are."""
    found = [limit for limit, heat in zip(limits.each, maps, strict=True) if heat.any()]
    return found or list(limits.each)


def feet_of(limits: Limits, maps: Sequence[Floats]) -> list[str]:
    """The text below each map: its scale, unless it is the same for all."""
    stated = _stated(limits, maps)
    same, none = len(set(stated)) == 1, not any(heat.any() for heat in maps)
    return [
        ("" if same else f"full colour at ±{limit:.3g}") if none or heat.any() else "all zero"
        for limit, heat in zip(limits.each, maps, strict=True)
    ]


def named_samples(
    target: Class | Sequence[Class], titles: Sequence[str] | None, title: str, count: int
) -> tuple[Words, list[str]]:
    """The words of a figure, and the title of each sample."""
    # A text and a 0-d array have entries or a length of their own, but are one class.
    several = None if isinstance(target, str) else entries(target)
    classes = [class_name(each) for each in ([target] * count if several is None else several)]
    if len(classes) != count:
        raise InputError(f"{count} samples need one target or as many, got {len(classes)}")
    names = [""] * count
    if titles is not None:
        names = [titles] if isinstance(titles, str) else [str(each) for each in titles]
        if len(names) != count:
            raise InputError(f"{count} samples need as many titles, got {len(names)}")
    common = classes[0] if len(set(classes)) == 1 else ""
    if not common:
        names = [
            " · ".join(part for part in pair if part) for pair in zip(names, classes, strict=True)
        ]
    return Words(common, title), names
