"""Monotone functions of final probabilities: the known facts of a value between them and the result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

NEARLY_ZERO = 1e-2
"""A number added for numerical safety, as in ``log(p + 1e-6)``, shifts a range by less of its width."""


def logarithm(x: float) -> float:
    """``log x``, −∞ where ``x ≤ 0``."""
    return math.log(x) if x > 0 else -math.inf


def quotient(x: float, y: float) -> float:
    """``x / y``, infinite where ``y = 0``."""
    return x / y if y else math.copysign(math.inf, x)


MONOTONE: dict[str, Callable[[float], float]] = {
    "log": logarithm,
    "log2": lambda x: logarithm(x) / math.log(2),
    "log10": lambda x: logarithm(x) / math.log(10),
    "log1p": lambda x: logarithm(1 + x),
    "logit": lambda x: logarithm(quotient(max(x, 0), max(1 - x, 0))),
    "reciprocal": lambda x: quotient(1, x),
    "sqrt": lambda x: max(x, 0) ** 0.5,
    "square": lambda x: x * x,
}
"""Monotone functions on values that are not negative."""


@dataclass(frozen=True)
class OfProbability:
    """A monotone function of the probabilities at the same positions.

    Args:
        of: the probabilities, or a difference of two logits. Its positions are those of the value.
        way: a key that is equal for equal probabilities.
        at_zero: the value where the probability is zero.
        at_one: the value where the probability is one.
        softmax: the logits and the dimension of the underlying softmax, if its normalizer is known.
        factor: the multiple of the probability, or of its logarithm, that the value is; 0 if none.
        is_log: whether the value is a multiple of the logarithm.
        last: the names of the operations between the probabilities and the value, last first.
    """

    of: fx.Node
    way: tuple[Any, ...]
    at_zero: float
    at_one: float
    last: tuple[str, ...]
    softmax: tuple[Any, ...] = ()
    factor: float = 0.0
    is_log: bool = False

    @property
    def falls(self) -> bool:
        """Whether the value decreases where the probability increases."""
        return self.at_one < self.at_zero

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.at_zero, self.at_one)

    @property
    def width(self) -> float:
        """The largest value less the smallest."""
        return abs(self.at_one - self.at_zero)

    @property
    def is_probability(self) -> bool:
        """Whether one end is zero or infinite: ``2 p``, ``1 - p``, ``log p``, but not ``2 p - 1``."""
        return min(abs(self.at_zero), abs(self.at_one)) <= NEARLY_ZERO * self.width

    @property
    def is_positive(self) -> bool:
        """Whether it is a probability without negative values, apart from rounding."""
        return self.is_probability and self.low >= -NEARLY_ZERO * min(self.width, 1)

    def mapped(self, function: Callable[[float], float]) -> OfProbability:
        """The value of a monotone function of this value."""
        return replace(self, at_zero=function(self.at_zero), at_one=function(self.at_one), factor=0)


def scaled(value: OfProbability, scale: float, shift: float) -> OfProbability | None:
    """``scale · value + shift``."""
    if scale == 0:
        return None
    mapped = value.mapped(lambda x: scale * x + shift)
    keeps = value.is_log or abs(mapped.at_zero) <= NEARLY_ZERO * mapped.width
    return replace(mapped, factor=value.factor * scale if keeps else 0)


def through(name: str, node: fx.Node, value: OfProbability) -> OfProbability | None:
    """A function of a value, which must be a probability, or ``-p`` in ``log1p(-p)``."""
    operand = value.mapped(lambda x: 1 + x) if name == "log1p" else value
    if not operand.is_positive:
        return None
    if name == "logit" and max(value.at_zero, value.at_one) > 1 + NEARLY_ZERO:
        return None
    found = value.mapped(MONOTONE[name])
    if name in ("log", "log2", "log10") and value.factor > 0 and not value.is_log:
        return replace(found, factor=MONOTONE[name](math.e), is_log=True)
    return found


def same_probabilities(way: tuple[Any, ...], other: tuple[Any, ...]) -> int:
    """1 if two keys stand for the same probabilities, −1 for complements, 0 otherwise."""
    negated = [each[1:2] == ("negated",) for each in (way, other)]
    plain = [
        each[:1] + each[2:] if is_one else each
        for each, is_one in zip((way, other), negated, strict=True)
    ]
    if plain[0] != plain[1]:
        return 0
    return 1 if negated[0] == negated[1] else -1


def are_of_one_sum(a: OfProbability, b: OfProbability) -> bool:
    """Whether two selections of probabilities belong to the same softmaxes, position by position."""
    (first, *others), (second, *rest) = (each.way[len(each.softmax) :] or ((),) for each in (a, b))
    dim = a.softmax[-1]
    return others == rest and all(not step or step[1] == dim for step in (first, second))
