"""The three relevance nodes of a linear operation: denominators, quotient, share."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

from torch import Tensor

from lrp_fx.relevance.causes import Taken
from lrp_fx.relevance.engines import Engine
from lrp_fx.relevance.linear.formula import Formula
from lrp_fx.relevance.node import RelevanceNode


class Step(RelevanceNode):
    """Base class of the three steps ``d_g → q_g → R_in`` of the formula for linear operations.

    The module :mod:`lrp_fx.relevance.linear.formula` has the formulas.

    Args:
        formula: the formula.
    """

    result = "new"

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula = formula

    def with_formula(self, formula: Formula) -> Self:
        """A copy of this step with another formula."""
        twin = copy(self)
        twin.formula = formula
        return twin

    @property
    def engine(self) -> Engine:
        """The engine that computes adjoints."""
        return self.formula.engine

    def extra_repr(self) -> str:
        """The operation, the rule and the bias policy."""
        return str(self.formula)


class Denominators(Step):
    """Step 1: ``d_g = S(Σ_k s_k z_k)`` with ``z_k = W_k x_k + b_k``. It reads no relevance."""

    books = "nothing"

    def propagate(self, **operands: Any) -> tuple[Tensor, ...]:
        """The denominator of each group of the rule's table, of the output's shape.

        Args:
            operands: those arguments of :meth:`Formula.operands` that the formula reads.
        """
        return self.formula.denominators(self.formula.operands(**operands))


class Quotient(Step):
    """Step 2: ``q_g = c_g · m_g ⊙ R / d_g``, the relevance of the output over the denominators."""

    books = "arrival"

    def propagate(
        self, relevance: Tensor, denominators: Sequence[Tensor], output: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The quotient of each group, of the output's shape; see :meth:`Formula.quotients`.

        It has the operation's own dtype, also if later operations promoted its output to another.
        """
        relevance = relevance.to(denominators[0].dtype)
        overwrite = self._may_overwrite()
        return self.formula.quotients(relevance, denominators, output, overwrite=overwrite)

    def taken(
        self, relevance: Tensor, denominators: Sequence[Tensor], output: Tensor | None = None
    ) -> Taken:
        """See :meth:`Formula.taken_by_quotient`."""
        return self.formula.taken_by_quotient(relevance, denominators, output)


class Share(Step):
    """Step 3: ``R_in = Σ_g Σ_k s_k x_k ⊙ W_kᵀ q_g``, the relevance of the input."""

    books = "departure"

    def propagate(self, quotients: Sequence[Tensor], *operands: Any, **options: Any) -> Tensor:
        """The relevance of the input, of its shape.

        Args:
            quotients: the quotient of each group.
            operands: positional arguments of :meth:`Formula.operands`.
            options: keyword arguments of :meth:`Formula.operands`.
        """
        return self.formula.share(quotients, self.formula.operands(*operands, **options))

    def taken(self, quotients: Sequence[Tensor], *operands: Any, **options: Any) -> Taken:
        """See :meth:`Formula.taken_by_share`."""
        return self.formula.taken_by_share(quotients, self.formula.operands(*operands, **options))
