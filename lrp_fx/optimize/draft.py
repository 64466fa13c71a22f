"""The draft of an LRP graph, before it becomes a module; optimization passes work on it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn


@dataclass(frozen=True)
class Draft:
    """A written LRP graph that is not a module yet.

    Args:
        graph: forward nodes, then ``start``, then relevance nodes.
        modules: the modules of the relevance nodes, by path.
        start: the node of the relevance that the propagation starts with.
        target: the placeholder of the target.
        constants: computes, from parameters alone, what the graph reads under ``constants.*``.
    """

    graph: fx.Graph
    modules: dict[str, nn.Module]
    start: fx.Node
    target: fx.Node
    constants: fx.Graph
