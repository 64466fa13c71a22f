"""The site of one operation: what its rule can ask for and write while its relevance is written."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from lrp_fx.optimize import Rectified
from lrp_fx.relevance import BiasPolicy, Engine, Facts
from lrp_fx.rewrite.bounds import Bounds
from lrp_fx.rewrite.nodes import NodeWriter
from lrp_fx.rules import Part, Rule


@dataclass
class WrittenSite:
    """Where the relevance of one node is written; implements ``lrp_fx.relevance.Site``."""

    nodes: NodeWriter
    bounds: Bounds
    rectified: Rectified
    node: fx.Node
    rule: Rule
    receivers: tuple[fx.Node, ...]
    relevance: fx.Node
    parts: dict[int, fx.Node]
    facts: Facts
    engine: Engine
    bias: BiasPolicy

    def receives(self, operand: Any) -> bool:
        return isinstance(operand, fx.Node) and operand in self.receivers

    def value(self, argument: Any) -> Any:
        return fx.map_arg(argument, self.nodes.forward)

    def shape(self, node: fx.Node) -> fx.Node:
        return self.nodes.shape(node)

    def modified(self, weight: fx.Node, part: Part) -> fx.Node:
        return self.nodes.modified(weight, part)

    def item(self, node: fx.Node, index: int) -> fx.Node:
        return self.nodes.item(node, index)

    def bound(
        self, node: fx.Node, low: float | Tensor, high: float | Tensor
    ) -> tuple[fx.Node, fx.Node]:
        return self.bounds.at(node, low, high, self.node)

    def call(
        self, module: nn.Module, *args: Any, suffix: str = "relevance", **kwargs: Any
    ) -> fx.Node:
        name = self.node.name
        attribute = name if suffix == "relevance" else f"{name}_{suffix}"
        return self.nodes.call(module, attribute, f"{name}_{suffix}", args, kwargs, self.node)

    def output(self) -> fx.Node:
        return self.nodes.forward(self.rectified.stand_ins.get(self.node, self.node))

    def output_is_nonnegative(self) -> bool:
        return self.node in self.rectified.stand_ins or self.facts.is_nonnegative(self.node)

    def is_only_where_positive(self) -> bool:
        return self.node in self.rectified.operands

    def parts_of(self, node: fx.Node, count: int) -> list[fx.Node]:
        return [
            self.nodes.graph.create_node(
                "call_function", operator.getitem, (node, i), name=f"{node.name}_{i}"
            )
            for i in range(count)
        ]
