"""The relevance of a channel in a prediction, and the relevance between two channels."""

from __future__ import annotations

from dataclasses import dataclass


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
