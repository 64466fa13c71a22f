"""Tables of rules for linear operations: groups of branches, which name parts of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lrp_fx._common import is_int, make_plain
from lrp_fx.errors import OptionError

__all__ = ["FULL", "MINUS", "ONES", "PLUS", "SQUARE", "ZERO", "Branch", "Group", "Part", "Table"]


def part_of(value: Tensor, positive: float, negative: float, power: int = 1) -> Tensor:
    """``positive · u⁺ + negative · u⁻`` with ``u = value^power``; ones for power 0.

    ``u⁺ = max(u, 0)`` and ``u⁻ = min(u, 0)``. The result has the shape of ``value``.
    """
    if power == 0:
        return torch.ones_like(value)
    if power == 2:
        value = value.square()
    if positive == negative:
        return value if positive == 1 else value * positive
    if not torch.is_grad_enabled():
        return _without_gradient(value, positive, negative)
    # at zero u⁺ has the derivative 1 and u⁻ has 0, so that their sum has that of u
    if negative == 0 and positive == 1:
        return torch.where(value < 0, 0, value)
    if positive == 0 and negative == 1:
        return torch.where(value >= 0, 0, value)
    return torch.where(value < 0, value * negative, value * positive)


def _without_gradient(value: Tensor, positive: float, negative: float) -> Tensor:
    """:func:`part_of` for power 1 and two factors: few passes over memory, which is what it costs."""
    if negative == 0:
        return _scaled(value.clamp(min=0), positive)
    if positive == 0:
        return _scaled(value.clamp(max=0), negative)
    # of the two products the one with the factor of the entry's sign is the larger, or the smaller
    choose = torch.maximum if positive > negative else torch.minimum
    return choose(_scaled(value, positive), _scaled(value, negative))


def _scaled(value: Tensor, factor: float) -> Tensor:
    return value if factor == 1 else value * factor


@dataclass(frozen=True)
class Part:
    """A part of a tensor ``v``: ``positive · u⁺ + negative · u⁻`` with ``u = v^power``.

    ``u⁺ = max(u, 0)`` and ``u⁻ = min(u, 0)``. For power 0 it is a tensor of ones.

    Args:
        positive: the factor of ``u⁺``.
        negative: the factor of ``u⁻``.
        power: 0, 1 or 2.

    Raises:
        OptionError: for another power.
    """

    positive: float
    negative: float
    power: int = 1

    def __post_init__(self) -> None:
        make_plain(self)
        if not is_int(self.power) or self.power not in (0, 1, 2):
            raise OptionError(f"the power of a part must be 0, 1 or 2, got {self.power!r}")

    def of(self, value: Tensor) -> Tensor:
        """This part of ``value``, in the shape of ``value``."""
        return part_of(value, self.positive, self.negative, self.power)

    @property
    def vanishes(self) -> bool:
        """True if this part of every tensor is zero."""
        return self.power != 0 and self.positive == 0 and self.negative == 0

    @property
    def sign(self) -> int:
        """+1 if the part has no negative entries, −1 if no positive ones, 0 if it may have both."""
        if self.power != 1:
            return 1 if min(self.positive, self.negative) >= 0 else 0
        if self.negative == 0 and self.positive >= 0:
            return 1
        return -1 if self.positive == 0 and self.negative >= 0 else 0

    @property
    def is_one_sided(self) -> bool:
        """True if the part consists of the positive or of the negative entries only."""
        return self.power == 1 and (self.positive == 0) != (self.negative == 0)

    def of_nonnegative(self) -> Part:
        """The part that gives the same result for any tensor without negative entries."""
        return Part(self.positive, self.positive, self.power) if self.power else self


FULL, PLUS, MINUS, ZERO = Part(1, 1), Part(1, 0), Part(0, 1), Part(0, 0)
SQUARE, ONES = Part(1, 1, power=2), Part(1, 1, power=0)


@dataclass(frozen=True)
class Branch:
    """One term ``sign · (W_k x_k + b_k)`` of a denominator.

    Args:
        input: the part of ``source`` that serves as ``x_k``.
        weight: the part of the weight that serves as ``W_k``.
        bias: the part of the bias that serves as ``b_k``.
        sign: the factor of the term.
        source: the operation's input, or the lower or upper bound of :class:`ZBox`.
    """

    input: Part
    weight: Part
    bias: Part
    sign: float = 1.0
    source: Literal["input", "low", "high"] = "input"

    def __post_init__(self) -> None:
        make_plain(self)

    @property
    def is_forward(self) -> bool:
        """True if the term equals the operation's own output."""
        return (
            self.input == self.weight == self.bias == FULL
            and self.sign == 1
            and self.source == "input"
        )


@dataclass(frozen=True)
class Group:
    """Branches that share one denominator.

    Args:
        branches: the terms of the denominator.
        coefficient: the factor of the group in ``R_in``.
        mask: the outputs whose relevance the group receives: all of them, or those where the
            operation's own output is positive, or negative.
    """

    branches: tuple[Branch, ...]
    coefficient: float = 1.0
    mask: Literal["all", "positive", "negative"] = "all"

    def __post_init__(self) -> None:
        make_plain(self)


Table = tuple[Group, ...]
"""The groups of a rule: all that distinguishes one rule for linear operations from another."""
