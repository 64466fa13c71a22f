"""Relevance through matrix products of two activations: matmul, bmm and einsum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import MATRIX_PRODUCTS, arguments, einsum_adjoint, matmul_adjoint, name_of
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, by_operand
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Epsilon, Half, PairwiseHalf, Rule, ValuePath, may_write

Bilinear = Callable[[Tensor, Tensor], Tensor]


class BilinearRelevance(RelevanceNode):
    """``R_a = share · a ⊙ J_aᵀ[R / S(y)]`` for the operands of a bilinear operation ``y = a · b``.

    For ``y = a @ b`` this is ``R_a = share · a ⊙ [R / S(y)] bᵀ`` and ``R_b = share · b ⊙ aᵀ[R /
    S(y)]``. If both operands get relevance, ``share`` is ½ (Achtibat et al. 2024, Prop. 3.3). If
    the other operand is a constant or a gate, or if all goes to the values (Ali et al. 2022), it is
    1.

    Args:
        rule: the rule whose stabilizer is used.
        equation: the equation of an einsum; None for a matrix product.
        wanted: the positions of the operands that get relevance: 0, 1 or both.
        share: the share of each of them.
        engine: the engine that computes the adjoint.
    """

    result = "new"

    def __init__(
        self,
        rule: Half | PairwiseHalf | ValuePath | Epsilon,
        equation: str | None,
        *,
        wanted: tuple[int, ...],
        share: float,
        engine: Engine,
    ) -> None:
        super().__init__()
        self.rule, self.equation = rule, equation
        self.wanted, self.share = wanted, share
        self.engine: Engine = engine

    def extra_repr(self) -> str:
        """The rule, the share, and the positions of the operands that get relevance."""
        return f"{self.rule}, share={self.share:g}, operands={self.wanted}"

    def propagate(
        self, relevance: Tensor, output: Tensor, first: Tensor, second: Tensor
    ) -> list[Tensor]:
        """The relevance of each wanted operand, of its shape."""
        relevance = relevance.to(output.dtype)  # later operations may have promoted the product
        quotient = self.rule.stabilizer.quotient(relevance, output)
        if self.share != 1:
            quotient = quotient * self.share
        return [
            self._operand(position, quotient, output, first, second) for position in self.wanted
        ]

    def taken(self, relevance: Tensor, output: Tensor, first: Tensor, second: Tensor) -> Taken:
        """The share of the stabilizer."""
        return by_stabilizer(self.rule.stabilizer, relevance, output)

    def _operand(
        self, position: int, quotient: Tensor, output: Tensor, first: Tensor, second: Tensor
    ) -> Tensor:
        of_first = position == 0
        operand, other = (first, second) if of_first else (second, first)

        def forward(value: Tensor) -> Tensor:
            return self._product(value, other) if of_first else self._product(other, value)

        def adjoint(q: Tensor) -> Tensor:
            if self.equation is not None:
                return einsum_adjoint(self.equation, q, first, second, of_first)
            return matmul_adjoint(q, first, second, of_first)

        _, pullback = linearize(self.engine, forward, adjoint, operand, output)
        pulled = pullback(quotient)
        # a matrix product is a new tensor; the result of an einsum may be an expanded view
        is_new = self.equation is None and self.engine == "direct"
        if is_new and may_write() and pulled.dtype == operand.dtype:
            return pulled.mul_(operand)
        return operand * pulled

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        if self.equation is not None:
            return torch.einsum(self.equation, a, b)
        return torch.matmul(a, b)


def _operands(node: fx.Node) -> list[Any]:
    bound = arguments(node)
    if name_of(node) == "einsum":
        return list(bound["tensors"])
    values = list(bound.values())
    return values[:2]


def _receivers(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    operands = _operands(node)
    dynamic = [operand for operand in operands if facts.is_dynamic(operand)]
    if len(dynamic) < 2 or isinstance(rule, PairwiseHalf):
        return dynamic
    counts = facts.counts(node)
    shares = counts.values if isinstance(rule, ValuePath) else counts.signals
    return [operand for operand, share in zip(operands, shares, strict=True) if share]


def _default(node: fx.Node, facts: Facts) -> Rule:
    return Half() if len(_receivers(node, Half(), facts)) == 2 else Epsilon()


def _write(site: Site) -> Received:
    node, rule = site.node, site.rule
    assert isinstance(rule, (Half, PairwiseHalf, ValuePath, Epsilon))
    operands = _operands(node)
    equation = arguments(node)["equation"] if name_of(node) == "einsum" else None
    targets = _receivers(node, rule, site.facts)
    places = [
        place
        for place, operand in enumerate(operands)
        if operand in targets and site.receives(operand)
    ]
    module = BilinearRelevance(
        rule, equation, wanted=tuple(places), share=1 / len(targets), engine=site.engine
    )
    shares = site.call(module, site.relevance, *site.value((node, *operands)))
    return by_operand(site, shares, [operands[place] for place in places])


OPERATIONS = [
    Operation(
        name=name,
        kind="bilinear",
        operands=_operands,
        default=_default,
        default_label="Half; Epsilon with a constant or a gate for an operand",
        alternatives=(Half, PairwiseHalf, ValuePath, Epsilon),
        receivers=_receivers,
        write=_write,
        source="Achtibat et al. 2024, Prop. 3.3; ValuePath: Ali et al. 2022",
    )
    for name in (*sorted(MATRIX_PRODUCTS), "einsum")
]
