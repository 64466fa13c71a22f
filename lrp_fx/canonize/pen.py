"""What passes that must know which values move write their nodes with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from lrp_fx.graph import Packet, call_like


@dataclass(frozen=True)
class Pen:
    """Writes ATen calls in the place of a node and keeps account of what depends on the inputs.

    Args:
        graph: the graph.
        module: holds its parameters.
        origin: the node that the calls come from.
        dynamic: the values that depend on the inputs, by more than sizes; what is written is added.
    """

    graph: fx.Graph
    module: fx.GraphModule
    origin: fx.Node
    dynamic: set[fx.Node]

    def __call__(self, packet: Packet, *args: Any) -> fx.Node:
        """A new call."""
        node = call_like(self.graph, self.origin, packet, *args)
        if any(self.moves(source) for source in node.all_input_nodes):
            self.dynamic.add(node)
        return node

    def moves(self, value: Any) -> bool:
        """Whether a value depends on the inputs."""
        return value in self.dynamic
