"""The attribution graph: channels, and how much relevance flows between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrp_fx._common import html_table
from lrp_fx.concepts.channels import Concept, Edge

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AttributionGraph:
    """The most relevant channels of a prediction, and the relevance that flows between them.

    Args:
        concepts: the channels, layer by layer from the output to the input.
        edges: between channels of consecutive layers.
        start: Σ of the relevance that the propagation started with.
    """

    concepts: tuple[Concept, ...]
    edges: tuple[Edge, ...]
    start: float

    def plot(self) -> Figure:
        """The figure of the graph, the output on the left. Needs matplotlib."""
        from lrp_fx.concepts.figure import concept_figure

        return concept_figure(self.concepts, self.edges, self.start)

    def _repr_html_(self) -> str:
        strongest = sorted(self.edges, key=lambda edge: -abs(edge.relevance))
        through: dict[Concept, list[str]] = {concept: [] for concept in self.concepts}
        for edge in strongest:
            if edge.upper in through and len(through[edge.upper]) < _NAMED:
                through[edge.upper].append(f"{edge.lower.channel} ({self._share(edge.relevance)})")
        rows = [
            (concept.layer, str(concept.channel), self._share(concept.relevance), ", ".join(below))
            for concept, below in through.items()
        ]
        head = ("layer", "channel", "share of the start", "goes mostly to channel")
        note = f"relevance started with {self.start:.4g}; the most relevant channels of each layer:"
        return html_table(head, rows, notes=(note,), numbers=(1, 2))

    def _share(self, relevance: float) -> str:
        return f"{relevance / self.start:.1%}" if self.start else f"{relevance:.3g}"


_NAMED = 3
"""The number of edges of each channel that a notebook shows, the strongest ones."""
