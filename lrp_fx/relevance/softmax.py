"""Relevance through a softmax inside the model, and through its logarithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import arguments, names_where
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, always, first
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Nothing, Proportional, Rule, SoftmaxTaylor, may_write

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


class LogSoftmaxRelevance(RelevanceNode):
    """``R_i = x_i q_i − p_i ℓ Σ_j q_j`` with ``q = R / S(y)``, for ``y = x − ℓ``, ``ℓ = log Σ exp x``.

    ``p`` is the softmax. It is the ε rule (Bach et al. 2015) on the difference, and then on the sum
    of exponentials, whose logarithm passes what comes.

    Args:
        rule: the rule for sums.
    """

    result = "new"

    def __init__(self, rule: Proportional) -> None:
        super().__init__()
        self.rule = rule

    def propagate(self, relevance: Tensor, input: Tensor, output: Tensor, dim: int) -> Tensor:
        """The relevance of the logits, of their shape.

        Args:
            relevance: the relevance of the log-softmax.
            input: the logits ``x``.
            output: the log-softmax ``y``.
            dim: the dimension of the softmax.
        """
        quotient = self.rule.stabilizer.quotient(relevance, output)
        logarithm = (input - output).mean(dim, keepdim=True)
        return input * quotient - output.exp() * logarithm * quotient.sum(dim, keepdim=True)

    def taken(self, relevance: Tensor, input: Tensor, output: Tensor, dim: int) -> Taken:
        """The share of the stabilizer."""
        return by_stabilizer(self.rule.stabilizer, relevance, output)


def _receivers(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    return [] if isinstance(rule, Nothing) else first(node)


def _write(site: Site) -> Received:
    (operand,) = first(site.node)
    values = site.value(operand), site.value(site.node), arguments(site.node)["dim"]
    return {operand: [site.call(SoftmaxRelevance(), site.relevance, *values)]}


def _write_logarithm(site: Site) -> Received:
    assert isinstance(site.rule, Proportional)
    (operand,) = first(site.node)
    values = site.value(operand), site.value(site.node), arguments(site.node)["dim"]
    return {operand: [site.call(LogSoftmaxRelevance(site.rule), site.relevance, *values)]}


OPERATIONS = [
    *(
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
    ),
    *(
        Operation(
            name=name,
            kind="sum",
            operands=first,
            default=always(Proportional()),
            alternatives=(Proportional,),
            write=_write_logarithm,
            source="x − log Σ exp x: the ε rule on the difference, then on the sum",
        )
        for name in ("log_softmax", "_log_softmax")
    ),
]
