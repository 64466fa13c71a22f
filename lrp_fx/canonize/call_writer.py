"""A writer of nodes for passes that must know which values depend on the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from lrp_fx.graph import Packet, call_like


@dataclass(frozen=True)
class CallWriter:
    """Writes ATen calls in place of a node and records which of them depend on the inputs.

    Args:
        graph: the graph to write to.
        module: holds the parameters of the graph.
        origin: the node that the calls replace.
        dynamic: the values that depend on the inputs, not only on their sizes. New calls are added.
    """

    graph: fx.Graph
    module: fx.GraphModule
    origin: fx.Node
    dynamic: set[fx.Node]

    def __call__(self, packet: Packet, *args: Any) -> fx.Node:
        """Write a call and return its node."""
        node = call_like(self.graph, self.origin, packet, *args)
        if any(self.is_dynamic(source) for source in node.all_input_nodes):
            self.dynamic.add(node)
        return node

    def is_dynamic(self, value: Any) -> bool:
        """Whether a value depends on the inputs."""
        return value in self.dynamic
