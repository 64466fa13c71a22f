"""Relevance through mixtures of experts: matrix products with one weight per group of rows."""

from __future__ import annotations

import torch
from torch import Tensor

from lrp_fx.graph import Packet, arguments, called
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.handling import Operation, Received, Site, always, first
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

        def adjoint(q: Tensor) -> Tensor:
            return self.packet(q, weight.mT, ends)

        _, pullback = linearize(self.engine, forward, adjoint, input, output)
        return input * pullback(self.rule.stabilizer.quotient(relevance, output))

    def taken(self, relevance: Tensor, output: Tensor, *operands: Tensor) -> Taken:
        """The share of the stabilizer."""
        return by_stabilizer(self.rule.stabilizer, relevance, output)


def _write(site: Site) -> Received:
    assert isinstance(site.rule, Epsilon)
    input, weight, ends, *_ = arguments(site.node).values()
    module = GroupedProductRelevance(called(site.node), site.rule, site.engine)
    values = site.value((site.node, input, weight, ends))
    return {input: [site.call(module, site.relevance, *values)]}


OPERATIONS = [
    Operation(
        name=name,
        kind="dense",
        operands=first,
        default=always(Epsilon()),
        alternatives=(Epsilon,),
        write=_write,
        source="the ε rule with the weight of the expert that was chosen; the choice is a constant",
    )
    for name in ("_grouped_mm", "grouped_mm_fallback")
]
