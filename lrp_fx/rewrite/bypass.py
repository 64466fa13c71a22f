"""Stops relevance that bypasses a masked layer, in runs that select channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import fx

from lrp_fx.graph import ancestors
from lrp_fx.relevance import BypassRelevance
from lrp_fx.rewrite.nodes import NodeWriter


class Bypass:
    """Writes the nodes that stop relevance which bypasses masked nodes.

    Args:
        nodes: writes the nodes of the LRP graph.
        masked: the nodes that relevance may not bypass.
        channels: mask → the placeholder of its channels.
    """

    def __init__(
        self, nodes: NodeWriter, masked: Iterable[fx.Node], channels: Mapping[fx.Node, fx.Node]
    ) -> None:
        self._nodes, self._channels = nodes, channels
        self._below = {node: ancestors(node) for node in masked}

    def not_around(self, upper: fx.Node, lower: fx.Node, relevance: fx.Node) -> fx.Node:
        """The relevance from a node to its operand, stopped if it bypasses a masked node."""
        for masked, below in self._below.items():
            if upper not in below and lower in below and lower is not masked:
                relevance = self._write(masked, relevance)
        return relevance

    def not_beside(self, source: fx.Node, relevance: fx.Node) -> fx.Node:
        """The relevance of a source, stopped if the source lies on another path than a masked node."""
        for masked, below in self._below.items():
            if source not in below and masked not in ancestors(source):
                relevance = self._write(masked, relevance)
        return relevance

    def _write(self, masked: fx.Node, relevance: fx.Node) -> fx.Node:
        count = sum(isinstance(module, BypassRelevance) for module in self._nodes.modules.values())
        name = f"{masked.name}_bypass_{count}"
        inputs = (relevance, self._channels[masked])
        return self._nodes.call(BypassRelevance(), name, name, inputs, {}, masked)
