"""Relevance through statistics: functions of a sum of terms, whose terms share the relevance.

A norm, a standard deviation, or a logarithm of summed exponentials is ``y = g(Σ_i t_i)``. The
function ``g`` of one value passes relevance on, and the sum shares it out in proportion to its
terms: the ε rule (Bach et al. 2015) with weights of one.

    norm of order p:    t_i = |x_i|^p
    var, std:           t_i = x_i (x_i − m), with the mean m
    logsumexp:          t_i = exp x_i

The terms of a variance are those of ``Σ (x_i − m)²`` after the difference has shared its relevance
out: ``m`` gets ``−m Σ (x_i − m) = 0``. For norms and variances ``t_i`` is proportional to the
contribution ``x_i ∂y/∂x_i``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.graph import arguments, as_tuple, literal, name_of, where
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.handling import Operation, Received, Site, always, first
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Proportional

Terms = Callable[[Tensor, list[int], float], Tensor]
"""A function from the operand, the dimensions and the order of a norm to the terms."""


def _exponentials(x: Tensor, dims: list[int], order: float) -> Tensor:
    """``exp(x − max x)``: the shares are the same, and nothing overflows."""
    largest = x.detach().amax(dims, keepdim=True)
    return (x - largest.masked_fill(largest.isinf(), 0)).exp()


def _deviations(x: Tensor, dims: list[int], order: float) -> Tensor:
    return x * (x - x.mean(dims, keepdim=True))


def _powers(x: Tensor, dims: list[int], order: float) -> Tensor:
    if math.isinf(order):  # equally to all entries that are the largest, or the smallest
        extremum = (x.abs().amax if order > 0 else x.abs().amin)(dims, keepdim=True)
        return (x.abs() == extremum).to(x.dtype)
    if order == 0:  # the number of entries that are not zero
        return (x != 0).to(x.dtype)
    if order == 2:
        return x * x
    size = x.abs()
    return size if order == 1 else size.pow(order)


TERMS: dict[str, Terms] = {
    "norm": _powers,
    "linalg_vector_norm": _powers,
    "var": _deviations,
    "std": _deviations,
    "logsumexp": _exponentials,
    "logcumsumexp": _exponentials,
}


class SharesRelevance(RelevanceNode):
    """``R_i = t_i R / S(Σ_j t_j)`` through ``y = g(Σ_j t_j)``, the ε rule with weights of one.

    The module docstring has the terms ``t``. A running statistic, ``y_k = g(Σ_{j ≤ k} t_j)``, gives
    ``R_i = t_i Σ_{k ≥ i} R_k / S(Σ_{j ≤ k} t_j)``.

    Args:
        name: the ATen name of the operation.
        rule: the rule for sums.
        dims: the dimensions that are reduced; none for all.
        keepdim: whether they are kept with size one.
        order: the order of a norm.
    """

    result = "new"

    def __init__(
        self, name: str, rule: Proportional, dims: tuple[int, ...], keepdim: bool, order: float
    ) -> None:
        super().__init__()
        self.name, self.rule = name, rule
        self.dims, self.keepdim, self.order = dims, keepdim, order

    def propagate(self, relevance: Tensor, input: Tensor) -> Tensor:
        """The relevance of the operand, (N, …).

        Args:
            relevance: the relevance of the statistic.
            input: the operand ``x``, (N, …).
        """
        terms, total, relevance = self._summed(relevance, input)
        quotient = self.rule.stabilizer.quotient(relevance, total)
        if self._is_running:
            (dim,) = self.dims
            quotient = quotient.flip(dim).cumsum(dim).flip(dim)
        return terms * quotient

    def taken(self, relevance: Tensor, input: Tensor) -> Taken:
        """The share of the stabilizer."""
        _, total, relevance = self._summed(relevance, input)
        return by_stabilizer(self.rule.stabilizer, relevance, total)

    @property
    def _is_running(self) -> bool:
        return self.name == "logcumsumexp"

    def _summed(self, relevance: Tensor, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The terms, their sums, and the relevance of each sum, of the same shape."""
        dims = sorted(d % max(input.dim(), 1) for d in self.dims) or list(range(input.dim()))
        terms = TERMS[self.name](input, dims, self.order)
        if self._is_running:
            return terms, terms.cumsum(self.dims[0]), relevance
        if not self.keepdim:
            for dim in dims:
                relevance = relevance.unsqueeze(dim)
        return terms, terms.sum(dims, keepdim=True), relevance


def _write(site: Site) -> Received:
    node = site.node
    (operand,) = first(node)
    bound = arguments(node)
    order = literal(bound.get("p", bound.get("ord", 2)))
    dims = bound.get("dim")
    if isinstance(dims, bool):  # var(x, unbiased)
        dims = None
    if order is None and bound.get("p", 2) is not None:
        raise UnsupportedOperationError(
            f"the order of '{name_of(node)}' {where(node)} is computed: a rule needs a number"
        )
    assert isinstance(site.rule, Proportional)
    module = SharesRelevance(
        name_of(node),
        site.rule,
        () if dims is None else as_tuple(dims, 1),
        bool(bound.get("keepdim", False)),
        2.0 if order is None else order,
    )
    return {operand: [site.call(module, site.relevance, site.value(operand))]}


def _operation(name: str) -> Operation:
    return Operation(
        name=name,
        kind="sum",
        operands=first,
        default=always(Proportional()),
        alternatives=(Proportional,),
        write=_write,
        source="t · R / S(Σt): t = |x|^p, x (x − mean) or exp x, the ε rule with weights of one",
    )


OPERATIONS = [_operation(name) for name in TERMS]
