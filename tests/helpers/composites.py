"""Which rule a composite chooses for which operation."""

from __future__ import annotations

from typing import Any

from torch import nn

from lrp_fx import Composite, LRPFx, rules
from lrp_fx.rules import LinearRule
from tests.helpers.numbers import numbers

BOUNDS = (-2.0, 3.0)
X = numbers(2, 2, 8, 8)


def rules_of(model: nn.Module, composite: Any, *example: Any, **options: Any) -> dict[str, str]:
    """The rule's class of each linear operation, by module path."""
    plan = LRPFx(model, composite, **options).plan(*example)
    return {
        step.path: type(step.rule).__name__
        for step in plan.steps
        if isinstance(step.rule, LinearRule) and step.operation is not None
    }


def chosen(model: nn.Module, matcher: Any, *example: Any) -> set[str]:
    """The linear operations that a matcher picks, by module path."""
    marked = rules_of(model, Composite([(matcher, rules.Flat())], strict=False), *example)
    return {name for name, rule in marked.items() if rule == "Flat"}
