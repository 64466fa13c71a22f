"""Figures laid out in dots: rows of panels, titles that fit, and the colour bar in words.

All sizes here are dots at the resolution of the figure. So each value of a map is a rectangle of equally
many dots.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias

import numpy as np

from lrp_fx._common import drawable, needed
from lrp_fx.visualize.arrays import Floats
from lrp_fx.visualize.colors import Pixels, table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Class: TypeAlias = str | SupportsIndex | None
"""An explained class by name or by index; None and an empty text for one without a name."""

DPI = 100
GAP, MARGIN = 20, 24
LINE = 19  # the height of a line of text
LETTER = 0.57  # the width of a letter in parts of its height, on the safe side
TITLE, NORMAL, SMALL = 12, 10, 8.5  # points
BAR = 12  # the height of the colour bar
LONGEST_BAR = 470
HEAD, FOOT = 2, 4  # the most lines of text above and below a panel
NARROWEST = 330  # a figure that can hold the words beside the colour bar
INK, FAINT, FRAME = "#222222", "#666666", "#bbbbbb"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in dots."""
    with needed("pictures need"):
        from lrp_fx._common.figure import ShownFigure
    return ShownFigure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def write(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    size: float = NORMAL,
    color: str = INK,
    ha: str = "left",
    va: str = "top",
    weight: str = "normal",
) -> None:
    """Write a text at a place in dots, from the left and the top; dollars are not formulas."""
    wide, high = figure.get_size_inches() * DPI
    figure.text(
        x / wide,
        1 - y / high,
        drawable(text),
        size=size,
        color=color,
        ha=ha,
        va=va,
        weight=weight,
        parse_math=False,
    )


def letters(dots: float, size: float = NORMAL) -> int:
    """How many letters of a size fit into a line."""
    return max(4, int(dots / (LETTER * size * DPI / 72)))


def fitted(text: str, dots: float, size: float = NORMAL, lines: int = 2) -> list[str]:
    """The text in lines that fit the width; what is left after the last line becomes ``…``."""
    return (
        textwrap.wrap(
            text, letters(dots, size), max_lines=lines, placeholder=" …", break_long_words=True
        )
        or []
    )


def class_name(target: object) -> str:
    """The class in words: its name, or "class 3" for an index."""
    if target is None or isinstance(target, str):
        return target or ""
    try:
        return f"class {index(target)}" if isinstance(target, SupportsIndex) else str(target)
    except TypeError:  # an array of several entries
        return str(target)


@dataclass(frozen=True)
class Words:
    """The texts of a figure.

    Args:
        target: the explained class, in words as :func:`class_name` says; if it is empty, the words
            are "the explained class".
        title: the line above everything; None for none.
        notes: lines under everything: scale, smoothing, grid.
        ends: the texts at the ends of the colour bar, negative and positive.
    """

    target: Class = ""
    title: object = ""
    notes: tuple[str, ...] = ()
    ends: tuple[str, str] = ("", "")

    @property
    def against(self) -> str:
        """The meaning of negative relevance."""
        return f"speaks against {class_name(self.target) or 'the explained class'}"

    @property
    def in_favour(self) -> str:
        """The meaning of positive relevance."""
        return f"speaks for {class_name(self.target) or 'the explained class'}"


@dataclass(frozen=True)
class Sheet:
    """A figure with rows of panels, and where its parts are.

    Args:
        figure: the figure.
        panels: the axes, row by row.
    """

    figure: Figure
    panels: tuple[tuple[Axes, ...], ...]


def sheet(
    rows: int,
    columns: int,
    width: int,
    height: int,
    words: Words,
    *,
    heads: Sequence[Sequence[str]] = (),
    feet: Sequence[Sequence[str]] = (),
    sides: Sequence[str] = (),
    colors: str | None,
    left: int = 0,
    under: int = 0,
) -> Sheet:
    """A figure with panels of one size.

    Args:
        rows: the number of rows.
        columns: the number of panels in a row.
        width: of a panel.
        height: of a panel.
        words: see :class:`Words`.
        heads: the titles of the panels, row by row; an empty string for none.
        feet: the texts below them.
        sides: the texts left of each row.
        colors: the colour map of the colour bar; None for no colour bar.
        left: room left of each panel, for the names at an axis.
        under: room under each panel, for an axis.
    """
    side = 0 if not any(sides) else min(200, max(90, width // 2))
    body = side + columns * (left + width + GAP) - GAP
    across = max(NARROWEST, body) + 2 * MARGIN
    inner = across - 2 * MARGIN
    title = fitted("" if words.title is None else str(words.title), inner, TITLE)
    notes = [line for note in words.notes for line in fitted(note, inner, SMALL, 8)]
    above = [_lines(heads, row, width, NORMAL, HEAD) for row in range(rows)]
    below = [_lines(feet, row, width, SMALL, FOOT) for row in range(rows)]
    ends = _ends(words, inner) if colors else ([], [])
    legend = (LINE * max(map(len, ends)) + BAR + 6 + LINE + 10) if colors else 0
    top = MARGIN + (len(title) * (LINE + 4) + 6 if title else 0)
    high = (
        top
        + sum(LINE * (a + b) + height + under + GAP for a, b in zip(above, below, strict=True))
        + legend
        + LINE * len(notes)
        + MARGIN
        - 6
    )
    figure = new_figure(across, high)
    for place, line in enumerate(title):
        write(figure, across / 2, MARGIN + place * (LINE + 4), line, size=TITLE, ha="center")
    begin = (across - body) // 2 + side
    y, panels = top, []
    for row in range(rows):
        y += LINE * above[row]
        if side and row < len(sides):
            lines = fitted(sides[row], side - 14, NORMAL, 4)
            write(figure, begin - 14, y + height / 2, "\n".join(lines), ha="right", va="center")
        axes = []
        for column in range(columns):
            x = begin + left + column * (left + width + GAP)
            box = (x / across, 1 - (y + height) / high, width / across, height / high)
            axes.append(_panel(figure, box))
            if row < len(heads) and column < len(heads[row]):
                axes[-1].set_label(heads[row][column])  # so that code can find the panel
            middle = x + width / 2
            for line in _cell(heads, row, column, width, NORMAL, HEAD):
                write(figure, middle, y - 5, line, ha="center", va="bottom")
            for line in _cell(feet, row, column, width, SMALL, FOOT):
                where = y + height + under + 5
                write(figure, middle, where, line, size=SMALL, ha="center", color=FAINT)
        panels.append(tuple(axes))
        y += height + under + LINE * below[row] + GAP
    if colors:
        _color_bar(figure, y - 4, across, high, ends, words, colors)
        y += legend
    for place, line in enumerate(notes):
        write(figure, MARGIN, y + place * LINE, line, size=SMALL, color=FAINT)
    return Sheet(figure, tuple(panels))


def _cell(
    texts: Sequence[Sequence[str]], row: int, column: int, width: int, size: float, most: int
) -> list[str]:
    """The text at a panel in lines that fit, as one string; none where there is no text."""
    if row >= len(texts) or column >= len(texts[row]):
        return []
    lines = fitted(texts[row][column], width + GAP // 2, size, most)
    return ["\n".join(lines)] if lines else []


def _lines(texts: Sequence[Sequence[str]], row: int, width: int, size: float, most: int) -> int:
    """How many lines the texts of a row need."""
    columns = range(len(texts[row]) if row < len(texts) else 0)
    cells = (_cell(texts, row, column, width, size, most) for column in columns)
    return max((cell[0].count("\n") + 1 for cell in cells if cell), default=0)


def _panel(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    axes = figure.add_axes(box)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _ends(words: Words, inner: float) -> tuple[list[str], list[str]]:
    """The words over the left and the right half of the colour bar."""
    half = min(inner, LONGEST_BAR) / 2 - 12
    return (
        fitted(f"◀ {words.against}", half, SMALL, 3),
        fitted(f"{words.in_favour} ▶", half, SMALL, 3),
    )


def _color_bar(
    figure: Figure,
    y: float,
    across: float,
    high: float,
    ends: tuple[list[str], list[str]],
    words: Words,
    colors: str,
) -> None:
    """The colour bar in the middle, words over it, numbers under it."""
    width = min(across - 2 * MARGIN, LONGEST_BAR)
    left = (across - width) / 2
    rows = max(map(len, ends))
    for lines, x, ha in ((ends[0], left, "left"), (ends[1], left + width, "right")):
        write(figure, x, y + LINE * rows - 3, "\n".join(lines), size=SMALL, ha=ha, va="bottom")
    top = y + LINE * rows
    bar = figure.add_axes((left / across, 1 - (top + BAR) / high, width / across, BAR / high))
    bar.imshow(table_of(colors)[None], aspect="auto", extent=(-1, 1, 0, 1), interpolation="nearest")
    bar.set_xticks([])
    bar.set_yticks([])
    bar.set_label("colour bar")
    for spine in bar.spines.values():
        spine.set_edgecolor(FRAME)
    for text, x, ha in (
        (words.ends[0], left, "left"),
        ("0", left + width / 2, "center"),
        (words.ends[1], left + width, "right"),
    ):
        write(figure, x, top + BAR + 4, text, size=SMALL, ha=ha, color=FAINT)


def zoom_for(height: int, width: int, size: int) -> tuple[int, int]:
    """By how many dots a value of a map is drawn, down and across.

    A map is enlarged by a whole number so that its longer side has about ``size`` dots. Values are
    squares, unless a map is too thin to be seen.
    """
    zoom = max(1, round(size / max(height, width)))
    thinnest = 16
    return max(zoom, -(-thinnest // height)), max(zoom, -(-thinnest // width))


def enlarged(pixels: Pixels, down: int, across: int) -> Pixels:
    """Each pixel as a rectangle of this size in dots."""
    return pixels.repeat(down, axis=0).repeat(across, axis=1)


def reduced(values: Floats, factor: int) -> Floats:
    """The means of squares of values, (⌈H / factor⌉, ⌈W / factor⌉, …)."""
    largest = float(np.abs(values).max()) or 1.0  # so that sums of huge values stay finite
    values = values / largest
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], factor)
        counts = np.diff(np.append(starts, values.shape[axis]))
        shape = [1] * values.ndim
        shape[axis] = -1
        values = np.add.reduceat(values, starts, axis=axis) / counts.reshape(shape)
    return values * largest


def draw(axes: Axes, pixels: Pixels, *, frame: bool = True) -> None:
    """Fill a panel with pixels, from its upper left corner, each of equally many dots."""
    height, width = pixels.shape[:2]
    axes.imshow(
        pixels,
        interpolation="nearest",
        aspect="auto",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        resample=False,
    )
    for spine in axes.spines.values():
        spine.set_visible(frame)
        spine.set_edgecolor(FRAME)
        spine.set_linewidth(0.6)
