"""Pictures of relevance: red speaks for the explained class, blue against it, white is zero.

The maps are drawn as they are, one colour per pixel, never smoothed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lrp_fx.errors import InputError

if TYPE_CHECKING:
    from lrp_fx.audit import Ledger
    from lrp_fx.concepts import AttributionGraph

COLORS = "bwr"
FAINT = 0.15  # how much of the grey photograph shines through under a map
DPI = 100
# In dots: about how wide a panel is, and the room beside, above and below the panels.
PANEL, GAP, ABOVE, BELOW = 448, 16, 72, 40
NAMED = 25  # nodes under a ledger's figure, at most


def heatmap(relevance: Tensor) -> Tensor:
    """Relevance per pixel: the sum over the channels, ``(N, C, H, W)`` to ``(N, H, W)``.

    Without the sample dimension ``(C, H, W)`` becomes ``(H, W)``. Raises :class:`InputError` for
    any other shape.
    """
    if relevance.ndim not in (3, 4):
        raise InputError(
            "a heatmap needs relevance of shape (C, H, W) or (N, C, H, W), "
            f"not {tuple(relevance.shape)}"
        )
    return relevance.sum(dim=-3)


def color_limit(heat: Tensor, quantile: float = 0.995) -> float:
    """The |R| at which a map ``(H, W)`` reaches full colour: colours span -limit ... limit.

    It is a quantile and not the maximum, so that one extreme pixel cannot blank the map; and it is
    taken over the pixels that have relevance, so that the many zeros of a filtered map do not make
    it 0. A map of nothing but zeros gets the limit 1.
    """
    size = heat.detach().abs().double().flatten()
    size = size[size > 0]
    return size.quantile(quantile).item() if size.numel() else 1.0


def explanation_figure(
    photograph: Image.Image, maps: Mapping[str, Tensor], *, title: str = ""
) -> Figure:
    """One row: the photograph, then each map over a faint grey copy of it.

    Args:
        photograph: What the network saw, of the size of the maps.
        maps: Relevance ``(C, H, W)`` under the title of its panel, on any device. Each map has its
            own scale, which is printed below it, as filters change the size of relevance.
        title: The title of the figure, for example the explained class and its probability.

    At the figure's own resolution each pixel of a map is a square of equally many dots.

    Raises :class:`InputError` if a map is not of shape ``(C, H, W)`` with the photograph's H and W.
    """
    width, height = photograph.size
    grey = photograph.convert("L")
    figure, (first, *others) = _row(1 + len(maps), width, height, title)
    first.imshow(photograph, interpolation="none")
    first.set_title("photograph")
    for axes, (name, relevance) in zip(others, maps.items(), strict=True):
        if relevance.shape[1:] != (height, width):
            raise InputError(
                f"the map {name!r} has shape {tuple(relevance.shape)}, "
                f"but the photograph needs (C, {height}, {width})"
            )
        heat = heatmap(relevance.detach())
        limit = color_limit(heat)
        axes.imshow(
            heat.float().cpu().numpy(), cmap=COLORS, vmin=-limit, vmax=limit, interpolation="none"
        )
        axes.imshow(grey, cmap="gray", alpha=FAINT, interpolation="none")
        axes.set_title(name)
        axes.set_xlabel(f"full colour at ±{limit:.2g}")
    for axes in (first, *others):
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _row(count: int, width: int, height: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels for images of that size, enlarged by a whole number."""
    zoom = max(1, round(PANEL / width))
    wide, high = width * zoom, height * zoom
    across, down = count * (wide + GAP) + GAP, ABOVE + high + BELOW
    figure = Figure(figsize=(across / DPI, down / DPI), dpi=DPI)
    figure.suptitle(title, y=1 - 0.2 * ABOVE / down)
    boxes = (
        ((GAP + place * (wide + GAP)) / across, BELOW / down, wide / across, high / down)
        for place in range(count)
    )
    return figure, [figure.add_axes(box) for box in boxes]


def ledger_figure(ledger: Ledger) -> Figure:
    """A conservation ledger along the depth, from the output on the left to the inputs on the right.

    Above, what is left of the start behind each node, by all ways together, and Σ |R| that the node
    itself passed on, with the explosions by name; below, what each node took, by cause. All as shares
    of what was started with, the mean over the samples.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    places = range(len(ledger.entries))

    def shares(amounts: Iterable[Sequence[float]], absolute: bool = False) -> list[float]:
        return [
            sum(
                a / (abs(s) if absolute else s)
                for a, s in zip(each, ledger.start, strict=True)
                if s
            )
            / len(ledger.start)
            for each in amounts
        ]

    above.plot(places, shares(ledger.left), label="left of Σ R")
    sizes = shares((e.magnitude_out for e in ledger.entries), absolute=True)
    above.plot(places, sizes, label="Σ |R| of the node")
    for entry in ledger.explosions():
        place = ledger.entries.index(entry)
        above.plot(place, sizes[place], "rx")
        above.annotate(
            f"{entry.node}: {entry.growth:.2g} times", (place, sizes[place]), color="red"
        )
    above.set_yscale("symlog", linthresh=1)
    above.set_ylabel("relevance / start")
    above.legend()
    nothing = [0.0] * len(ledger.start)
    up, down = [0.0] * len(places), [0.0] * len(places)
    for cause in ledger.taken:
        heights = shares(e.taken.get(cause, nothing) for e in ledger.entries)
        bottoms = [u if h > 0 else d for h, u, d in zip(heights, up, down, strict=True)]
        below.bar(places, heights, bottom=bottoms, width=1.0, label=cause)
        up = [u + max(h, 0) for u, h in zip(up, heights, strict=True)]
        down = [d + min(h, 0) for d, h in zip(down, heights, strict=True)]
    below.set_ylabel("taken / start")
    named = places[:: math.ceil(len(places) / NAMED)]
    names = [ledger.entries[place].path or ledger.entries[place].node for place in named]
    below.set_xticks(named, names, rotation=45, ha="right", fontsize="small")
    if ledger.taken:
        below.legend()
    return figure


def concept_figure(graph: AttributionGraph) -> Figure:
    """An attribution graph: a column of channels for each layer, the output's on the left.

    Red channels and edges speak for the explained output, blue ones against it; the width of an edge
    is its share of the relevance that the propagation started with.
    """
    layers = list(dict.fromkeys(concept.layer for concept in graph.concepts))
    members = {layer: [c for c in graph.concepts if c.layer == layer] for layer in layers}
    figure = Figure(figsize=(3 * len(layers), 1 + max(map(len, members.values()))))
    axes = figure.subplots()
    place = {
        concept: (column, -row)
        for column, layer in enumerate(layers)
        for row, concept in enumerate(members[layer])
    }
    largest = max((abs(edge.relevance) for edge in graph.edges), default=0.0) or 1.0
    for edge in graph.edges:
        (x0, y0), (x1, y1) = place[edge.upper], place[edge.lower]
        color = "tab:red" if edge.relevance > 0 else "tab:blue"
        width = 6 * abs(edge.relevance) / largest
        axes.plot([x0, x1], [y0, y1], color=color, linewidth=width, alpha=0.5, zorder=1)
    for concept, (x, y) in place.items():
        share = concept.relevance / graph.start if graph.start else concept.relevance
        color = "tab:red" if share > 0 else "tab:blue"
        axes.text(
            *(x, y, f"{concept.channel}\n{share:.1%}"),
            ha="center",
            va="center",
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": color},
        )
    for column, layer in enumerate(layers):
        axes.text(column, 0.8, layer, ha="center", weight="bold")
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylim(-max(map(len, members.values())) + 0.5, 1.1)
    axes.set_axis_off()
    return figure
