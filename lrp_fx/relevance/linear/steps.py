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
    """One step of a formula."""

    result = "new"

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula = formula

    def with_formula(self, formula: Formula) -> Self:
        """The same step of another formula."""
        twin = copy(self)
        twin.formula = formula
        return twin

    @property
    def engine(self) -> Engine:
        """Who computes adjoints."""
        return self.formula.engine

    def extra_repr(self) -> str:
        """The operation, the rule and the bias policy."""
        return str(self.formula)


class Denominators(Step):
    """The denominators ``S(Σ_k s_k z_k)`` of a rule on one linear operation."""

    books = "nothing"

    def propagate(self, **operands: Any) -> tuple[Tensor, ...]:
        """Of each group of the rule's table, of the output's shape.

        Args:
            operands: as in :meth:`Formula.operands`, those that the formula reads.
        """
        return self.formula.denominators(self.formula.operands(**operands))


class Quotient(Step):
    """The relevance of a linear operation's output over the denominators, ``q = c · m ⊙ R / z``."""

    books = "arrival"

    def propagate(
        self, relevance: Tensor, denominators: Sequence[Tensor], output: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The quotients of each group, as :meth:`Formula.quotients` returns them."""
        overwrite = self._may_overwrite()
        return self.formula.quotients(relevance, denominators, output, overwrite=overwrite)

    def taken(
        self, relevance: Tensor, denominators: Sequence[Tensor], output: Tensor | None = None
    ) -> Taken:
        """As :meth:`Formula.taken_by_quotient`."""
        return self.formula.taken_by_quotient(relevance, denominators, output)


class Share(Step):
    """The input's share of the quotients, ``R_in = Σ_g Σ_k s_k x_k ⊙ W_kᵀ q_g``."""

    books = "departure"

    def propagate(self, quotients: Sequence[Tensor], *operands: Any, **options: Any) -> Tensor:
        """The relevance of the input, of its shape.

        Args:
            quotients: of each group.
            operands: as in :meth:`Formula.operands`.
            options: likewise.
        """
        return self.formula.share(quotients, self.formula.operands(*operands, **options))

    def taken(self, quotients: Sequence[Tensor], *operands: Any, **options: Any) -> Taken:
        """As :meth:`Formula.taken_by_share`."""
        return self.formula.taken_by_share(quotients, self.formula.operands(*operands, **options))
