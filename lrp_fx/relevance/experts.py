"""Relevance through mixtures of experts: one product in which each group of rows has its own weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import Packet, arguments, packet_of
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.handling import Operation, Received, Site, always
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Epsilon


class GroupedProductRelevance(RelevanceNode):
    """``R_x = x ⊙ W_gᵀ[R / S(y)]`` for the rows of ``x`` that went to group ``g``: ``y = x W_g``."""

    def __init__(self, packet: Packet, rule: Epsilon, engine: Engine) -> None:
        super().__init__()
        self.packet, self.rule = packet, rule
        self.engine: Engine = engine

    def extra_repr(self) -> str:
        """The operation and the rule."""
        return f"{self.packet.__name__}, {self.rule}"

    def propagate(
        self, relevance: Tensor, output: Tensor, input: Tensor, weight: Tensor, ends: Tensor
    ) -> Tensor:
        """The relevance of the rows, (rows, features).

        Args:
            relevance: (rows, outputs).
            output: the operation's output.
            input: the rows, in the order of their groups.
            weight: (groups, features, outputs).
            ends: where each group's rows end.
        """

        def forward(x: Tensor) -> Tensor:
            # row by row, since the fused calls of libraries need not have derivatives
            rows = torch.arange(x.shape[0], device=x.device, dtype=ends.dtype)
            groups = torch.searchsorted(ends, rows, right=True)
            return (x.unsqueeze(1) @ weight[groups]).squeeze(1)

        _, pullback = linearize(
            self.engine,
            forward,
            lambda q: self.packet(q, weight.mT, ends),
            input,
            output,
        )
        return input * pullback(self.rule.stabilizer.quotient(relevance, output))

    def taken(
        self, relevance: Tensor, output: Tensor, input: Tensor, weight: Tensor, ends: Tensor
    ) -> Taken:
        """The stabilizer's share."""
        return by_stabilizer(self.rule.stabilizer, relevance, output)


def _operands(node: fx.Node) -> list[Any]:
    return [node.args[0]]


def _write(site: Site) -> Received:
    node = site.node
    packet = packet_of(node.target)
    assert packet is not None and isinstance(site.rule, Epsilon)
    input, weight, ends, *_ = arguments(node).values()
    module = GroupedProductRelevance(packet, site.rule, site.engine)
    values = site.value((node, input, weight, ends))
    return {input: [site.call(module, site.relevance, *values)]}


OPERATIONS = [
    Operation(
        name=name,
        kind="dense",
        operands=_operands,
        default=always(Epsilon()),
        alternatives=(Epsilon,),
        write=_write,
        source="the ε rule with the weight of the expert that was chosen; the choice is a constant",
    )
    for name in ("_grouped_mm", "grouped_mm_fallback")
]
