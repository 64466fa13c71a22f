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
    """``R_in = x ⊙ (R − y ΣR)`` along the softmax' dimension.

    Where the softmax is exactly zero, as it is for masked logits, whether by −∞ or a large number, there
    is nothing to get.
    """

    result = "new"

    def propagate(self, relevance: Tensor, input: Tensor, output: Tensor, dim: int) -> Tensor:
        """The relevance of the logits, of their shape."""
        total = relevance.sum(dim, keepdim=True)
        if may_write():
            share = torch.addcmul(relevance, output, total, value=-1)
            return share.mul_(input).masked_fill_(output == 0, 0)
        # the logits are masked, and not their relevance, in whose derivative they would be ∞ · 0
        return input.masked_fill(output == 0, 0) * (relevance - output * total)

    def taken(self, relevance: Tensor, input: Tensor, output: Tensor, dim: int) -> Taken:
        """``Σ_j R_j (1 − x_j + Σ_i x_i y_i)``: the softmax less its linear part, per unit of it."""
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
