"""Notes of a plan: what a reader of its table should know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import fx

from lrp_fx.graph import ancestors, name_of, where
from lrp_fx.meaning import Analysis
from lrp_fx.plan.plan import Step
from lrp_fx.relevance import JOINS, looked_up
from lrp_fx.rules import Half, Rule, Uniform

MAX_SHOWN = 4  # nodes that a note names


def _on_categories(steps: Iterable[Step], facts: Analysis) -> list[str]:
    """Notes on where relevance goes to indices, and where several indices share it."""
    found = []
    for step in steps:
        if step.operation is None:  # one of several results
            continue
        if looked_up(step.node, facts.is_dynamic):
            names = ", ".join(index.name for index in step.receivers)
            found.append(f"look-up: the relevance of {step.node.name} goes to its indices, {names}")
        elif facts.is_categorical(step.node) and len(step.receivers) > 1 and step.rule == Half():
            names = ", ".join(operand.name for operand in step.receivers)
            found.append(f"look-up: {step.node.name} is computed from {names}, which get half each")
        elif facts.is_categorical(step.node) and step.rule == Uniform() and _is_join(step):
            found.append(
                f"look-up: {step.node.name} {where(step.node)} contains constants; the relevance of what "
                "they look up goes in equal shares to the other indices in their row"
            )
        elif facts.is_categorical(step.node) and _joins_constants(step, facts):
            found.append(
                f"look-up: {step.node.name} contains constants, which keep the relevance of what they "
                "look up; in the ledger it is 'constant'"
            )
    return found


def _on_signs(steps: Iterable[Step], facts: Analysis) -> list[str]:
    """A warning for each rule for x >= 0 that meets values which may be negative."""
    found: dict[Rule, list[str]] = {}
    for step in steps:
        is_meant_for_less = step.rule is not None and step.rule.for_nonnegative
        if is_meant_for_less and not all(map(facts.is_nonnegative, step.receivers)):
            assert step.rule is not None
            found.setdefault(step.rule, []).append(step.node.name)
    return [
        f"warning: {rule} is meant for nonnegative inputs; relevance may explode at these nodes, whose "
        f"inputs may be negative: {', '.join(names[:MAX_SHOWN])}{' …' if len(names) > MAX_SHOWN else ''}"
        for rule, names in found.items()
    ]


def _is_join(step: Step) -> bool:
    return name_of(step.node) in JOINS


def _joins_constants(step: Step, facts: Analysis) -> bool:
    """Whether some entries of a value do not come from the input."""
    assert step.operation is not None
    joins = step.operation.kind == "routing" and name_of(step.node) != "pad"
    return joins and not all(map(facts.is_dynamic, step.operation.operands(step.node)))


def _on_places(explained: fx.Node, facts: Analysis) -> list[str]:
    """Notes on where relevance ends because only positions are read there."""
    below = ancestors(explained)
    nodes = [node for node in explained.graph.nodes if node in below and node in facts.places]
    return [
        f"places: {node.name} {where(node)} reads only positions, so relevance ends there"
        for node in nodes
    ]


def notes_on(steps: Sequence[Step], explained: fx.Node, facts: Analysis) -> list[str]:
    """All notes on the steps of a plan, in the order in which they are shown."""
    return [*_on_categories(steps, facts), *_on_places(explained, facts), *_on_signs(steps, facts)]
