"""Figures of tables: bars for one row, and a swarm of dots over all rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrp_fx._common import check_count, drawable, own_style
from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Data, Floats, Relevance, as_names, as_rows, as_table
from lrp_fx.visualize.canvas import FAINT, FRAME, INK, SMALL, Class, Words, fitted, sheet, write
from lrp_fx.visualize.colors import DEFAULT, colorize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

WIDTH, BAR, SWARM = 460, 26, 34
LOW_HIGH = "cividis"
"""The colours of features from low to high; they can be read with any colour vision."""
UNCOLORED, UNKNOWN = "#5a6f95", 0.72
"""The colour of dots without values, and the grey of those whose value is missing."""
LONGEST_NAME = 34


@own_style()
def bar(
    relevance: Relevance,
    names: Sequence[str] | None = None,
    values: Data | None = None,
    *,
    most: int = 20,
    target: Class = "",
    title: str = "",
    colors: str = DEFAULT,
) -> Figure:
    """The relevance of the features of one row of a table, the largest |R| first.

    Args:
        relevance: ``(F,)`` or ``(1, F)``.
        names: of the F features.
        values: the row itself, of the same shape, also as a list or a row of pandas; the values
            stand after the names, NaN as "missing".
        most: the number of features that are shown. The sum of all others is the last bar.
        target: the explained class, for the words at the axis.
        title: the title of the figure.
        colors: as in :func:`~lrp_fx.visualize.show`.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance, names or values that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    check_count("most", most)
    rows = as_rows(relevance, "bar")
    if len(rows) != 1:
        raise InputError(
            f"bar draws one row, got {len(rows)}: pass relevance[0], or use beeswarm for all rows"
        )
    row = rows[0]
    labels = _labels(names, len(row))
    if values is not None:
        given = as_table(values, "bar").ravel()
        if given.size != row.size:
            raise InputError(f"{row.size} features need as many values, got {given.size}")
        said = [f" = {_number(float(value))}" for value in given]
        labels = [
            _shortened(each, LONGEST_NAME - len(value)) + value
            for each, value in zip(labels, said, strict=True)
        ]
    order = np.argsort(-np.abs(row), kind="stable")
    shown, rest = order[:most], order[most:]
    heights = [float(row[place]) for place in shown]
    labels = [labels[place] for place in shown]
    if rest.size:
        heights.append(float(row[rest].sum()))
        labels.append(f"{rest.size} others together")
    axes, figure = _axes(labels, BAR, target, title, "relevance")
    ends = colorize(np.array([-0.8, 0.8]), 1.0, colors) / 255
    places = np.arange(len(heights))
    axes.barh(places, heights, height=0.68, color=[tuple(ends[int(each > 0)]) for each in heights])
    largest = max(map(abs, heights)) or 1.0
    for place, height in enumerate(heights):
        positive = height >= 0
        axes.annotate(
            f"{height:+.3g}" if height else "0",
            (height, place),
            (4 if positive else -4, 0),
            textcoords="offset points",
            ha="left" if positive else "right",
            va="center",
            fontsize=SMALL,
            color=INK,
        )
    low = min(0.0, *heights)
    high = max(0.0, *heights)
    axes.set_xlim(
        low - (0.22 * largest if low < 0 else 0.02 * largest),
        high + (0.22 * largest if high > 0 else 0.02 * largest),
    )
    return figure


@own_style()
def beeswarm(
    relevance: Relevance,
    values: Data | None = None,
    names: Sequence[str] | None = None,
    *,
    most: int = 20,
    target: Class = "",
    title: str = "",
) -> Figure:
    """The relevance of the features over all rows of a table: a dot for each row.

    Args:
        relevance: ``(N, F)``.
        values: the table itself, ``(N, F)``. A dot is dark blue where the value is the feature's
            smallest, yellow where it is its largest, and grey where it is missing (NaN).
        names: of the F features.
        most: the number of features that are shown, those with the largest mean |R|.
        target: the explained class, for the words at the axis.
        title: the title of the figure.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance, names or values that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    check_count("most", most)
    rows = as_rows(relevance, "beeswarm")
    labels = _labels(names, rows.shape[1])
    table = None if values is None else as_table(values, "beeswarm")
    if table is not None and table.shape != rows.shape:
        raise InputError(f"the table must have the shape {rows.shape}, not {table.shape}")
    order = np.argsort(-np.abs(rows / len(rows)).sum(axis=0), kind="stable")[:most]
    note = "Each dot is a row of the table." + (
        "" if table is None else " Dark blue: the feature's smallest value; yellow: its largest."
    )
    if table is not None and np.isnan(table[:, order]).any():
        note += " Grey: the value is missing."
    if rows.shape[1] > most:
        note += f" {most} of {rows.shape[1]} features, those with the largest mean |relevance|."
    axes, figure = _axes([labels[place] for place in order], SWARM, target, title, note)
    for place, column in enumerate(order):
        sizes = rows[:, column]
        if table is None:
            ink: Floats | str = UNCOLORED
        else:
            ink = _inks(table[:, column])
        axes.scatter(sizes, place + _spread(sizes), s=11, c=ink, linewidths=0, alpha=0.9)
    largest = float(np.abs(rows[:, order]).max()) or 1.0
    axes.set_xlim(
        min(float(rows[:, order].min()), 0.0) - 0.05 * largest,
        max(float(rows[:, order].max()), 0.0) + 0.05 * largest,
    )
    return figure


def _inks(values: Floats) -> Floats:
    """The colours of a feature's values from its smallest to its largest, (N, 3)."""
    known = ~np.isnan(values)
    inks = np.full((len(values), 3), UNKNOWN)
    if known.any():
        halves = values[known] / 2
        low, high = float(halves.min()), float(halves.max())
        inks[known] = colorize((halves - low) / ((high - low) or 1.0) * 2 - 1, 1.0, LOW_HIGH) / 255
    return inks


def _number(value: float) -> str:
    """A value of a table: integers with all their digits."""
    if math.isnan(value):
        return "missing"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e12 else f"{value:.4g}"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _spread(values: Floats, bins: int = 60) -> Floats:
    """How far each dot moves up or down, so that dots of one size lie beside each other."""
    low, high = float(values.min()), float(values.max())
    if high == low:
        where = np.zeros(len(values), dtype=np.intp)
    else:
        half = (values / 2 - low / 2) / (high / 2 - low / 2)
        where = np.minimum((half * bins).astype(np.intp), bins - 1)
    places = np.zeros(len(values))
    counts = np.bincount(where, minlength=bins)
    widest = int(counts.max())
    step = min(0.1, 0.38 / max(1, widest // 2))
    for cell in np.flatnonzero(counts):
        inside = np.flatnonzero(where == cell)
        ranks = np.arange(len(inside))
        places[inside] = step * ((ranks + 1) // 2) * np.where(ranks % 2, 1, -1)
    return places


def _labels(names: Sequence[str] | None, count: int) -> list[str]:
    found = as_names(names, count, "names of features")
    return [f"feature {place}" for place in range(count)] if found is None else found


def _ticks() -> Locator:
    """A tick at each of about five round numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def _axes(
    labels: Sequence[str], height: int, target: Class, title: str, note: str
) -> tuple[Axes, Figure]:
    """A panel with a row for each label and an axis of relevance through zero."""
    shown = [_shortened(each, LONGEST_NAME) for each in labels]
    wide = 10 + max(map(len, shown)) * 8
    words = Words(target, title, (note,) if note != "relevance" else ())
    made = sheet(1, 1, WIDTH, height * len(labels), words, colors=None, left=wide, under=64)
    axes = made.panels[0][0]
    axes.set_yticks(range(len(labels)), list(map(drawable, shown)), fontsize=9.5, parse_math=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=0)
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.xaxis.set_major_locator(_ticks())
    # Each number in full: a factor at the end of the axis, such as 1e−10, is easily overlooked.
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    axes.tick_params(axis="x", colors=FAINT, labelsize=SMALL)
    axes.grid(axis="x", color="#eeeeee", linewidth=0.8, zorder=-1)
    axes.set_axisbelow(True)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_edgecolor(FRAME)
    across, high = made.figure.get_size_inches() * made.figure.dpi
    box = axes.get_position()
    y = (1 - box.y0) * high + 28
    left, right = box.x0 * across, box.x1 * across
    half = (right - left) / 2 - 8
    for x, text, ha in (
        (left, f"◀ {words.against}", "left"),
        (right, f"{words.in_favour} ▶", "right"),
    ):
        lines = fitted(text, half, SMALL, 2)
        write(made.figure, x, y, "\n".join(lines), size=SMALL, ha=ha)
    return axes, made.figure
