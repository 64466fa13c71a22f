"""The attribution graph: channels, and how much relevance flows between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Concept:
    """A channel of a layer and its relevance in a prediction."""

    layer: str
    channel: int
    relevance: float


@dataclass(frozen=True)
class Edge:
    """The relevance that reaches the channel ``lower`` through the channel ``upper``."""

    upper: Concept
    lower: Concept
    relevance: float


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

        return concept_figure(self)
