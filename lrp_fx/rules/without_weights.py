"""The rules for operations without weights, such as sums, products, pooling and softmax.

``R`` is the relevance of the output ``y``, ``R_in`` that of the operand ``x``, and ``J`` the Jacobian
``∂y/∂x``. All have the batch in front.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrp_fx.rules.base import Rule
from lrp_fx.rules.linear import Epsilon, LinearRule
from lrp_fx.rules.stabilizer import DEFAULT_STABILIZER, Stabilizer

__all__ = [
    "ByMagnitude",
    "Gate",
    "Half",
    "Nothing",
    "PairwiseHalf",
    "Pass",
    "Proportional",
    "Recurrent",
    "Route",
    "SoftmaxTaylor",
    "Uniform",
    "ValuePath",
    "Winner",
]


@dataclass(frozen=True)
class Pass(Rule):
    """``R_in = R``: relevance passes unchanged, as through activations (Bach et al. 2015)."""


@dataclass(frozen=True)
class Route(Rule):
    """``R_in = Jᵀ R`` through operations that only move values (reshape, cat, slice, pad, index)."""


@dataclass(frozen=True)
class Winner(Rule):
    """``R_i = Σ_j R_j`` over the maxima ``j`` that are the entry ``x_i``: winner takes all.

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
    """``R_in = Jᵀ[R / J1]``: shares that do not depend on the values, equal within a pooling window."""


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
    (Achtibat et al. 2024, Prop. 3.3). If one operand is a gate that is not an attention weight, the
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
    """``R_a = R_b = R / 2`` for the two signals of a product; gates and statistics get nothing.

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
