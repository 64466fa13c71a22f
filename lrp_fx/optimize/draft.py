"""An LRP graph that is written, and no module yet: what passes work on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn


@dataclass(frozen=True)
class Draft:
    """A written LRP graph.

    Args:
        graph: forward nodes, then ``start``, then relevance nodes.
        modules: the relevance nodes by path.
        start: the node that the relevance starts with.
        target: the placeholder of the target.
        constants: computes what the graph reads under ``constants.*``, from parameters alone.
    """

    graph: fx.Graph
    modules: dict[str, nn.Module]
    start: fx.Node
    target: fx.Node
    constants: fx.Graph
