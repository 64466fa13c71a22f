"""Writes the nodes of an LRP graph, and knows which of them hold the forward values."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn

from lrp_fx.capture import Captured
from lrp_fx.meaning import Analysis
from lrp_fx.relevance import BoundRelevance, RelevanceNode, StartRelevance
from lrp_fx.rewrite.constants import ConstantGraph, write_part
from lrp_fx.rules import FULL, MINUS, ONES, PLUS, SQUARE, Part

CONSTANTS, RELEVANCE = "constants", "relevance"
_WORDS = {PLUS: "plus", MINUS: "minus", SQUARE: "square", ONES: "ones"}
"""The names of parts of weights."""
_OF_VALUES = (StartRelevance, BoundRelevance)
"""Relevance nodes that read only forward values, and work in their dtype."""


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, extended if the model has a parameter or module of the same name."""
    while any(path.partition(".")[0] == name for path in taken):
        name += "_"
    return name


class NodeWriter:
    """Writes the nodes of one LRP graph.

    Args:
        captured: the canonical graph.
        facts: what is known of its values.
        precision: the dtype of the relevance pass; None for that of the activations.
        keeps: whether modified weights are computed once and kept.
    """

    def __init__(
        self, captured: Captured, facts: Analysis, precision: torch.dtype | None, keeps: bool
    ) -> None:
        self.facts, self.precision, self.keeps = facts, precision, keeps
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module] = {}
        self.values: dict[fx.Node, fx.Node] = {}
        """Canonical node → the node that holds its forward value."""
        self._shapes: dict[fx.Node, fx.Node] = {}
        self._parts: dict[tuple[fx.Node, Part], fx.Node] = {}
        taken = {str(n.target) for n in captured.module.graph.find_nodes(op="get_attr")}
        self.constants = ConstantGraph(captured.module.graph, _free(CONSTANTS, taken))
        self._path = _free(RELEVANCE, taken)

    def forward(self, node: fx.Node) -> fx.Node:
        """The node that holds the forward value of a canonical node."""
        if node not in self.values:
            assert node in self.facts.constant, node
            self.values[node] = self._read(self.constants.path_of(node), node.name)
        return self.values[node]

    def modified(self, weight: fx.Node, part: Part) -> fx.Node:
        """The node of a part of a weight, such as W⁺."""
        if part == FULL:
            return self.forward(weight)
        key = (weight, part)
        if key not in self._parts:
            name = f"{weight.name}_{_WORDS.get(part, 'part')}"
            if self.keeps and weight in self.facts.constant:
                self._parts[key] = self._read(self.constants.path_of_part(weight, part, name), name)
            else:
                self._parts[key] = write_part(self.graph, self.forward(weight), part, name)
        return self._parts[key]

    def _read(self, path: str, name: str) -> fx.Node:
        with self.graph.inserting_before(self._first_call()):
            return self.graph.create_node("get_attr", path, name=name)

    def _first_call(self) -> fx.Node | None:
        return next((n for n in self.graph.nodes if n.op not in ("placeholder", "get_attr")), None)

    def shape(self, node: fx.Node) -> fx.Node:
        """The node of the shape of a forward value."""
        if node not in self._shapes:
            value = self.forward(node)
            with self.graph.inserting_after(self._after_placeholders(value)):
                self._shapes[node] = self.graph.create_node(
                    "call_function", getattr, (value, "shape"), name=f"{value.name}_shape"
                )
        return self._shapes[node]

    def _after_placeholders(self, value: fx.Node) -> fx.Node:
        """The last leading node, if the value is one: no call may come before the placeholders."""
        if value.op not in ("placeholder", "get_attr"):
            return value
        leading: list[fx.Node] = [
            n for n in self.graph.nodes if n.op in ("placeholder", "get_attr")
        ]
        return leading[-1]

    def item(self, node: fx.Node, index: int) -> fx.Node:
        """The node of one of several forward values of a node."""
        value = self.forward(node)
        for user in value.users:
            if user.target is operator.getitem and user.args[1] == index:
                return user
        with self.graph.inserting_after(value):
            name = f"{value.name}_{index}"
            return self.graph.create_node(
                "call_function", operator.getitem, (value, index), name=name
            )

    def copy_on(self, node: fx.Node, values: dict[fx.Node, fx.Node]) -> fx.Node:
        """Write the same operation again, with some operands replaced."""
        return self.graph.node_copy(node, lambda n: values.get(n) or self.forward(n))

    def call(
        self, module: nn.Module, attribute: str, name: str, args: Any, kwargs: Any, origin: fx.Node
    ) -> fx.Node:
        """Write a call of a relevance node, whose module is kept under ``relevance.<attribute>``."""
        target = f"{self._path}.{attribute}"
        assert target not in self.modules, target
        if isinstance(module, RelevanceNode) and not isinstance(module, _OF_VALUES):
            module = module.with_settings(precision=self.precision)
        self.modules[target] = module
        node = self.graph.create_node("call_module", target, args, kwargs, name=name)
        node.meta = {**origin.meta, "origin": origin.name}
        return node
