"""Relevance through element-wise products and quotients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import arguments
from lrp_fx.relevance.causes import Taken
from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, argument, by_operand
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Gate, Half, PairwiseHalf, Pass, Rule, ValuePath


class ScaleRelevance(RelevanceNode):
    """``R_in = R`` through a product with a constant ``c``, and zero where ``c = 0``.

    It is the ε rule (Bach et al. 2015) with ε = 0: ``x c R / (x c)``.
    """

    result = "moved"

    def propagate(self, relevance: Tensor, constant: Any, shape: torch.Size) -> Tensor:
        """The relevance of the factor that is not a constant, of ``shape``."""
        if not isinstance(constant, Tensor) and constant != 0:
            return sum_to(relevance, shape)
        return sum_to(relevance * (constant != 0), shape)

    def taken(self, relevance: Tensor, constant: Any, shape: torch.Size) -> Taken:
        """The relevance of products with zero."""
        return {"constant": (relevance * (constant == 0)).sum()}


class FactorRelevance(RelevanceNode):
    """``R_k = share_k · R`` for each factor ``k`` that gets relevance, summed to the factor's shape.

    The shares follow from the rule: gates and statistics get nothing (Arras et al. 2017), and n
    signals get 1/n each, after Achtibat et al. 2024.

    Args:
        shares: the share of each factor that gets relevance.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        super().__init__()
        self.shares = tuple(shares)

    def extra_repr(self) -> str:
        """The shares."""
        return f"shares={self.shares}"

    def propagate(self, relevance: Tensor, *shapes: torch.Size) -> list[Tensor]:
        """The relevance of each factor, of its shape.

        Args:
            relevance: the relevance of the product, (N, …).
            shapes: the shapes of the factors.
        """
        parts = {share: relevance if share == 1 else relevance * share for share in self.shares}
        return [
            sum_to(parts[share], shape) for share, shape in zip(self.shares, shapes, strict=True)
        ]


def _factors(node: fx.Node) -> tuple[Any, Any]:
    bound = arguments(node)
    return bound["self"], bound["other"]


def _shares(node: fx.Node, rule: Rule, facts: Facts) -> list[tuple[Any, float]]:
    """The factors that get relevance under the rule, each with its share of it."""
    factors = _factors(node)
    dynamic = [factor for factor in factors if facts.is_dynamic(factor)]
    if len(dynamic) < 2:
        return [(factor, 1.0) for factor in dynamic]
    counts = facts.counts(node)
    weights = counts.signals
    if isinstance(rule, Half):
        weights = counts.factors
    elif isinstance(rule, ValuePath):
        weights = counts.values
    if isinstance(rule, PairwiseHalf):
        weights = tuple(int(weight > 0) for weight in weights)
    pairs = zip(factors, weights, strict=True)
    return [(factor, weight / sum(weights)) for factor, weight in pairs if weight]


def signals(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    """The factors that get relevance under the rule."""
    return [factor for factor, _ in _shares(node, rule, facts)]


def _default(node: fx.Node, facts: Facts) -> Rule:
    if not all(facts.is_dynamic(factor) for factor in _factors(node)):
        return Pass()
    if facts.is_categorical(node):
        return Half()
    counts = facts.counts(node)
    return Half() if counts.signals == counts.factors else Gate()


def _write(site: Site) -> Received:
    node = site.node
    a, b = _factors(node)
    if not (site.facts.is_dynamic(a) and site.facts.is_dynamic(b)):
        signal, constant = (a, b) if site.facts.is_dynamic(a) else (b, a)
        inputs = (site.value(constant), site.shape(signal))
        return {signal: [site.call(ScaleRelevance(), site.relevance, *inputs)]}
    wanted = [pair for pair in _shares(node, site.rule, site.facts) if site.receives(pair[0])]
    factors = [factor for factor, _ in wanted]
    module = FactorRelevance([share for _, share in wanted])
    return by_operand(site, site.call(module, site.relevance, *map(site.shape, factors)), factors)


OPERATIONS = [
    Operation(
        name=name,
        kind="product",
        operands=argument("self", "other"),
        default=_default,
        default_label="Pass by a constant; Gate where a factor is a gate or a statistic; else Half",
        alternatives=(Gate, Half, PairwiseHalf, ValuePath),
        receivers=signals,
        write=_write,
        source="Arras et al. 2017 (gates); 1/n each of n signals, after Achtibat et al. 2024",
    )
    for name in ("mul", "div")
]
