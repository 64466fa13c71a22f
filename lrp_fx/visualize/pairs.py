"""Figures of pairs of texts: which words of one belong to which words of the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrp_fx._common import check_count, drawable, own_style
from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Floats, Relevance, as_floats, summed
from lrp_fx.visualize.canvas import INK, NORMAL, Class, Words, sheet
from lrp_fx.visualize.colors import DEFAULT, colorize, shares, table_of, text_color
from lrp_fx.visualize.scales import color_limit
from lrp_fx.visualize.tokens import HIGH, tokens, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NARROW, GAP, BETWEEN = 420, 6, 130
SHOWN_FROM = 0.08
"""The part of the largest |R| of a pair below which no line is drawn."""
WIDEST = 7.0  # points


@own_style()
def token_pairs(
    first: Sequence[str],
    second: Sequence[str],
    relevance: Relevance,
    *,
    target: Class = "",
    title: str = "",
    colors: str = DEFAULT,
    most: int = 40,
) -> Figure:
    """Two texts, and lines between the words that together speak for or against the output.

    Args:
        first: the T words of the upper text; marks of tokenizers as in
            :func:`~lrp_fx.visualize.tokens`.
        second: the S words of the lower text.
        relevance: of each pair, ``(T, S)`` or ``(1, T, S)``, as :func:`lrp_fx.bilrp` returns it. The
            ground of a word is the sum over its pairs.
        target: the explained target, for the words at the colour bar.
        title: the title of the figure.
        colors: as in :func:`~lrp_fx.visualize.show`.
        most: the number of lines that are drawn, those with the largest |R|.

    Returns:
        A figure of matplotlib. It is not registered in pyplot. Full colour of words and of lines is
        the largest |R| of each kind; the width of a line is proportional to its |R|.

    Raises:
        InputError: for words and relevance that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    table_of(colors)
    check_count("most", most)
    heat = as_floats(relevance)
    if heat.ndim == 3 and heat.shape[0] == 1:
        heat = heat[0]
    if heat.shape != (len(first), len(second)):
        raise InputError(
            f"{len(first)} and {len(second)} words need relevance of shape "
            f"({len(first)}, {len(second)}), not {heat.shape}"
        )
    sums = summed(heat, 1, "second words"), summed(heat, 0, "first words")
    parts = [tokens(words, each) for words, each in zip((first, second), sums, strict=True)]
    texts = [[drawable(text) for text in each.texts] for each in parts]
    middles, widths, across = _laid_out(texts, [each.joined for each in parts])
    limit = color_limit(np.concatenate(sums), 1.0)
    height = 2 * HIGH + BETWEEN
    ends = (f"−{limit:.3g}", f"+{limit:.3g}")
    note = "Words: the sum over their pairs. Lines: pairs, the wider the larger |relevance| is."
    words = Words(target, title, (note,), ends)
    made = sheet(1, 1, round(across), height, words, colors=colors)
    axes = made.panels[0][0]
    axes.set_xlim(0, across)
    axes.set_ylim(height, 0)
    _lines(axes, heat, middles, height, colors, most)
    for row, (line, each) in enumerate(zip(texts, sums, strict=True)):
        top = row * (height - HIGH)
        grounds = colorize(each, limit, colors)
        for text, x, wide, ground in zip(line, middles[row], widths[row], grounds, strict=True):
            _word(axes, text, x, top, wide, ground / 255, text_color(ground))
    return made.figure


def _laid_out(
    texts: Sequence[Sequence[str]], joined: Sequence[Sequence[bool]]
) -> tuple[list[Floats], list[Floats], float]:
    """The middle and the width of each word, and the width of the longer text, in dots."""
    widths = [np.array([width_of(text) for text in line]) for line in texts]
    gaps = [np.where(each, 0, GAP) * (np.arange(len(each)) > 0) for each in joined]
    whole = [float((wide + gap).sum()) for wide, gap in zip(widths, gaps, strict=True)]
    across = max(NARROW, *whole)
    middles = [
        (across - length) / 2 + np.cumsum(wide + gap) - wide / 2
        for wide, gap, length in zip(widths, gaps, whole, strict=True)
    ]
    return middles, widths, across


def _lines(
    axes: Axes, heat: Floats, middles: Sequence[Floats], height: int, colors: str, most: int
) -> None:
    """The lines of the strongest pairs, the weakest first."""
    limit = color_limit(heat, 1.0)
    strength = shares(heat, limit)
    order = np.argsort(-np.abs(strength), axis=None, kind="stable")[:most][::-1]
    for place in order:
        row, column = np.unravel_index(int(place), heat.shape)
        value = float(strength[row, column])
        if abs(value) < SHOWN_FROM:
            continue
        lifted = np.array([np.sign(value) * (0.2 + 0.8 * abs(value))])
        axes.plot(
            [middles[0][row], middles[1][column]], [HIGH, height - HIGH], zorder=1,
            color=colorize(lifted, 1.0, colors)[0] / 255, linewidth=WIDEST * abs(value),
            solid_capstyle="butt",
        )  # fmt: skip


def _word(
    axes: Axes, text: str, middle: float, top: float, wide: float, ground: Floats, ink: str
) -> None:
    from matplotlib.patches import Rectangle

    corner = (middle - wide / 2, top)
    axes.add_patch(
        Rectangle(corner, wide, HIGH, facecolor=tuple(ground), edgecolor="none", zorder=2)
    )
    axes.text(
        middle, top + HIGH / 2, text, ha="center", va="center_baseline", size=NORMAL, zorder=3,
        color=ink if ink == "#ffffff" else INK, parse_math=False,
    )  # fmt: skip
