"""Figures of graphs: relevance of nodes, such as the atoms of a molecule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lrp_fx._common import drawable, entries, is_int, own_style
from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Data, Floats, Relevance, as_data, as_floats, as_names, summed
from lrp_fx.visualize.canvas import DPI, FAINT, INK, NORMAL, Class, Words, sheet
from lrp_fx.visualize.colors import DEFAULT, colorize, text_color
from lrp_fx.visualize.look import Look
from lrp_fx.visualize.scales import sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Edges: TypeAlias = Sequence[Sequence[int]]
"""(node, node), or (node, node, lines) with the number of lines, such as the order of a bond."""

WIDTH, HIGHEST, LOWEST = 460, 460, 150
SHARE, LARGEST, SMALLEST = 0.3, 19.0, 4.0
"""The radius of a node: as a fraction of the median length of the edges, and its limits in dots."""
APART = 4.0
"""Dots between the lines of one edge."""


@own_style()
def graph(
    relevance: Relevance,
    edges: Edges,
    places: Data,
    names: Sequence[str] | None = None,
    *,
    target: Class = "",
    title: str = "",
    colors: str = DEFAULT,
    percentile: float = 100.0,
) -> Figure:
    """A graph whose nodes are coloured by their relevance, for example a molecule.

    Args:
        relevance: of the nodes of one graph: ``(V,)``, or ``(V, F)`` and ``(1, V, F)``, whose sum
            over the features F is shown. Rows after the last place are padding; their relevance
            must be zero.
        edges: pairs of nodes, or triples with the number of lines, such as the order of a bond.
        places: where the nodes are, ``(V, 2)``: to the right and upwards, in any unit.
        names: the labels of the nodes, such as the elements.
        target: the explained class, for the words at the colour bar.
        title: the title of the figure.
        colors: as in :func:`~lrp_fx.visualize.show`.
        percentile: of the nonzero |R|, from which on a node has full colour.

    Returns:
        A figure of matplotlib. It is not registered in pyplot.

    Raises:
        InputError: for relevance, edges, places or names that do not fit or are not finite.
        OptionError: for an option's value that there is not, or if matplotlib is missing.
    """
    look = Look(colors, percentile=percentile)
    spots = as_data(places, "places")
    if spots.ndim != 2 or spots.shape[1] != 2:
        raise InputError(f"places must be of shape (V, 2), not {spots.shape}")
    heat = _of_nodes(as_floats(relevance), len(spots))
    labels = as_names(names, len(spots), "names of nodes")
    lines = [_edge(edge, len(spots)) for edge in entries(edges) or ()]
    limits = look.limits([heat])
    notes = [limits.words] + ([] if heat.any() else ["all relevance is zero"])
    spots, radius, height = _scaled(spots, lines)
    words = Words(target, title, (sentences(notes),), limits.ends(limits.each[0]))
    made = sheet(1, 1, WIDTH, height, words, colors=colors)
    axes = made.panels[0][0]
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, height)
    for first, second, count in lines:
        _line(axes, spots[first], spots[second], count)
    from matplotlib.patches import Circle

    for place, ground in enumerate(colorize(heat, limits.each[0], colors)):
        axes.add_patch(
            Circle(
                (spots[place, 0], spots[place, 1]), radius, facecolor=ground / 255, edgecolor=FAINT,
                linewidth=0.9, zorder=2,
            )
        )  # fmt: skip
        if labels:
            axes.text(
                float(spots[place, 0]),
                float(spots[place, 1]),
                drawable(labels[place]),
                ha="center",
                va="center",
                size=min(NORMAL + 1, radius * 72 / DPI),
                color=INK if text_color(ground) == "#000000" else "#ffffff",
                parse_math=False,
                zorder=3,
            )
    return made.figure


def _of_nodes(values: Floats, count: int) -> Floats:
    """The relevance of each node, (V,)."""
    found = values
    if found.ndim == 3 and found.shape[0] == 1:
        found = found[0]
    if found.ndim == 2 and found.shape[0] == 1 and count != 1:
        found = found[0]
    if found.ndim == 2:
        found = summed(found, 1, "features")
    if found.ndim != 1 or len(found) < count or found[count:].any():
        raise InputError(
            f"{count} places need relevance of shape ({count},), ({count}, F) or (1, {count}, F), not "
            f"{values.shape}"
            + (", which is not zero after them" if found.ndim == 1 and len(found) > count else "")
        )
    return found[:count]


def _edge(edge: Sequence[int], count: int) -> tuple[int, int, int]:
    """Both nodes and the number of lines."""
    values = list(entries(edge) or ())
    numbers = [each.item() if hasattr(each, "item") else each for each in values]
    right = len(numbers) in (2, 3) and all(map(is_int, numbers))
    if (
        not right
        or not all(0 <= each < count for each in numbers[:2])
        or min(numbers[2:], default=1) < 1
    ):
        raise InputError(
            f"an edge must be two of the nodes 0 to {count - 1}, and a number of lines if you want "
            f"several, got {edge!r}"
        )
    first, second, *lines = numbers
    return first, second, lines[0] if lines else 1


def _scaled(spots: Floats, edges: Sequence[tuple[int, int, int]]) -> tuple[Floats, float, int]:
    """The places in dots, the radius of a node, and the height of the panel."""
    inner = WIDTH - 2 * LARGEST - 4
    spots = spots / (float(np.abs(spots).max()) or 1.0)  # so that differences stay finite
    low, size = spots.min(axis=0), np.ptp(spots, axis=0)
    widths = [inner / size[0]] if size[0] else []
    heights = [(HIGHEST - 2 * LARGEST - 4) / size[1]] if size[1] else []
    zoom = min([*widths, *heights], default=1.0)
    lengths = [float(np.hypot(*(spots[a] - spots[b]))) * zoom for a, b, _ in edges if a != b]
    radius = max(SMALLEST, min(LARGEST, SHARE * float(np.median(lengths or [LARGEST / SHARE]))))
    height = max(LOWEST, int(size[1] * zoom + 2 * LARGEST + 4))
    middle = np.array([WIDTH, height]) / 2
    return (spots - low - size / 2) * zoom + middle, radius, height


def _line(axes: Axes, first: Floats, second: Floats, count: int) -> None:
    """An edge of one or several parallel lines."""
    along = second - first
    length = float(np.hypot(*along)) or 1.0
    aside = np.array([-along[1], along[0]]) / length * APART
    for place in range(count):
        moved = aside * (place - (count - 1) / 2)
        (x0, y0), (x1, y1) = first + moved, second + moved
        axes.plot([x0, x1], [y0, y1], color=FAINT, linewidth=1.3, zorder=1)
