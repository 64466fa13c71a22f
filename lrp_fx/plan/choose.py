"""The choice of a rule: the first line of the composite that matches, or the default."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import fx, nn

from lrp_fx.composites import Composite, Matcher, Place
from lrp_fx.composites.composite import without_match
from lrp_fx.graph import name_of
from lrp_fx.meaning import Analysis
from lrp_fx.plan.plan import is_part
from lrp_fx.relevance import UNKNOWN, Operation, TopK, operation_of
from lrp_fx.rules import (
    ByMagnitude,
    Half,
    LinearRule,
    Proportional,
    Recurrent,
    Route,
    Rule,
    Uniform,
)


def places_in(
    model: nn.Module, from_input: dict[fx.Node, int], from_output: dict[fx.Node, int]
) -> Callable[[fx.Node], Place]:
    """A function from a node to its place, by which composites choose.

    Args:
        model: the user's model, for the classes and the other names of its modules.
        from_input: of each linear operation, how many lie before it.
        from_output: likewise, how many come after it.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    names: dict[int, list[str]] = {}
    for path, module in modules.items():
        names.setdefault(id(module), []).append(path)
    convolutions = len({node.args[0] for node in from_input if name_of(node).startswith("conv")})

    def place_of(node: fx.Node) -> Place:
        operation = operation_of(node) or UNKNOWN
        calls: tuple[Any, ...] = node.meta.get("merged_calls", ())
        calls = (*calls, *node.meta.get("merged_into_input", ()))
        calls = (*calls, *node.meta.get("module_calls", ()))
        paths = tuple(path for path, _ in calls)
        known = [modules[path] for path in paths if path in modules]
        others = [name for module in known for name in names[id(module)] if name not in paths]
        types = tuple(type(module) for module in known)
        ranks = from_input.get(node), from_output.get(node)
        paths = (*others, *paths)
        family = operation.family(node)
        return Place(paths, types, name_of(node), family, node.name, *ranks, convolutions)

    return place_of


def receivers_of(operation: Operation, node: fx.Node, rule: Rule, facts: Analysis) -> list[fx.Node]:
    """The operands that get relevance under a rule."""
    choose = operation.receivers
    operands = operation.operands(node) if choose is None else choose(node, rule, facts)
    return list(
        dict.fromkeys(o for o in operands if isinstance(o, fx.Node) and facts.is_dynamic(o))
    )


def default_receivers(
    node: fx.Node, facts: Analysis, wanted: set[fx.Node] | frozenset[fx.Node]
) -> list[fx.Node]:
    """The wanted operands that get relevance under the default rule of an operation."""
    if node.op != "call_function":
        return []
    if is_part(node):
        found = [source for source in node.all_input_nodes if facts.is_dynamic(source)]
    else:
        operation = operation_of(node) or UNKNOWN
        found = receivers_of(operation, node, operation.default(node, facts), facts)
    return [source for source in found if source in wanted]


def chosen(
    node: fx.Node, place: Place, composite: Composite, facts: Analysis, used: set[int]
) -> tuple[Rule, str]:
    """The rule of a node, and the line of the composite that chose it.

    Args:
        node: a node of the canonical graph.
        place: its place.
        composite: the rules.
        facts: the static analysis.
        used: gets the numbers of the lines that match.
    """
    choose = _choose_parts if place.kind == "recurrent" else _choose
    return choose(node, place, composite, facts, used)


def _choose(
    node: fx.Node, place: Place, composite: Composite, facts: Analysis, used: set[int]
) -> tuple[Rule, str]:
    operation = operation_of(node) or UNKNOWN
    chosen: tuple[Rule, str] | None = None
    for line, (matcher, rule) in enumerate(composite.assignments):
        if operation.accepts(rule) and matcher(place):
            used.add(line)
            if chosen is None and (
                not facts.is_categorical(node) or isinstance(rule, _FOR_INDICES)
            ):
                chosen = rule, f"{composite.name}[{line}]: {matcher.text}"
    return chosen or (operation.default(node, facts), "default")


_FOR_INDICES = (Route, Uniform)
"""Rules that do not use the size of values, and so apply to indices."""


def _choose_parts(
    node: fx.Node, place: Place, composite: Composite, facts: Analysis, used: set[int]
) -> tuple[Rule, str]:
    """The rule of a recurrent cell: one for each of its two linear maps, and one for its sums.

    Only the map of the input can count as a first operation.
    """
    depth = 1 if place.from_input is None else place.from_input + 1
    input, chosen_by = _choose(node, place, composite, facts, used)
    hidden, _ = _choose(node, replace(place, from_input=depth), composite, facts, used)
    if isinstance(input, Recurrent) and chosen_by != "default":
        return input, chosen_by
    of_input = input.input if isinstance(input, Recurrent) else input
    of_others = hidden.hidden if isinstance(hidden, Recurrent) else hidden
    assert isinstance(of_input, LinearRule)
    assert isinstance(of_others, LinearRule)
    sums: Proportional | ByMagnitude | Half = Proportional()
    place = replace(place, operation="add", kind="addition", from_input=None, from_output=None)
    for line, (matcher, rule) in enumerate(composite.assignments):
        if isinstance(rule, (Proportional, ByMagnitude, Half)) and matcher(place):
            used.add(line)
            sums = rule
            break
    return Recurrent(of_input, of_others, sums), chosen_by


def filter_at(filters: Iterable[tuple[Matcher, TopK]], place: Place) -> TopK | None:
    """The part of the relevance that the filter keeps at a place; None for all."""
    for matcher, top_k in filters:
        if matcher(place):
            return None if top_k.share == 1 else top_k
    return None


def refuse_unused(composite: Composite, places: dict[fx.Node, Place], used: set[int]) -> None:
    """Refuse a composite with a line that matches nothing.

    Raises:
        CompositeError: for such a line. It names near misses.
    """
    known = list(places.values())
    for line, (matcher, rule) in enumerate(composite.assignments):
        if composite.strict and line not in used:
            raise without_match(matcher, rule, known)
    for matcher, top_k in composite.filters:
        demanded = composite.strict or matcher.required
        if demanded and not any(matcher(place) for place in known):
            raise without_match(matcher, f"top_k={top_k}", known)
