"""What the formula of linear operations works on: tables cut to an operation, and operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lrp_fx.rules import Branch, Group, Part, Table
from lrp_fx.stabilizer import may_write


@dataclass(frozen=True)
class Operands:
    """The values that a formula reads, but for the relevance; the weights by what part they are."""

    input: Tensor | None
    output: Tensor | None
    weights: Mapping[Part, Tensor]
    bias: Tensor | None
    low: Tensor | None
    high: Tensor | None
    options: dict[str, Any]

    def source(self, name: Literal["input", "low", "high"]) -> Tensor:
        """What a branch takes its part of."""
        found: Tensor | None = getattr(self, name)
        assert found is not None, name
        return found

    @property
    def dtype(self) -> torch.dtype:
        """That of the input."""
        return self.source("input").dtype


def masked_by(relevance: Tensor, group: Group, output: Tensor | None) -> Tensor:
    """The relevance of the units that a group is for."""
    if group.mask == "all":
        return relevance
    assert output is not None
    return relevance * (output > 0 if group.mask == "positive" else output < 0)


def added(total: Tensor | None, sign: float, term: Tensor, *, in_place: bool = False) -> Tensor:
    """``total + sign · term`` without needless passes; ``in_place`` where ``total`` was made for it.

    None stands for an empty sum.
    """
    if total is None:
        return term if sign == 1 else term * sign
    if in_place and may_write():
        return total.add_(term, alpha=sign)
    return total + (term if sign == 1 else term * sign)


def simplified(table: Table, *, nonnegative: bool) -> Table:
    """The table without the branches that vanish; with ``x ≥ 0`` also those in x⁻."""
    groups = []
    for group in table:
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
            groups.append(type(group)(tuple(branches), group.coefficient, group.mask))
    return tuple(groups)
