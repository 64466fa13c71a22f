"""The attribution graph: concepts, and how much relevance goes from one to the other."""

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
    """The relevance that the channel ``lower`` has through the channel ``upper``."""

    upper: Concept
    lower: Concept
    relevance: float


@dataclass(frozen=True)
class AttributionGraph:
    """The chief channels of a prediction and what goes from one to another.

    Args:
        concepts: the channels, layer by layer from the output to the input.
        edges: between channels of neighbouring layers.
        start: Σ of what the relevance started with.
    """

    concepts: tuple[Concept, ...]
    edges: tuple[Edge, ...]
    start: float

    def plot(self) -> Figure:
        """The graph, the output on the left. Needs matplotlib."""
        from lrp_fx.concepts.figure import concept_figure

        return concept_figure(self)
