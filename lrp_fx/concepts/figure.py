"""The figure of an attribution graph; needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from lrp_fx.concepts.graph import AttributionGraph


def concept_figure(graph: AttributionGraph) -> Figure:
    """An attribution graph with one column of channels per layer, the output on the left.

    Red channels and edges speak for the explained output, blue ones against it. Below its number,
    each channel shows its share of the relevance that the propagation started with. The width of an
    edge is proportional to its |relevance|.

    Args:
        graph: the attribution graph.
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
            x,
            y,
            f"{concept.channel}\n{share:.1%}",
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
