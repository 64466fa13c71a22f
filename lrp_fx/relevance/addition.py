"""Relevance through additions and subtractions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import ADDITIONS, arguments, name_of
from lrp_fx.relevance.activation import PassRelevance
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, argument, by_operand
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import ByMagnitude, Half, Pass, Proportional, Rule, may_write


class AdditionRelevance(RelevanceNode):
    """Splits the relevance of ``y = a + b`` between its summands.

    - Proportional: ``R_a = a ⊙ R / S(y)``, the ε rule of Bach et al. 2015 with weights of one.
    - ByMagnitude: ``R_a = |a| ⊙ R / S(|a| + |b|)``.
    - Half: ``R_a = R / 2``.

    ``R_a`` is summed to the shape of ``a`` if ``a`` was broadcast. A constant summand keeps its
    share, as a bias does.

    Args:
        rule: the rule.
        nonnegative: whether ``y`` is known to have no negative entries.
    """

    result = "new"

    def __init__(
        self, rule: Proportional | ByMagnitude | Half, *, nonnegative: bool = False
    ) -> None:
        super().__init__()
        self.rule, self.nonnegative = rule, nonnegative

    def propagate(
        self, relevance: Tensor, output: Tensor | None, *summands: tuple[Any, float, bool]
    ) -> list[Tensor]:
        """The relevance of each summand whose relevance is wanted, of its shape.

        Args:
            relevance: the relevance of ``y``, (N, …).
            output: ``y`` for the proportional rule, else None.
            summands: for each summand (value or shape, factor, whether its relevance is wanted).
                The values broadcast to the shape of ``y``.
        """
        if isinstance(self.rule, Half):
            shapes = [_shape(value) for value, _, wanted in summands if wanted]
            return [sum_to(relevance / 2, shape) for shape in shapes]
        if isinstance(self.rule, Proportional):
            z = output
            shares = [
                (value, factor, _shape(value)) for value, factor, wanted in summands if wanted
            ]
        else:
            sizes = [abs(value * factor) for value, factor, _ in summands]
            z = sum(sizes).expand_as(relevance)
            shares = [
                (size, 1, _shape(value))
                for size, (value, _, wanted) in zip(sizes, summands, strict=True)
                if wanted
            ]
        assert z is not None
        quotient = self.rule.stabilizer.quotient(
            relevance, z, nonnegative=self.nonnegative, overwrite=self._may_overwrite()
        )
        found = []
        for place, (value, factor, shape) in enumerate(shares):
            share = value if factor == 1 else value * factor
            is_last = place == len(shares) - 1 and may_write()
            share = quotient.mul_(share) if is_last else quotient * share
            found.append(sum_to(share, shape))
        return found

    def taken(
        self, relevance: Tensor, output: Tensor | None, *summands: tuple[Any, float, bool]
    ) -> Taken:
        """The shares of constant summands and of the stabilizer."""
        constants = [value * factor for value, factor, wanted in summands if not wanted]
        if isinstance(self.rule, Half):
            return {"constant": relevance.sum() / 2 * sum(not wanted for *_, wanted in summands)}
        z: Any = output
        if isinstance(self.rule, ByMagnitude):
            constants = [abs(constant) for constant in constants]
            z = sum(abs(value * factor) for value, factor, _ in summands).expand_as(relevance)
        quotient = self.rule.stabilizer.quotient(relevance, z)
        taken = by_stabilizer(self.rule.stabilizer, relevance, z)
        for constant in constants:
            share = quotient * constant
            if isinstance(constant, Tensor):  # c / S(a + c) → 1 for c → −∞, as in an additive mask
                share = torch.where(constant.isinf(), relevance, share)
            taken["constant"] = share.sum()
        return taken


def _shape(value: Any) -> torch.Size:
    return value.shape if isinstance(value, Tensor) else torch.Size(value)


def _summands(node: fx.Node) -> list[tuple[Any, float]]:
    """The operands, each with the factor by which it enters the sum."""
    bound = arguments(node)
    alpha = bound.get("alpha", 1)
    if name_of(node) == "rsub":
        return [(bound["self"], -alpha), (bound["other"], 1)]
    return [(bound["self"], 1), (bound["other"], -alpha if name_of(node) == "sub" else alpha)]


def _default(node: fx.Node, facts: Facts) -> Rule:
    dynamic = sum(facts.is_dynamic(value) for value, _ in _summands(node))
    categorical = facts.is_categorical(node)
    if dynamic == 1 and (categorical or facts.is_preprocessing(node)):
        return Pass()
    if categorical:
        return Half()
    return Proportional()


def _write(site: Site) -> Received:
    node, rule = site.node, site.rule
    summands = _summands(node)
    wanted = [site.receives(value) for value, _ in summands]
    if isinstance(rule, Pass):
        operand = next(v for (v, _), w in zip(summands, wanted, strict=True) if w)
        return {operand: [site.call(PassRelevance(), site.relevance, site.shape(operand))]}
    assert isinstance(rule, (Proportional, ByMagnitude, Half))
    half = isinstance(rule, Half)
    values = [
        (site.shape(value) if half and isinstance(value, fx.Node) else site.value(value), factor, w)
        for (value, factor), w in zip(summands, wanted, strict=True)
    ]
    output, nonnegative = None, False
    if isinstance(rule, Proportional):
        output, nonnegative = site.output(), site.output_is_nonnegative()
    module = AdditionRelevance(rule, nonnegative=nonnegative)
    shares = site.call(module, site.relevance, output, *values)
    return by_operand(site, shares, [value for value, _ in summands])


OPERATIONS = [
    Operation(
        name=name,
        kind="addition",
        operands=argument("self", "other"),
        default=_default,
        default_label="Proportional; Pass for a constant on a model input; Half for categories",
        alternatives=(Proportional, ByMagnitude, Half, Pass),
        write=_write,
        source="a · R / S(a + b): the ε rule with weights of one",
    )
    for name in sorted(ADDITIONS)
]
