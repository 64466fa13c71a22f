"""The rules for linear operations; each is a table for the formula in :mod:`lrp_fx.rules`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lrp_fx._common import check_nonnegative, check_number
from lrp_fx.errors import OptionError
from lrp_fx.rules.base import Rule
from lrp_fx.rules.stabilizer import DEFAULT_STABILIZER, Stabilizer
from lrp_fx.rules.tables import FULL, MINUS, ONES, PLUS, SQUARE, ZERO, Branch, Group, Part, Table

__all__ = [
    "AlphaBeta",
    "Epsilon",
    "Flat",
    "Gamma",
    "GeneralizedGamma",
    "LinearRule",
    "WPlus",
    "WSquare",
    "ZBox",
    "ZPlus",
    "Zero",
]


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
        """The groups and branches of the rule, as defined by the formula in :mod:`lrp_fx.rules`."""
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
    """``R_in = (W²)ᵀ[R / S(W²·1 + b²)]``: shares by squared weights, for any input values.

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
    """``R_in = W⁺ᵀ[R / S(W⁺·1)]``: shares by positive weights, for any input values.

    The rule for the first layer in the blog post of 2021.
    """

    def table(self) -> Table:
        return (Group((Branch(ONES, PLUS, ZERO),)),)
