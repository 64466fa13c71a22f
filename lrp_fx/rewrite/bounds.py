"""The bounds of the z-box rule, carried from the model's input to the first layers."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.errors import CompositeError
from lrp_fx.graph import aten, name_of
from lrp_fx.meaning import AFFINE
from lrp_fx.relevance import BoundRelevance, looked_up
from lrp_fx.rewrite.nodes import NodeWriter


class Bounds:
    """Writes nodes for the bounds of values, and remembers them."""

    def __init__(self, nodes: NodeWriter) -> None:
        self._nodes = nodes
        self._found: dict[tuple[fx.Node, int, int], tuple[fx.Node, fx.Node]] = {}

    def at(self, node: fx.Node, low: Any, high: Any, site: fx.Node) -> tuple[fx.Node, fx.Node]:
        """The nodes of the bounds at ``node``, computed like ``node`` from the bounds of the input.

        Args:
            node: a preprocessed input.
            low: the lower bound of the model's input.
            high: the upper bound.
            site: the operation with the z-box rule, for messages.

        Raises:
            CompositeError: if ``node`` is not a preprocessed input.
        """
        key = (node, id(low), id(high))
        if key in self._found:
            return self._found[key]
        if looked_up(node, self._nodes.facts.is_dynamic):
            raise CompositeError(
                f"ZBox is for first layers: the input of '{site.name}' is looked up in a table, and "
                "does not have the bounds of the model's input"
            )
        if not self._nodes.facts.is_preprocessing(node):
            raise CompositeError(
                f"ZBox is for first layers: the input of '{site.name}' is not the model's input, nor "
                "its padded, normalized or rearranged form"
            )
        if node.op == "placeholder":
            count = sum(known is node for known, *_ in self._found)
            suffix = f"_{count}" if count else ""
            pair = tuple(
                self._nodes.call(
                    BoundRelevance(bound),
                    f"{node.name}_{name}{suffix}",
                    f"{node.name}_{name}{suffix}",
                    (self._nodes.forward(node),),
                    {},
                    node,
                )
                for name, bound in (("low", low), ("high", high))
            )
        else:
            below = {
                source: self.at(source, low, high, site)
                for source in node.all_input_nodes
                if self._nodes.facts.is_dynamic(source)
            }
            pair = tuple(
                self._nodes.copy_on(node, {n: b[i] for n, b in below.items()}) for i in (0, 1)
            )
            if name_of(node) in AFFINE:  # a negative factor swaps the bounds
                pair = (
                    self._nodes.graph.call_function(aten.minimum, pair),
                    self._nodes.graph.call_function(aten.maximum, pair),
                )
        self._found[key] = (pair[0], pair[1])
        return self._found[key]
