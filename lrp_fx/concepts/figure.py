"""The figure of an attribution graph; needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lrp_fx._common import drawable, own_style
from lrp_fx._common.figure import ShownFigure
from lrp_fx.concepts.channels import Concept, Edge

FOR, AGAINST = "#ad4d03", "#0060ed"  # distinct with any colour vision


@own_style()
def concept_figure(concepts: Sequence[Concept], edges: Sequence[Edge], start: float) -> Figure:
    """An attribution graph with one column of channels per layer, the output on the left.

    Orange channels and edges speak for the explained output, blue ones against it. Below its number,
    each channel shows its share of the relevance that the propagation started with. The width of an
    edge is proportional to its |relevance|, and the strongest edge between two layers has full width.

    Args:
        concepts: the channels, layer by layer from the output to the input.
        edges: between channels of consecutive layers.
        start: Σ of the relevance that the propagation started with.
    """
    layers = list(dict.fromkeys(concept.layer for concept in concepts))
    members = {layer: [c for c in concepts if c.layer == layer] for layer in layers}
    tallest = max(map(len, members.values()), default=1)
    figure = ShownFigure(figsize=(max(4.5, 2.4 * len(layers)), 1.4 + 0.8 * tallest))
    axes = figure.add_axes((0.02, 0.1, 0.96, 0.88))
    place = {
        concept: (column, -row)
        for column, layer in enumerate(layers)
        for row, concept in enumerate(members[layer])
    }
    largest: dict[str, float] = {}
    for edge in edges:
        largest[edge.upper.layer] = max(largest.get(edge.upper.layer, 0.0), abs(edge.relevance))
    for edge in edges:
        (x0, y0), (x1, y1) = place[edge.upper], place[edge.lower]
        color = FOR if edge.relevance > 0 else AGAINST
        width = 6 * abs(edge.relevance) / (largest[edge.upper.layer] or 1.0)
        axes.plot([x0, x1], [y0, y1], color=color, linewidth=width, alpha=0.45, zorder=1)
    for concept, (x, y) in place.items():
        share = concept.relevance / start if start else concept.relevance
        color = FOR if concept.relevance > 0 else AGAINST
        axes.text(
            x,
            y,
            f"{concept.channel}\n{share:.1%}",
            ha="center",
            va="center",
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": color},
        )
    for column, layer in enumerate(layers):
        axes.text(column, 0.75, drawable(layer), ha="center", weight="bold", parse_math=False)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylim(-tallest + 0.5, 1.1)
    axes.set_axis_off()
    figure.legend(
        handles=[
            Line2D([], [], color=FOR, linewidth=3),
            Line2D([], [], color=AGAINST, linewidth=3),
        ],
        labels=["speaks for the explained output", "speaks against it"],
        loc="lower center",
        ncols=2,
        frameon=False,
        fontsize="small",
    )
    return figure
