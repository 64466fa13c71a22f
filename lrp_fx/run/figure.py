"""The figure of a ledger; needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from lrp_fx._common import drawable, own_style
from lrp_fx._common.figure import ShownFigure
from lrp_fx.relevance import CAUSES
from lrp_fx.run.entries import Entry, PerSample

MAX_NAMED = 25  # the most nodes that are named under the figure
LOGARITHMIC = 5.0  # the share of the start from which on the upper axis is logarithmic
LEFT, SIZE, EXPLODED = "#0072b2", "#e69f00", "#a00000"
CAUSE_COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#999999",
    "#333333",
)
"""The palette of Okabe and Ito (2008), which is distinct with any colour vision."""


@own_style()
def ledger_figure(
    entries: Sequence[Entry], start: PerSample, left: Sequence[PerSample], exploded: Sequence[Entry]
) -> Figure:
    """A conservation ledger along the depth, from the output (left) to the inputs (right).

    The upper panel shows what is left of the start after each node, on all paths together, and Σ
    |R| that each node passed on, with explosions marked by name. The lower panel shows what each
    node took, by cause. All values are shares of the start, averaged over the samples.

    Args:
        entries: the nodes, in the order in which relevance passes them.
        start: Σ of the relevance that each sample started with.
        left: what is left of it after each node.
        exploded: the entries to mark by name.
    """
    figure = ShownFigure(figsize=(10, 7), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    places = range(len(entries))

    def shares(amounts: Iterable[Sequence[float]], absolute: bool = False) -> list[float]:
        return [
            sum(a / (abs(s) if absolute else s) for a, s in zip(each, start, strict=True) if s)
            / len(start)
            for each in amounts
        ]

    rest = shares(left)
    above.plot(places, rest, color=LEFT, label="left of Σ R, on all paths")
    sizes = shares((e.magnitude_out for e in entries), absolute=True)
    above.plot(places, sizes, color=SIZE, label="Σ |R| that the node passed on")
    for entry in exploded:
        place = entries.index(entry)
        above.plot(place, sizes[place], "x", color=EXPLODED)
        above.annotate(
            drawable(f"{entry.node}: {entry.growth:.2g} times"),
            (place, sizes[place]),
            (4, 4),
            textcoords="offset points",
            color=EXPLODED,
            fontsize="small",
            parse_math=False,
        )
    if max(map(abs, (*rest, *sizes)), default=0.0) > LOGARITHMIC:
        above.set_yscale("symlog", linthresh=1)
    above.margins(y=0.12)
    above.set_ylabel("relevance / start")
    above.set_title("Where the relevance went: from the output (left) to the inputs", fontsize=11)
    above.legend(frameon=False, fontsize="small")
    causes = [cause for cause in CAUSES if any(cause in entry.taken for entry in entries)]
    nothing = [0.0] * len(start)
    up, down = [0.0] * len(places), [0.0] * len(places)
    below.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    for number, cause in enumerate(causes):
        heights = shares(e.taken.get(cause, nothing) for e in entries)
        bottoms = [u if h > 0 else d for h, u, d in zip(heights, up, down, strict=True)]
        color = CAUSE_COLORS[number % len(CAUSE_COLORS)]
        below.bar(places, heights, bottom=bottoms, width=0.9, label=drawable(cause), color=color)
        up = [u + max(h, 0) for u, h in zip(up, heights, strict=True)]
        down = [d + min(h, 0) for d, h in zip(down, heights, strict=True)]
    below.set_ylabel("taken / start")
    named = places[:: math.ceil(len(places) / MAX_NAMED)]
    names = [drawable(entries[place].path or entries[place].node) for place in named]
    below.set_xticks(named, names, rotation=45, ha="right", fontsize="small", parse_math=False)
    if causes:
        legend = below.legend(
            frameon=False, fontsize="small", title="taken by", title_fontsize="small"
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee", zorder=-1)
        axes.set_axisbelow(True)
    return figure
