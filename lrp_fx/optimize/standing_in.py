"""Finds where relevance arrives only at positive values, because a rectifier follows.

Let ``a = max(z, 0)``, and let no relevance arrive where ``a = 0``. Relevance of the form
``x ⊙ (…)`` is zero where ``x`` is zero, so this holds for most rules. Then none arrives where
``z ≤ 0`` either. The same holds for other rectifiers, such as ReLU6.

* A rule that divides by ``z`` may divide by ``a``, because elsewhere both are equal. Then ``z`` need
  not be kept, and the sign of the denominator is known.
* A rule that treats negative outputs in a way of their own needs not do so.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from lrp_fx.graph import name_of, row_of
from lrp_fx.meaning import is_rectifier
from lrp_fx.plan import Plan, Step
from lrp_fx.relevance import BiasPolicy, Start, looked_up, vanishes_with_output
from lrp_fx.rules import ByMagnitude, LinearRule, Pass, Proportional, Route, SoftmaxTaylor, Winner


@dataclass(frozen=True)
class Rectified:
    """The operands of rectifiers at which relevance arrives only where they are positive.

    Args:
        stand_ins: for each node whose output a ReLU may stand in for, that ReLU.
        operands: the operands of all rectifiers.
    """

    stand_ins: dict[fx.Node, fx.Node]
    operands: frozenset[fx.Node]


def find_rectified(plan: Plan, start: Start, bias: BiasPolicy) -> Rectified:
    """The operands of rectifiers at which relevance arrives only where they are positive.

    Args:
        plan: the steps, from the output to the inputs.
        start: what the propagation starts with.
        bias: the bias policy.
    """
    vanishing = {plan.explained: vanishes_with_output(start)}
    found = {}
    for step in plan.steps:
        vanishes = vanishing.get(step.node, False) and not step.hooks
        passed_on = _passes_nothing_at_zero(step, vanishes, bias)
        if looked_up(step.node, plan.facts.is_dynamic):  # index 0 gets relevance too
            passed_on = False
        for receiver in step.receivers:
            vanishing[receiver] = vanishing.get(receiver, True) and passed_on
        if vanishes and isinstance(step.rule, Pass) and is_rectifier(step.node) and step.receivers:
            (operand,) = step.receivers
            if operand.op == "call_function" and len(operand.users) == 1:
                found[operand] = step.node
    stand_ins = {operand: node for operand, node in found.items() if name_of(node) == "relu"}
    return Rectified(stand_ins, frozenset(found))


def _passes_nothing_at_zero(step: Step, vanishes: bool, bias: BiasPolicy) -> bool:
    """Whether an operand gets no relevance where it is zero.

    Args:
        step: the operation and its rule.
        vanishes: whether the relevance of its output is zero where the output is zero.
        bias: the bias policy.
    """
    operation, rule = step.operation, step.rule
    if operation is None:  # one of several results
        return vanishes
    if isinstance(rule, LinearRule):
        branches = [branch for group in rule.table() for branch in group.branches]
        own = all(branch.input.power == 1 and branch.source == "input" for branch in branches)
        return own and bias != "distribute" and operation.kind not in ("recurrent", "unknown")
    if operation.kind == "product":
        return vanishes
    if operation.kind == "bilinear":
        return True
    if isinstance(rule, (Proportional, ByMagnitude, SoftmaxTaylor)):
        return True
    if isinstance(rule, Pass):
        rests = row_of(step.node).is_zero_at_zero or is_rectifier(step.node)
        return vanishes and rests
    return vanishes and isinstance(rule, (Winner, Route))
