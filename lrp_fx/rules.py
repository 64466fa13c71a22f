"""The LRP rules: frozen descriptions that compute nothing.

Every rule for a linear operation is one formula. With ``z_k = W_k x_k + b_k``, the stabilizer ``S``
and the relevance ``R`` of the output,

    R_in = sum_g c_g · sum_k s_k · x_k ⊙ W_kᵀ [ m_g ⊙ R / S( sum_k s_k z_k ) ]

where ``g`` runs over groups (coefficient ``c``, output mask ``m``) and ``k`` over the branches of a
group (sign ``s``, a part of the input, of the weight and of the bias). A rule returns that table;
``lrp_fx.relevance.linear`` executes any table on any linear operation, so a new rule is a few lines:

    @dataclass(frozen=True)
    class MyRule(LinearRule):
        def table(self) -> Table:
            return (Group((Branch(FULL, PLUS, ZERO),)),)

The rules at the end of the file are for the operations that have no weights (adds, pools, products).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lrp_fx._checks import check_number
from lrp_fx.errors import OptionError
from lrp_fx.stabilizer import DEFAULT_STABILIZER, Stabilizer

__all__ = [
    "FULL",
    "MINUS",
    "ONES",
    "PLUS",
    "SQUARE",
    "ZERO",
    "AlphaBeta",
    "Branch",
    "ByMagnitude",
    "Epsilon",
    "Flat",
    "Gamma",
    "Gate",
    "GeneralizedGamma",
    "Group",
    "Half",
    "LinearRule",
    "Nothing",
    "PairwiseHalf",
    "Part",
    "Pass",
    "Proportional",
    "Recurrent",
    "Route",
    "Rule",
    "SoftmaxTaylor",
    "Table",
    "Uniform",
    "ValuePath",
    "WPlus",
    "WSquare",
    "Winner",
    "ZBox",
    "ZPlus",
    "Zero",
]


def part_of(value: Tensor, positive: float, negative: float, power: int = 1) -> Tensor:
    """``positive · (v⁺)^power + negative · (v⁻)^power``, of the shape of ``value``; ones for power 0."""
    if power == 0:
        return torch.ones_like(value)
    if power == 2:
        value = value.square()
    if positive == negative:
        return value if positive == 1 else value * positive
    if negative == 0 and positive == 1:
        return value.clamp(min=0)
    if positive == 0 and negative == 1:
        return value.clamp(max=0)
    return value.clamp(min=0) * positive + value.clamp(max=0) * negative


@dataclass(frozen=True)
class Part:
    """A part of a tensor: ``positive · (v⁺)^power + negative · (v⁻)^power``; ones for power 0."""

    positive: float
    negative: float
    power: int = 1

    def of(self, value: Tensor) -> Tensor:
        """The part of ``value``, of its shape."""
        return part_of(value, self.positive, self.negative, self.power)

    @property
    def vanishes(self) -> bool:
        """True when the part of every tensor is zero."""
        return self.power != 0 and self.positive == 0 and self.negative == 0

    @property
    def sign(self) -> int:
        """+1 when no part has negative entries, −1 when none has positive ones, 0 for either."""
        if self.power != 1:
            return 1 if min(self.positive, self.negative) >= 0 else 0
        if self.negative == 0 and self.positive >= 0:
            return 1
        return -1 if self.positive == 0 and self.negative >= 0 else 0

    @property
    def is_one_sided(self) -> bool:
        """True when the part has no entries of one of the two signs."""
        return self.power == 1 and (self.positive == 0) != (self.negative == 0)

    def of_nonnegative(self) -> Part:
        """The same part, written for a tensor that is known to have no negative entries."""
        return Part(self.positive, self.positive, self.power) if self.power else self


FULL, PLUS, MINUS, ZERO = Part(1, 1), Part(1, 0), Part(0, 1), Part(0, 0)
SQUARE, ONES = Part(1, 1, power=2), Part(1, 1, power=0)


@dataclass(frozen=True)
class Branch:
    """One term ``sign · (W_k x_k + b_k)`` of a denominator.

    ``source`` is what ``input`` takes its part of: the input itself or a bound of the z-box rule.
    """

    input: Part
    weight: Part
    bias: Part
    sign: float = 1.0
    source: Literal["input", "low", "high"] = "input"

    @property
    def is_forward(self) -> bool:
        """True when the term is the operation's own output."""
        return (
            self.input == self.weight == self.bias == FULL
            and self.sign == 1
            and self.source == "input"
        )


@dataclass(frozen=True)
class Group:
    """Branches that share one denominator; ``mask`` keeps outputs by the sign of the true ``z``."""

    branches: tuple[Branch, ...]
    coefficient: float = 1.0
    mask: Literal["all", "positive", "negative"] = "all"


Table = tuple[Group, ...]


@dataclass(frozen=True)
class Rule:
    """Base of all rules; ``str(rule)`` leaves out the default's stabilizer and the values of tensors.

    Raises:
        OptionError: for a value that a field cannot have.
    """

    for_nonnegative: ClassVar[bool] = False
    """Whether the rule is only for inputs without negative entries."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            missing = value is None and each.default is None
            if each.name == "stabilizer" and not missing and not isinstance(value, Stabilizer):
                raise OptionError(f"the stabilizer of a rule must be a Stabilizer, got {value!r}")

    def __str__(self) -> str:
        shown = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "stabilizer" and value == each.default:
                continue
            if isinstance(value, Tensor):  # of many values, in several lines
                value = f"tensor{tuple(value.shape)}"
            shown.append(f"{each.name}={value}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True)
class LinearRule(Rule):
    """Base of the rules for linear operations: convolutions, linear, matmul with a constant."""

    stabilizer: Stabilizer = field(default=DEFAULT_STABILIZER, kw_only=True)

    def table(self) -> Table:
        """The groups and branches of the rule (see the module's formula)."""
        raise NotImplementedError


@dataclass(frozen=True, init=False)
class Epsilon(LinearRule):
    """``R_in = x ⊙ Wᵀ[R / S(Wx + b)]`` (Bach et al. 2015, eq. 58).

    Args:
        eps: the ε of the stabilizer, instead of its own; None for its own.
        stabilizer: what keeps the denominator away from zero.
    """

    def __init__(
        self, eps: float | None = None, *, stabilizer: Stabilizer = DEFAULT_STABILIZER
    ) -> None:
        # ε is kept once, in the stabilizer: two copies of it would have to agree
        object.__setattr__(self, "stabilizer", stabilizer)
        self.__post_init__()
        if eps is not None:
            object.__setattr__(self, "stabilizer", replace(stabilizer, eps=eps))

    @property
    def eps(self) -> float:
        """The ε of the stabilizer."""
        return self.stabilizer.eps

    def __str__(self) -> str:
        return f"Epsilon(eps={self.eps})" if self.stabilizer.signed else repr(self)

    def table(self) -> Table:
        return (Group((Branch(FULL, FULL, FULL),)),)


@dataclass(frozen=True)
class Zero(LinearRule):
    """LRP-0: :class:`Epsilon` with ε = 0 (Bach et al. 2015, eq. 56)."""

    stabilizer: Stabilizer = field(default=Stabilizer(0.0), kw_only=True)

    def table(self) -> Table:
        return (Group((Branch(FULL, FULL, FULL),)),)


_POSITIVE = (Branch(PLUS, PLUS, PLUS), Branch(MINUS, MINUS, ZERO))
_NEGATIVE = (Branch(PLUS, MINUS, MINUS), Branch(MINUS, PLUS, ZERO))


@dataclass(frozen=True)
class ZPlus(LinearRule):
    """``R_in = x⁺ ⊙ W⁺ᵀ q + x⁻ ⊙ W⁻ᵀ q`` with ``q = R / S(x⁺W⁺ + x⁻W⁻ + b⁺)``.

    Positive contributions only (Montavon et al. 2017), for inputs of either sign.

    Captum and the blog post of 2021 use ``x W⁺`` instead, which differs where ``x < 0``: see
    ``lrp_fx.composites.compat``.
    """

    def table(self) -> Table:
        return (Group(_POSITIVE),)


@dataclass(frozen=True)
class AlphaBeta(LinearRule):
    """``R_in = α R⁺ − β R⁻`` (Bach et al. 2015, eq. 60).

    ``R⁺`` is :class:`ZPlus`, the shares of the positive contributions; ``R⁻`` are those of the negative
    ones, ``x⁺ ⊙ W⁻ᵀ q + x⁻ ⊙ W⁺ᵀ q`` with ``q = R / S(x⁺W⁻ + x⁻W⁺ + b⁻)``.

    Args:
        alpha: the weight of the positive contributions.
        beta: that of the negative ones.

    Raises:
        OptionError: if α − β is not 1 or either is negative.
    """

    alpha: float = 2.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha)
        check_number("beta", self.beta)
        is_one = abs(self.alpha - self.beta - 1) <= 1e-9
        if not (self.alpha >= 0 and self.beta >= 0 and is_one):
            raise OptionError(
                f"AlphaBeta needs alpha, beta >= 0 and alpha - beta = 1, got {self.alpha}, {self.beta}"
            )

    def table(self) -> Table:
        positive = Group(_POSITIVE, coefficient=self.alpha)
        if self.beta == 0:
            return (positive,)
        return (positive, Group(_NEGATIVE, coefficient=-self.beta))


@dataclass(frozen=True)
class Gamma(LinearRule):
    """``x (W + γW⁺) + b + γb⁺`` (Montavon et al. 2019). For ``x ≥ 0`` only: on signed inputs its
    denominators cross zero and the relevance explodes; use :class:`GeneralizedGamma` there.

    Captum leaves the bias plain (``b``): see ``lrp_fx.composites.compat``.
    """

    gamma: float = 0.25
    for_nonnegative = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gamma", self.gamma)

    def table(self) -> Table:
        favoured = Part(1 + self.gamma, 1)
        return (Group((Branch(FULL, favoured, favoured),)),)


@dataclass(frozen=True)
class GeneralizedGamma(LinearRule):
    """Gamma for inputs of either sign (Andéol et al. 2021).

    Where the output is positive, positive contributions are favoured by γ,
    ``q = R / S(x⁺(W + γW⁺) + x⁻(W + γW⁻) + b + γb⁺)``, and ``R_in`` has the same weights; where it is
    negative, ``W⁺`` and ``W⁻``, ``b⁺`` and ``b⁻`` change places.

    Args:
        gamma: how much they are favoured.
    """

    gamma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gamma", self.gamma)

    def table(self) -> Table:
        up, down = Part(1 + self.gamma, 1), Part(1, 1 + self.gamma)
        positive = (Branch(PLUS, up, up), Branch(MINUS, down, ZERO))
        negative = (Branch(PLUS, down, down), Branch(MINUS, up, ZERO))
        return (Group(positive, mask="positive"), Group(negative, mask="negative"))


@dataclass(frozen=True)
class ZBox(LinearRule):
    """zᴮ, for a first layer on a bounded input: ``xW − l W⁺ − h W⁻`` (Montavon et al. 2017).

    Args:
        low: the smallest value of the *model's input*: a number, or a tensor that broadcasts to the
            input without its batch dimension, such as (C, 1, 1) for one bound per channel.
        high: the largest value, likewise.

    The bounds are carried through padding, normalisation and routing to the layer itself.
    """

    low: float | Tensor = 0.0
    high: float | Tensor = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for bound in (self.low, self.high):
            if not isinstance(bound, Tensor):
                check_number("a bound of ZBox", bound)
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        try:
            ordered = bool((low <= high).all())
        except RuntimeError as error:
            raise OptionError(f"the bounds of ZBox have shapes that do not fit: {error}") from error
        if not ordered:
            raise OptionError(f"ZBox needs low <= high, got {self.low} and {self.high}")

    def table(self) -> Table:
        return (
            Group(
                (
                    Branch(FULL, FULL, FULL),
                    Branch(FULL, PLUS, PLUS, sign=-1.0, source="low"),
                    Branch(FULL, MINUS, MINUS, sign=-1.0, source="high"),
                )
            ),
        )


@dataclass(frozen=True)
class WSquare(LinearRule):
    """``R_in = (W²)ᵀ[R / S(W²·1 + b²)]``: shares by squared weights, whatever the input.

    The w² rule of Montavon et al. 2017.
    """

    def table(self) -> Table:
        return (Group((Branch(ONES, SQUARE, SQUARE),)),)


@dataclass(frozen=True)
class Flat(LinearRule):
    """``R_in = 1ᵀ[R / n]``: equal shares to all ``n`` inputs of a unit.

    Bach et al. 2015; Lapuschkin et al. 2019.
    """

    def table(self) -> Table:
        return (Group((Branch(ONES, ONES, ZERO),)),)


@dataclass(frozen=True)
class WPlus(LinearRule):
    """``R_in = W⁺ᵀ[R / S(W⁺·1)]``: shares by positive weights, whatever the input.

    The first layer of the blog post of 2021.
    """

    def table(self) -> Table:
        return (Group((Branch(ONES, PLUS, ZERO),)),)


# Rules for operations without weights.
@dataclass(frozen=True)
class Pass(Rule):
    """``R_in = R``: the relevance itself, through activations and normalisation."""


@dataclass(frozen=True)
class Route(Rule):
    """``R_in = Jᵀ R`` through operations that only move values: reshape, cat, slice, pad, index."""


@dataclass(frozen=True)
class Winner(Rule):
    """Winner takes all: the relevance of a maximum goes to the entry that is the maximum.

    Args:
        stabilizer: when given, the winner gets ``x R / S(x)`` instead of ``R`` (Captum's form).
    """

    stabilizer: Stabilizer | None = None


@dataclass(frozen=True)
class Proportional(Rule):
    """``R_in = x ⊙ Jᵀ[R / S(y)]``: shares in proportion to the contributions to sum or average."""

    stabilizer: Stabilizer = DEFAULT_STABILIZER


@dataclass(frozen=True)
class Uniform(Rule):
    """``R_in = Jᵀ[R / J1]``: equal shares to all entries of a pooling window."""


@dataclass(frozen=True)
class ByMagnitude(Rule):
    """``R_a = R |a| / S(|a| + |b|)`` at an addition: shares by magnitude, never of opposite sign."""

    stabilizer: Stabilizer = DEFAULT_STABILIZER


@dataclass(frozen=True)
class Half(Rule):
    """Equal shares to the operands of an addition or to the factors of a product.

    A product of n activations is one product whatever its bracketing: 1/n to each factor, gates and
    statistics too where a composite assigns the rule. Through a matrix product ``O = A B`` it is
    ``R_A = A ⊙ [R / S(2 O)] Bᵀ``, likewise ``R_B`` (Achtibat et al. 2024, Prop. 3.3); beside a gate that
    is no attention, all goes to the value.
    """

    stabilizer: Stabilizer = DEFAULT_STABILIZER


@dataclass(frozen=True)
class Gate(Rule):
    """Gates and statistics of a product get nothing (Arras et al. 2017), each of n signals 1/n."""


@dataclass(frozen=True)
class PairwiseHalf(Rule):
    """Gates and statistics get nothing; two signals of a product of two get half each.

    AttnLRP's rule as published (Achtibat et al. 2024, Prop. 3.3). For three factors and more it depends
    on the bracketing: of ``(x1 x2) x3`` a quarter, a quarter and a half. A matrix product gives half to
    each operand, gates too.
    """

    stabilizer: Stabilizer = DEFAULT_STABILIZER


@dataclass(frozen=True)
class Recurrent(Rule):
    """The rules of the parts of a recurrent cell, each as in a cell that is written out.

    A plain rule for linear operations stands for both maps.

    Args:
        input: of ``W_ih x + b_ih`` in the first layer.
        hidden: of ``W_hh h + b_hh``, and of every map in the layers above.
        addition: of the sums of both maps, and of the kept and the new state.
    """

    input: LinearRule = Epsilon()
    hidden: LinearRule = Epsilon()
    addition: Proportional | ByMagnitude | Half = Proportional()


@dataclass(frozen=True)
class SoftmaxTaylor(Rule):
    """``R_in = x ⊙ (R − y ΣR)`` through a softmax inside the model; masked logits get nothing.

    The first-order Taylor expansion of the softmax (Achtibat et al. 2024, Prop. 3.1). It does not
    conserve by itself: its remainder is the softmax' value at zero.
    """


@dataclass(frozen=True)
class Nothing(Rule):
    """The operation gets no relevance: through a softmax, attention weights are constants.

    CP-LRP (Ali et al. 2022).
    """


@dataclass(frozen=True)
class ValuePath(Rule):
    """Weights of attention get nothing, as every other gate does (Ali et al. 2022).

    The values get all; of several signals, each an equal share.
    """

    stabilizer: Stabilizer = DEFAULT_STABILIZER
