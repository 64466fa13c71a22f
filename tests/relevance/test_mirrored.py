"""Rules whose two groups are mirror images: which they are, what they cost, and their form.

``test_linear.py`` compares them with the slow twins, on all linear operations.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lrp_fx import LRPFx, rules
from lrp_fx.composites import PRESETS, Uniform
from lrp_fx.graph import aten
from lrp_fx.relevance.linear.formula import Formula
from lrp_fx.relevance.linear.mirrored import MirroredFormula, cheapest_formula, mirror_of
from lrp_fx.rules import FULL, MINUS, PLUS, ZERO, Branch, Group, LinearRule, Part, Stabilizer, Table
from tests.helpers.closeness import QUOTIENTS, SAME_SUMS, assert_close
from tests.helpers.models import cnn
from tests.helpers.numbers import numbers


@dataclass(frozen=True)
class Favoured(LinearRule):
    """The generalized γ rule with faults, one by one."""

    fault: str = ""

    def table(self) -> Table:
        up, down = Part(1.5, 1), Part(1, 1.5)
        positive = (Branch(PLUS, up, up), Branch(MINUS, down, ZERO))
        negative = (Branch(PLUS, down, down), Branch(MINUS, up, ZERO))
        groups = [Group(positive, mask="positive"), Group(negative, mask="negative")]
        if self.fault == "no bias":
            groups[0] = Group((Branch(PLUS, up, FULL), positive[1]), mask="positive")
        if self.fault == "one branch missing":
            groups[1] = Group(negative[:1], mask="negative")
        if self.fault == "masks changed":
            groups.reverse()
        if self.fault == "opposite sign favoured":
            groups = [replace(groups[0], branches=negative), replace(groups[1], branches=positive)]
        if self.fault == "other coefficient":
            groups[1] = replace(groups[1], coefficient=2.0)
        if self.fault == "other γ":
            groups[1] = Group((Branch(PLUS, Part(1, 2), Part(1, 2)),), mask="negative")
        if self.fault == "one group":
            groups = [Group(positive)]
        return tuple(groups)


def test_mirror_of_the_generalized_gamma_rule() -> None:
    """``a = 1 + γ/2`` and ``g = γ/2``, as worked out in the docstring of the module."""
    mirror = mirror_of(rules.GeneralizedGamma(0.5))
    assert mirror is not None
    assert (mirror.own, mirror.size, mirror.coefficient) == (1.25, 0.25, 1)
    assert mirror_of(Favoured()) == mirror


@pytest.mark.parametrize(
    "fault",
    [
        *("no bias", "one branch missing", "masks changed", "opposite sign favoured"),
        *("other coefficient", "other γ", "one group"),
    ],
)
def test_other_tables_are_no_mirror_images(fault: str) -> None:
    assert mirror_of(Favoured(fault=fault)) is None


@pytest.mark.parametrize(
    "rule",
    [
        *(rules.Epsilon(), rules.ZPlus(), rules.AlphaBeta(2, 1), rules.Gamma(0.25), rules.Flat()),
        rules.GeneralizedGamma(0),
        rules.GeneralizedGamma(0.25, stabilizer=Stabilizer(1e-6, signed=False)),
    ],
    ids=str,
)
def test_other_rules_are_no_mirror_images(rule: LinearRule) -> None:
    assert mirror_of(rule) is None


def test_the_groups_are_kept_where_the_form_does_not_hold() -> None:
    """The engine that checks, a bias that the output contains, and one branch alone."""
    rule = rules.GeneralizedGamma()
    assert cheapest_formula(rule, "absorb", "direct", one_sided=False) is MirroredFormula
    assert cheapest_formula(rule, "absorb", "gradient", one_sided=False) is Formula
    assert cheapest_formula(rule, "ignore", "direct", one_sided=False) is Formula
    assert cheapest_formula(rule, "absorb", "direct", one_sided=True) is Formula


def counted(formula: Formula, calls: Counter[str]) -> Formula:
    """The formula; each call of the operation and of its adjoint is counted."""

    def kernel(*args: Any, **options: Any) -> Tensor:
        calls["operation"] += 1
        return formula.kernel(*args, **options)

    def adjoint(*args: Any, **options: Any) -> Tensor:
        calls["adjoint"] += 1
        return formula.adjoint(*args, **options)

    return replace(formula, kernel=kernel, adjoint=adjoint)


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("bias", ["absorb", "distribute"])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_same_relevance_from_fewer_calls(nonnegative: bool, bias: Any, eps: float) -> None:
    """One call of the operation and two of its adjoint, instead of up to four of each."""
    x, w, b = numbers(3, 5), numbers(4, 5, seed=1), numbers(4, seed=2)
    if nonnegative:
        x = x.abs()
    w[1], b[1] = 0, 0  # a unit whose output is exactly zero
    rule = rules.GeneralizedGamma(0.3, stabilizer=Stabilizer(eps))
    relevance, calls = numbers(3, 4, seed=3), dict[str, Counter[str]]()
    results, kept = [], []
    for kind in (Formula, MirroredFormula):
        formula = kind.of(aten.linear, rule, nonnegative=nonnegative, bias=bias, engine="direct")
        calls[kind.__name__] = Counter()
        counting = counted(formula, calls[kind.__name__])
        operands = formula.operands(x, x @ w.T + b, formula.weights(w), b)
        with torch.no_grad():
            results.append(counting.relevance(relevance, operands))
            kept.append(formula.taken(relevance, operands))
    assert_close(results[1], results[0], tolerance=SAME_SUMS)
    for cause in kept[0] | kept[1]:
        pair = [each.get(cause, torch.zeros(())).double() for each in kept]
        assert_close(pair[1], pair[0], tolerance=SAME_SUMS, case=cause)
    if bias == "absorb":
        assert calls["MirroredFormula"] == {"operation": 1, "adjoint": 2}
        groups = 2 if nonnegative else 4
        assert calls["Formula"] == {"operation": groups, "adjoint": groups}


@pytest.mark.parametrize("start", ["logit", "one_hot"])
def test_optimized_and_plain_runs_agree(start: Any) -> None:
    """On a network in which all three forms occur, and for relevance of every sign."""
    model, x = cnn(), numbers(2, 2, 8, 8)
    composite = Uniform(rules.GeneralizedGamma(0.2))
    found = LRPFx(model, composite, start=start).attribute(x, 1)
    for options in ({"optimize": False}, {"propagation": "gradient"}):
        other = LRPFx(model, composite, start=start, **options).attribute(x, 1)
        assert_close(found, other, tolerance=SAME_SUMS)


@pytest.mark.parametrize("engine", ["direct", "gradient"])
@pytest.mark.parametrize(
    "rule", [rules.GeneralizedGamma(0.3), rules.Gamma(0.3), rules.ZPlus(), rules.AlphaBeta(2, 1)]
)
@pytest.mark.parametrize("changed", ["weight", "bias", "input"])
def test_derivatives_at_zero_lie_between_those_beside_it(
    rule: LinearRule, engine: Any, changed: str
) -> None:
    """Zero biases, pruned weights and black pixels are common. There |v| has no derivative."""
    layer = torch.nn.Linear(3, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, 0.0, -0.4], [0.3, 0.7, 0.2]]))
        layer.bias.copy_(torch.tensor([0.0, 0.1]))
    x = torch.tensor([[0.6, 0.8, 0.9]], dtype=torch.float64)
    if changed == "input":
        x[0, 1] = 0
    weights = numbers(1, 3)

    def total(create_graph: bool = False) -> Tensor:
        lrp = LRPFx(layer, Uniform(rule), propagation=engine, start=torch.ones_like)
        relevance: Tensor = lrp.attribute(x, create_graph=create_graph)
        return (relevance * weights).sum()

    leaf = {"weight": layer.weight, "bias": layer.bias, "input": x.requires_grad_()}[changed]
    (gradient,) = torch.autograd.grad(total(create_graph=True), leaf)
    place = 0 if changed == "bias" else 1
    middle, sides = float(total()), []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            leaf.view(-1)[place] += step
            sides.append((float(total()) - middle) / step)
            leaf.view(-1)[place] -= step
    tolerance = 1e-4 * max(map(abs, sides))  # of the differences, with steps of 1e-6
    assert min(sides) - tolerance <= float(gradient.view(-1)[place]) <= max(sides) + tolerance


def test_derivatives_of_the_relevance_agree() -> None:
    """``create_graph``: the other form has the same gradient with respect to the input."""
    model, x = cnn(), numbers(2, 2, 8, 8)
    gradients = []
    for engine in ("direct", "gradient"):
        inputs = x.clone().requires_grad_()
        lrp = LRPFx(model, PRESETS["epsilon_gamma"](), propagation=engine)
        relevance = lrp.attribute(inputs, 1, create_graph=True)
        gradients.append(torch.autograd.grad(relevance.square().sum(), inputs)[0])
    assert_close(*gradients, tolerance=QUOTIENTS)
