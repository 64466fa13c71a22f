"""Relevance through mixtures of experts: matrix products with one weight per group of rows."""

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
    """``R_x = x ⊙ [R / S(y)] W_gᵀ`` with ``y = x W_g`` for the rows ``x`` of group ``g``.

    The ε rule (Bach et al. 2015) with the weight of the chosen expert; the choice is a constant.

    Args:
        packet: the operation.
        rule: the ε rule.
        engine: the engine that computes the adjoint.
    """

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
            relevance: the relevance of the output, (rows, outputs).
            output: the output ``y``, (rows, outputs).
            input: the rows ``x`` in the order of their groups, (rows, features).
            weight: the weights, (groups, features, outputs).
            ends: the row at which each group ends, (groups,).
        """

        def forward(x: Tensor) -> Tensor:
            # one product per row, because the fused operations may have no derivative
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
        """The share of the stabilizer."""
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
