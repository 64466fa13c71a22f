"""The inputs of the formula for linear operations: its operands, and simplified tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lrp_fx.rules import Branch, Group, Part, Table, may_write


@dataclass(frozen=True)
class Operands:
    """The values that the formula reads, apart from the relevance.

    Args:
        input: the operand, (N, …).
        output: the operation's output.
        weights: the modified weights, by the part of the weight that they are.
        bias: the bias, if any.
        low: the lower bound of the input, for the zᴮ rule.
        high: the upper bound of the input, for the zᴮ rule.
        options: the other arguments of the operation: stride, padding, …
    """

    input: Tensor | None
    output: Tensor | None
    weights: Mapping[Part, Tensor]
    bias: Tensor | None
    low: Tensor | None
    high: Tensor | None
    options: dict[str, Any]

    def source(self, name: Literal["input", "low", "high"]) -> Tensor:
        """The tensor of which a branch uses a part: the input or one of its bounds."""
        found: Tensor | None = getattr(self, name)
        assert found is not None, name
        return found

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the input."""
        return self.source("input").dtype


def masked_by(relevance: Tensor, group: Group, output: Tensor | None) -> Tensor:
    """``m_g ⊙ R``: the relevance, set to zero at the units that do not belong to the group."""
    if group.mask == "all":
        return relevance
    assert output is not None
    return relevance * (output > 0 if group.mask == "positive" else output < 0)


def added(total: Tensor | None, sign: float, term: Tensor, *, in_place: bool = False) -> Tensor:
    """``total + sign · term`` with as few passes over the data as possible.

    Args:
        total: the sum so far; None for an empty sum.
        sign: the factor of ``term``.
        term: what is added.
        in_place: whether ``total`` may be overwritten.
    """
    if total is None:
        return term if sign == 1 else term * sign
    if in_place and may_write():
        return total.add_(term, alpha=sign)
    return total + (term if sign == 1 else term * sign)


def simplified(table: Table, *, nonnegative: bool, positive: bool = False) -> Table:
    """The table without what vanishes.

    Args:
        table: the table.
        nonnegative: whether the input has no negative entries: x⁻ is zero and x⁺ is x.
        positive: whether relevance arrives only where the output is positive: groups for negative
            outputs get none, and groups for positive ones get all of it.
    """
    groups = []
    for group in table:
        if positive and group.mask == "negative":
            continue
        mask = "all" if positive else group.mask
        branches = []
        for branch in group.branches:
            part = branch.input
            if nonnegative and branch.source == "input":
                part = part.of_nonnegative()
            if not part.vanishes:
                branches.append(
                    Branch(part, branch.weight, branch.bias, branch.sign, branch.source)
                )
        if branches:
            groups.append(Group(tuple(branches), group.coefficient, mask))
    return tuple(groups)
