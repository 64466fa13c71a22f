"""The LRP rules: immutable descriptions that contain no computation.

All rules for linear operations are instances of one formula. Let ``R`` be the relevance of the
output and ``S`` the stabilizer, and let ``z_k = W_k x_k + b_k``. Then the relevance of the input is

    R_in = sum_g c_g · sum_k s_k · x_k ⊙ W_kᵀ [ m_g ⊙ R / S( sum_k s_k z_k ) ]

``g`` runs over the groups of the rule, each with a coefficient ``c_g`` and an output mask ``m_g``.
``k`` runs over the branches of a group, each with a sign ``s_k`` and with a part of the input
(``x_k``), of the weight (``W_k``) and of the bias (``b_k``). ``R`` has the shape of the operation's
output, with the batch in front, and ``R_in`` that of its input.

A rule only returns the table of its groups and branches. ``lrp_fx.relevance.linear`` applies any
table to any linear operation, so a new rule takes a few lines:

    @dataclass(frozen=True)
    class MyRule(LinearRule):
        def table(self) -> Table:
            return (Group((Branch(FULL, PLUS, ZERO),)),)

The rules at the end of the file are for operations without weights, such as additions, pooling and
products.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lrp_fx._checks import check_nonnegative, check_number, is_int
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
    """``positive · u⁺ + negative · u⁻`` with ``u = value^power``; ones for power 0.

    ``u⁺ = max(u, 0)`` and ``u⁻ = min(u, 0)``. The result has the shape of ``value``.
    """
    if power == 0:
        return torch.ones_like(value)
    if power == 2:
        value = value.square()
    if positive == negative:
        return value if positive == 1 else value * positive
    # at zero u⁺ has the derivative 1 and u⁻ has 0, so that their sum has that of u
    if negative == 0 and positive == 1:
        return torch.where(value < 0, 0, value) if torch.is_grad_enabled() else value.clamp(min=0)
    if positive == 0 and negative == 1:
        return torch.where(value >= 0, 0, value) if torch.is_grad_enabled() else value.clamp(max=0)
    return torch.where(value < 0, value * negative, value * positive)


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


Table = tuple[Group, ...]
"""The groups of a rule: all that distinguishes one rule for linear operations from another."""


@dataclass(frozen=True)
class Rule:
    """Base class of all rules.

    ``str(rule)`` omits a stabilizer that is the default, and the values of tensors.

    Raises:
        OptionError: if a field has an invalid value.
    """

    for_nonnegative: ClassVar[bool] = False
    """Whether the rule is meant only for inputs without negative entries."""

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
            if isinstance(value, Tensor):  # its values would fill several lines
                value = f"tensor{tuple(value.shape)}"
            shown.append(f"{each.name}={value}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True)
class LinearRule(Rule):
    """Base class of the rules for linear operations.

    Linear operations are convolutions, linear layers and matrix products with a constant. A
    subclass implements :meth:`table`.

    Args:
        stabilizer: keeps the denominators away from zero.
    """

    stabilizer: Stabilizer = field(default=DEFAULT_STABILIZER, kw_only=True)

    def table(self) -> Table:
        """The groups and branches of the rule, as defined by the formula in the module docstring."""
        raise NotImplementedError


@dataclass(frozen=True, init=False)
class Epsilon(LinearRule):
    """LRP-ε: ``R_in = x ⊙ Wᵀ[R / S(Wx + b)]`` (Bach et al. 2015, eq. 58).

    Args:
        eps: replaces the ε of ``stabilizer``; None keeps it.
        stabilizer: keeps the denominator away from zero.

    Raises:
        OptionError: if ``eps`` is negative or not a number.
    """

    def __init__(
        self, eps: float | None = None, *, stabilizer: Stabilizer = DEFAULT_STABILIZER
    ) -> None:
        # ε is stored only in the stabilizer, so that there is no second copy to keep in step
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
    """LRP-0: ``R_in = x ⊙ Wᵀ[R / (Wx + b)]`` (Bach et al. 2015, eq. 56).

    This is :class:`Epsilon` with ε = 0. Where the denominator is exactly zero, the quotient is
    zero.
    """

    stabilizer: Stabilizer = field(default=Stabilizer(0.0), kw_only=True)

    def table(self) -> Table:
        return (Group((Branch(FULL, FULL, FULL),)),)


_POSITIVE = (Branch(PLUS, PLUS, PLUS), Branch(MINUS, MINUS, ZERO))
_NEGATIVE = (Branch(PLUS, MINUS, MINUS), Branch(MINUS, PLUS, ZERO))


@dataclass(frozen=True)
class ZPlus(LinearRule):
    """``R_in = x⁺ ⊙ W⁺ᵀ q + x⁻ ⊙ W⁻ᵀ q`` with ``q = R / S(W⁺x⁺ + W⁻x⁻ + b⁺)``.

    The z⁺ rule: only positive contributions receive relevance (Montavon et al. 2017). It works for
    inputs of either sign.

    Captum and the blog post of 2021 use ``W⁺x`` instead, which differs where ``x < 0``: see
    ``lrp_fx.composites.compat``.
    """

    def table(self) -> Table:
        return (Group(_POSITIVE),)


@dataclass(frozen=True)
class AlphaBeta(LinearRule):
    """``R_in = α R⁺ − β R⁻`` (Bach et al. 2015, eq. 60).

    ``R⁺``, the relevance of the positive contributions, is that of :class:`ZPlus`. ``R⁻``, the
    relevance of the negative contributions, is ``R⁻ = x⁺ ⊙ W⁻ᵀ q + x⁻ ⊙ W⁺ᵀ q`` with
    ``q = R / S(W⁻x⁺ + W⁺x⁻ + b⁻)``.

    Args:
        alpha: the weight α of the positive contributions.
        beta: the weight β of the negative contributions.

    Raises:
        OptionError: if α − β is not 1, or if α or β is negative or not a number.
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
    """``R_in = x ⊙ Vᵀ[R / S(Vx + b + γb⁺)]`` with ``V = W + γW⁺`` (Montavon et al. 2019).

    For ``x ≥ 0`` only: on inputs of either sign its denominators cross zero and the relevance
    explodes. Use :class:`GeneralizedGamma` there. Captum does not modify the bias: see
    ``lrp_fx.composites.compat``.

    Args:
        gamma: how much positive weights are favoured.

    Raises:
        OptionError: unless ``gamma`` is a finite number of at least 0.
    """

    gamma: float = 0.25
    for_nonnegative = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative("gamma", self.gamma)

    def table(self) -> Table:
        favoured = Part(1 + self.gamma, 1)
        return (Group((Branch(FULL, favoured, favoured),)),)


@dataclass(frozen=True)
class GeneralizedGamma(LinearRule):
    """The γ rule for inputs of either sign (Andéol et al. 2021).

    Let ``U = W + γW⁺`` and ``V = W + γW⁻``. Outputs ``z > 0`` favour positive contributions:
    ``R_in = x⁺ ⊙ Uᵀ q + x⁻ ⊙ Vᵀ q`` with ``q = R / S(Ux⁺ + Vx⁻ + b + γb⁺)``. Outputs ``z < 0``
    favour negative contributions: ``U`` and ``V`` change places, and ``b⁻`` takes the place of
    ``b⁺``.

    Args:
        gamma: how much contributions with the sign of the output are favoured.

    Raises:
        OptionError: unless ``gamma`` is a finite number of at least 0.
    """

    gamma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative("gamma", self.gamma)

    def table(self) -> Table:
        up, down = Part(1 + self.gamma, 1), Part(1, 1 + self.gamma)
        positive = (Branch(PLUS, up, up), Branch(MINUS, down, ZERO))
        negative = (Branch(PLUS, down, down), Branch(MINUS, up, ZERO))
        return (Group(positive, mask="positive"), Group(negative, mask="negative"))


@dataclass(frozen=True)
class ZBox(LinearRule):
    """``R_in = x ⊙ Wᵀ q − l ⊙ W⁺ᵀ q − h ⊙ W⁻ᵀ q`` with ``q = R / S(z − z_l − z_h)``.

    The zᴮ rule for the first layer on a bounded input, ``l ≤ x ≤ h`` (Montavon et al. 2017). Here
    ``z = Wx + b``, ``z_l = W⁺l + b⁺`` and ``z_h = W⁻h + b⁻``. The bounds are carried through
    padding, normalization and routing to the first linear operation.

    Args:
        low: the smallest value of the *model's input*: a number, or a tensor that broadcasts to the
            input without its batch dimension, such as (C, 1, 1) for one bound per channel.
        high: the largest value, in the same form.

    Raises:
        OptionError: if a bound is not a number or tensor, if the shapes of the bounds do not fit
            each other, or if ``low <= high`` does not hold everywhere.
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
    """``R_in = (W²)ᵀ[R / S(W²·1 + b²)]``: shares by squared weights, whatever the input values.

    The w² rule of Montavon et al. 2017. ``W²`` and ``b²`` are squares of the entries.
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
    """``R_in = W⁺ᵀ[R / S(W⁺·1)]``: shares by positive weights, whatever the input values.

    The rule for the first layer in the blog post of 2021.
    """

    def table(self) -> Table:
        return (Group((Branch(ONES, PLUS, ZERO),)),)


# Rules for operations without weights. R is the relevance of the output y, J the Jacobian ∂y/∂x.
@dataclass(frozen=True)
class Pass(Rule):
    """``R_in = R``: relevance passes unchanged, as through activations (Bach et al. 2015)."""


@dataclass(frozen=True)
class Route(Rule):
    """``R_in = Jᵀ R`` through operations that only move values (reshape, cat, slice, pad, index)."""


@dataclass(frozen=True)
class Winner(Rule):
    """Winner takes all: the relevance of a maximum goes to the entry that is the maximum.

    Used by Bach et al. 2015 and Montavon et al. 2019.

    Args:
        stabilizer: if given, the winner ``x`` gets ``x R / S(x)`` instead of ``R``, as in Captum.
    """

    stabilizer: Stabilizer | None = None


@dataclass(frozen=True)
class Proportional(Rule):
    """``R_in = x ⊙ Jᵀ[R / S(y)]`` at a sum or average ``y``: shares by the size of contributions.

    It is the ε rule (Bach et al. 2015) on the constant weights ``J`` of the operation.
    """

    stabilizer: Stabilizer = DEFAULT_STABILIZER


@dataclass(frozen=True)
class Uniform(Rule):
    """``R_in = Jᵀ[R / J1]``: shares whatever the values, and equal ones within a pooling window."""


@dataclass(frozen=True)
class ByMagnitude(Rule):
    """``R_a = R |a| / S(|a| + |b|)`` at an addition ``a + b``: shares by magnitude.

    No summand gets relevance of the opposite sign.
    """

    stabilizer: Stabilizer = DEFAULT_STABILIZER


@dataclass(frozen=True)
class Half(Rule):
    """Equal shares for the operands of an addition or for the factors of a product.

    At an addition each of the two operands gets ``R / 2``. A product of n activations counts as one
    product however it is bracketed: each factor gets ``R / n``. If a composite assigns this rule,
    gates and statistics count as factors too.

    At a matrix product ``O = A B``, ``R_A = ½ A ⊙ [R / S(O)] Bᵀ`` and ``R_B = ½ B ⊙ Aᵀ[R / S(O)]``
    (Achtibat et al. 2024, Prop. 3.3). If one operand is a gate that is no attention weight, the
    other operand gets everything.
    """

    stabilizer: Stabilizer = DEFAULT_STABILIZER


@dataclass(frozen=True)
class Gate(Rule):
    """Each of the n signals of a product gets ``R / n``; its gates and statistics get nothing.

    The signals are all factors but gates and statistics. Gates get nothing after Arras et al. 2017.
    """


@dataclass(frozen=True)
class PairwiseHalf(Rule):
    """Half to each of the two signals of a product; gates and statistics get nothing.

    The rule of AttnLRP as published (Achtibat et al. 2024, Prop. 3.3). With three or more factors
    the shares depend on the bracketing: in ``(x1 x2) x3`` they are a quarter, a quarter and a half.
    At a matrix product each operand gets half, even if it is a gate.
    """

    stabilizer: Stabilizer = DEFAULT_STABILIZER


@dataclass(frozen=True)
class Recurrent(Rule):
    """The rules for the parts of a recurrent cell, as if the cell were written out.

    If a composite assigns a plain rule for linear operations to a recurrent layer, both linear maps
    get that rule. Gates get nothing (Arras et al. 2017).

    Args:
        input: the rule for ``W_ih x + b_ih`` in the first layer.
        hidden: the rule for ``W_hh h + b_hh``, and for both linear maps in all further layers.
        addition: the rule for the sum of both maps, and for the sum of the kept and the new state.
    """

    input: LinearRule = Epsilon()
    hidden: LinearRule = Epsilon()
    addition: Proportional | ByMagnitude | Half = Proportional()


@dataclass(frozen=True)
class SoftmaxTaylor(Rule):
    """``R_in = x ⊙ (R − y ΣR)`` through a softmax ``y`` inside the model.

    The sum runs over the dimension of the softmax. Masked logits get nothing. The rule is the
    first-order Taylor expansion of the softmax (Achtibat et al. 2024, Prop. 3.1). It does not
    conserve relevance: the remainder of the expansion keeps its share.
    """


@dataclass(frozen=True)
class Nothing(Rule):
    """``R_in = 0``: nothing goes back through a softmax, so attention weights count as constants.

    The rule of CP-LRP (Ali et al. 2022).
    """


@dataclass(frozen=True)
class ValuePath(Rule):
    """All relevance goes to the values; attention weights get nothing, like every other gate.

    Several signals get equal shares. At a matrix product ``O = A V`` with attention weights ``A``,
    ``R_V = V ⊙ Aᵀ[R / S(O)]``. The rule of CP-LRP (Ali et al. 2022).
    """

    stabilizer: Stabilizer = DEFAULT_STABILIZER
