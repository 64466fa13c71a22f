"""Relevance through a softmax inside the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import arguments, names_where
from lrp_fx.relevance.causes import Taken
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, always, first
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Nothing, Rule, SoftmaxTaylor
from lrp_fx.stabilizer import may_write

NAMES = sorted(names_where(lambda row: row.normalizes and row.is_nonnegative))


class SoftmaxRelevance(RelevanceNode):
    """``R_in = x ⊙ (R − y ΣR)`` with the logits ``x`` and the softmax ``y`` over the same dimension.

    Source: Achtibat et al. 2024, Prop. 3.1. Logits whose softmax is exactly zero get nothing. These
    are the logits that were masked by −∞ or by a large negative number.
    """

    result = "new"

    def propagate(self, relevance: Tensor, input: Tensor, output: Tensor, dim: int) -> Tensor:
        """The relevance of the logits, of their shape.

        Args:
            relevance: the relevance ``R`` of the softmax.
            input: the logits ``x``.
            output: the softmax ``y``.
            dim: the dimension of the softmax.
        """
        total = relevance.sum(dim, keepdim=True)
        if may_write():
            share = torch.addcmul(relevance, output, total, value=-1)
            return share.mul_(input).masked_fill_(output == 0, 0)
        # mask the logits and not the product, whose derivative would contain ∞ · 0
        return input.masked_fill(output == 0, 0) * (relevance - output * total)

    def taken(self, relevance: Tensor, input: Tensor, output: Tensor, dim: int) -> Taken:
        """``ΣR − ΣR_in = Σ_j R_j (1 − x_j + Σ_i x_i y_i)``, the remainder of the expansion."""
        logits = input.masked_fill(output == 0, 0)
        linear = logits - (logits * output).sum(dim, keepdim=True)
        return {"linearization": (relevance * (1 - linear)).sum()}


def _receivers(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    return [] if isinstance(rule, Nothing) else first(node)


def _write(site: Site) -> Received:
    (operand,) = first(site.node)
    values = site.value(operand), site.value(site.node), arguments(site.node)["dim"]
    return {operand: [site.call(SoftmaxRelevance(), site.relevance, *values)]}


OPERATIONS = [
    Operation(
        name=name,
        kind="softmax",
        operands=first,
        default=always(SoftmaxTaylor()),
        alternatives=(SoftmaxTaylor, Nothing),
        receivers=_receivers,
        write=_write,
        source="Achtibat et al. 2024, Prop. 3.1; Nothing: Ali et al. 2022",
    )
    for name in NAMES
]
