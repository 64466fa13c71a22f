"""The plan: which operation gets which rule, and why, before anything runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import fx, nn

from lrp_fx._tables import columns
from lrp_fx.capture import Captured, Way, where
from lrp_fx.composites import Composite, Matcher, Place
from lrp_fx.composites.composite import without_match
from lrp_fx.errors import InputError, OptionError, UnsupportedOperationError
from lrp_fx.graph import ancestors, arguments, descendants, name_of, packet_of
from lrp_fx.meaning import Analysis, analyse, is_size, linear_ranks
from lrp_fx.plan.hooks import Hook
from lrp_fx.relevance import (
    JOINS,
    UNKNOWN,
    MaskRelevance,
    Operation,
    is_linear,
    looked_up,
    operation_of,
)
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

UnknownPolicy = Literal["error", "vjp"]
Unknown = UnknownPolicy | Callable[[str], Rule | None]
"""What to do at operations without a description.

"error" raises an error, "vjp" divides relevance by the operands' contributions. A function gets
ATen's name of the operation and returns a rule, or None for an error.
"""
UNKNOWN_POLICIES: tuple[UnknownPolicy, ...] = ("error", "vjp")

SHOWN = 4  # nodes that a note names
_ASKED = "unknown="
"""The ``chosen_by`` of a rule that a function of the user returned."""


@dataclass(frozen=True)
class Step:
    """What happens to the relevance at one node.

    Args:
        node: the node of the canonical graph.
        path: the path of its module.
        operation: the description of its operation; None for a node that takes out one of several
            results.
        rule: the rule chosen for it.
        chosen_by: the line of the composite that chose the rule, or "default".
        top_k: the fraction of the entering relevance that the filter keeps; None for no filter.
        receivers: the operands that get relevance; none if all relevance stays at the node.
        hooks: the user's hooks on the relevance that enters the node, after the filter.
    """

    node: fx.Node
    path: str
    operation: Operation | None
    rule: Rule | None
    chosen_by: str
    top_k: float | None
    receivers: tuple[fx.Node, ...]
    hooks: tuple[Hook, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All steps in the order in which relevance passes them. ``print(plan)`` shows a table.

    Args:
        steps: one for each node that relevance reaches.
        explained: the node whose value is explained.
        groups: the nodes whose relevance is wanted, one group per layer.
        notes: remarks for the reader, shown above the table.
        facts: the static analysis behind the choices.
        way: how the model was captured.
        masks: node → mask of its relevance, whose channels are given for each run.
        through: if a run masks a node, only relevance through that node goes on.
    """

    steps: tuple[Step, ...]
    explained: fx.Node
    groups: tuple[tuple[fx.Node, ...], ...]
    notes: tuple[str, ...]
    facts: Analysis
    way: Way
    masks: Mapping[fx.Node, MaskRelevance] = field(default_factory=dict)
    through: bool = False

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        """The nodes whose relevance is wanted, of all groups."""
        return tuple(node for group in self.groups for node in group)

    def reaches(self, source: fx.Node) -> bool:
        """Whether any relevance arrives at a node."""
        return source is self.explained or any(source in step.receivers for step in self.steps)

    def __str__(self) -> str:
        head = ("node", "module", "operation", "rule", "chosen by", "top-k")
        rows = [
            (
                *(step.node.name, step.path, name_of(step.node), str(step.rule), step.chosen_by),
                "" if step.top_k is None else f"{step.top_k:g}",
            )
            for step in self.steps
            if step.operation is not None
        ]
        return "\n".join([*self.notes, columns(head, rows)])


def make_plan(
    captured: Captured,
    model: nn.Module,
    composite: Composite,
    *,
    inputs: Sequence[fx.Node],
    explained: fx.Node,
    groups: Sequence[Sequence[fx.Node]],
    unknown: Unknown,
    notes: Sequence[str] = (),
    hooks: Sequence[Hook] = (),
) -> Plan:
    """Choose a rule for every node that relevance reaches.

    Args:
        captured: the canonical graph.
        model: the user's model, for the classes of its modules.
        composite: the rules.
        inputs: the placeholders that are explained.
        explained: the node whose value is explained.
        groups: the nodes whose relevance is wanted, by layer. Nothing is planned below all of them.
        unknown: what to do at operations without a description.
        notes: notes to include in the plan.
        hooks: the user's hooks.

    Raises:
        InputError: if ``explained`` does not depend on the inputs.
        UnsupportedOperationError: for operations without a description, all of which it names, and
            for weights that are computed from the inputs.
        CompositeError: for a line of the composite or a hook that matches nothing, or a rule that
            does not fit.
        OptionError: if a function ``unknown`` returns anything but an accepted rule or None.
    """
    graph, stops = captured.module.graph, [node for group in groups for node in group]
    facts = analyse(graph, inputs)
    if not facts.is_dynamic(
        explained
    ):  # a layer above the nodes where relevance ends may still get some
        facts = analyse(graph, [*inputs, *stops])
    if not facts.is_dynamic(explained):
        raise _without_relevance(explained, facts)
    everything = _reached(captured, facts, explained, set(facts.dynamic))
    ranks = linear_ranks(
        reversed(everything), lambda n: _default_receivers(n, facts, facts.dynamic)
    )
    wanted = descendants(graph, stops)
    place_of = _places(model, *ranks)
    places = {node: place_of(node) for node in everything if not _is_part(node)}
    used: set[int] = set()
    choices: dict[fx.Node, tuple[Rule, str]] = {}
    for node, place in places.items():
        choices[node] = _chosen(node, place, composite, facts, used)

    steps = []
    live = {explained}
    for node in reversed(graph.nodes):
        if node not in live or node not in wanted:
            continue
        if _is_part(node):
            receivers = [node.args[0]]
            steps.append(Step(node, "", None, None, "", None, tuple(receivers)))
        elif node.op == "call_function":
            operation = _described(node, facts) or UNKNOWN
            if node not in choices:  # the default rules do not reach it, but a chosen one does
                places[node] = place_of(node)
                choices[node] = _chosen(node, places[node], composite, facts, used)
            if operation is UNKNOWN and callable(unknown):
                choices[node] = _asked_for(node, unknown) or choices[node]
            rule, chosen_by = choices[node]
            candidates = _receivers(operation, node, rule, facts)
            receivers = [operand for operand in candidates if operand in wanted]
            if node in stops and not receivers:
                continue
            place = places[node]
            path = place.paths[-1] if place.paths else ""
            top_k = _filter(composite.filters, place)
            matching = tuple(hook for hook in hooks if hook.matcher(place))
            steps.append(
                Step(
                    node,
                    path,
                    operation,
                    rule,
                    chosen_by,
                    top_k,
                    receivers=tuple(receivers),
                    hooks=matching,
                )
            )
        else:
            continue
        live.update(receivers)
    passing = [step for step in steps if step.receivers]
    _refuse_unknown(passing, unknown)
    _refuse_computed_weights([step.node for step in passing], facts)
    _refuse_unused(composite, places, used)
    for hook in hooks:
        if not any(hook in step.hooks for step in steps):
            raise without_match(hook.matcher, "relevance hooks", list(places.values()))
    notes = [*notes, *_notes_on_categories(steps, facts), *_notes_on_places(explained, facts)]
    notes += _signs(steps, facts)
    return Plan(
        tuple(steps),
        explained,
        tuple(map(tuple, groups)),
        tuple(notes),
        facts,
        way=captured.way,
    )


def _notes_on_categories(steps: Iterable[Step], facts: Analysis) -> list[str]:
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


def _signs(steps: Iterable[Step], facts: Analysis) -> list[str]:
    """A warning for each rule for x >= 0 that meets values which may be negative."""
    found: dict[Rule, list[str]] = {}
    for step in steps:
        is_meant_for_less = step.rule is not None and step.rule.for_nonnegative
        if is_meant_for_less and not all(map(facts.is_nonnegative, step.receivers)):
            assert step.rule is not None
            found.setdefault(step.rule, []).append(step.node.name)
    return [
        f"warning: {rule} is meant for nonnegative inputs; relevance may explode at these nodes, whose "
        f"inputs may be negative: {', '.join(names[:SHOWN])}{' …' if len(names) > SHOWN else ''}"
        for rule, names in found.items()
    ]


def _is_join(step: Step) -> bool:
    return name_of(step.node) in JOINS


def _joins_constants(step: Step, facts: Analysis) -> bool:
    """Whether some entries of a value do not come from the input."""
    assert step.operation is not None
    joins = step.operation.kind == "routing" and name_of(step.node) != "pad"
    return joins and not all(map(facts.is_dynamic, step.operation.operands(step.node)))


def _notes_on_places(explained: fx.Node, facts: Analysis) -> list[str]:
    """Notes on where relevance ends because only positions are read there."""
    below = ancestors(explained)
    nodes = [node for node in explained.graph.nodes if node in below and node in facts.places]
    return [
        f"places: {node.name} {where(node)} reads only positions, so relevance ends there"
        for node in nodes
    ]


def _without_relevance(explained: fx.Node, facts: Analysis) -> InputError:
    """The error for a value from which no relevance reaches the inputs. It names where that ends."""
    below = ancestors(explained)
    ends = [
        node
        for node in explained.graph.nodes
        if node in below
        and node.op == "call_function"
        and not (facts.is_dynamic(node) or is_size(node))
        and any(map(facts.is_dynamic, node.all_input_nodes))
    ]
    lines = dict.fromkeys(f"  {name_of(node)} {where(node)}" for node in ends)
    found = [
        "Relevance ends at these operations, which only compare or count values, find their positions, "
        "or use them as indices:",
        *lines,
        "Write them with operations that pass it on (docs/operations.md), or explain a layer above them: "
        "LayerLRPFx(model, layer).",
    ]
    return InputError(
        "\n".join(
            [
                f"the explained value '{explained.name}' does not depend on the explained inputs, or "
                "only through shapes, comparisons and positions, which carry no relevance",
                *(found if ends else ()),
            ]
        )
    )


def _is_part(node: fx.Node) -> bool:
    """Whether the node takes out one of several results of an operation."""
    return node.target is operator.getitem


def _described(node: fx.Node, facts: Analysis) -> Operation | None:
    """The description of a node's operation. Some descriptions are for indices only."""
    operation = operation_of(node)
    is_other = operation is not None and operation.of_names and not facts.is_categorical(node)
    return None if is_other else operation


def _receivers(operation: Operation, node: fx.Node, rule: Rule, facts: Analysis) -> list[fx.Node]:
    choose = operation.receivers
    operands = operation.operands(node) if choose is None else choose(node, rule, facts)
    return list(
        dict.fromkeys(o for o in operands if isinstance(o, fx.Node) and facts.is_dynamic(o))
    )


def _default_receivers(
    node: fx.Node, facts: Analysis, wanted: set[fx.Node] | frozenset[fx.Node]
) -> list[fx.Node]:
    if node.op != "call_function":
        return []
    if _is_part(node):
        found = [source for source in node.all_input_nodes if facts.is_dynamic(source)]
    else:
        operation = _described(node, facts) or UNKNOWN
        found = _receivers(operation, node, operation.default(node, facts), facts)
    return [source for source in found if source in wanted]


def _reached(
    captured: Captured, facts: Analysis, explained: fx.Node, wanted: set[fx.Node]
) -> list[fx.Node]:
    """The nodes that relevance reaches from ``explained`` under the default rules, last first."""
    live, reached = {explained}, []
    for node in reversed(captured.module.graph.nodes):
        if node in live and node in wanted and node.op == "call_function":
            reached.append(node)
            live.update(_default_receivers(node, facts, wanted))
    return reached


def _asked_for(node: fx.Node, unknown: Callable[[str], Rule | None]) -> tuple[Rule, str] | None:
    """The rule that a function of the user returns for an operation without a description."""
    rule = unknown(name_of(node))
    if rule is None:
        return None
    if not UNKNOWN.accepts(rule):
        kinds = " or ".join(kind.__name__ for kind in UNKNOWN.alternatives)
        raise OptionError(
            f"unknown= must return {kinds} or None for '{name_of(node)}' {where(node)}, got {rule!r}"
        )
    return rule, _ASKED


def _lacks_rule(step: Step) -> bool:
    """Whether an operation without a description got no suitable rule."""
    return step.chosen_by != _ASKED or packet_of(step.node.target) is None


def _refuse_unknown(steps: Iterable[Step], unknown: Unknown) -> None:
    missing = [step.node for step in steps if step.operation is UNKNOWN and _lacks_rule(step)]
    advice = (
        'LRPFx(..., unknown="vjp") divides their relevance by the contributions of their operands, if '
        "they have a derivative. LayerLRPFx(model, layer) explains a layer above them and does not need "
        "them. If an operation is a function of single entries, let its relevance pass:\n"
        "    from lrp_fx import operations\n"
        "    operations.register(operations.passing({names}))"
    )
    if unknown == "vjp":
        missing = [n for n in missing if packet_of(n.target) is None]
        advice = "Autograd cannot follow them: write them with operations of PyTorch."
    if not missing:
        return
    lines = dict.fromkeys(f"  {name_of(node)} {where(node)}" for node in reversed(missing))
    names = ", ".join(dict.fromkeys(f'"{name_of(node)}"' for node in reversed(missing)))
    advice = advice.replace("{names}", names)
    raise UnsupportedOperationError(
        "\n".join(["no relevance is described for these operations:", *lines, advice])
    )


def _refuse_computed_weights(reached: Iterable[fx.Node], facts: Analysis) -> None:
    """Refuse layers whose weight or bias depends on the inputs: those would get no relevance."""
    for node in filter(is_linear, reached):
        bound = arguments(node)
        for name in ("weight", "bias"):
            if facts.is_dynamic(bound[name]):
                raise UnsupportedOperationError(
                    f"the {name} of '{name_of(node)}' {where(node)} is computed from the explained "
                    "inputs, and would get no relevance: write the operation as a product or a sum"
                )


def _places(
    model: nn.Module, from_input: dict[fx.Node, int], from_output: dict[fx.Node, int]
) -> Callable[[fx.Node], Place]:
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


def _chosen(
    node: fx.Node, place: Place, composite: Composite, facts: Analysis, used: set[int]
) -> tuple[Rule, str]:
    choose = _choose_parts if place.kind == "recurrent" else _choose
    return choose(node, place, composite, facts, used)


def _choose(
    node: fx.Node, place: Place, composite: Composite, facts: Analysis, used: set[int]
) -> tuple[Rule, str]:
    operation = _described(node, facts) or UNKNOWN
    chosen: tuple[Rule, str] | None = None
    for line, (matcher, rule) in enumerate(composite.assignments):
        if operation.accepts(rule) and matcher(place):
            used.add(line)
            if chosen is None and (not facts.is_categorical(node) or isinstance(rule, _OF_NAMES)):
                chosen = rule, f"{composite.name}[{line}]: {matcher.text}"
    return chosen or (operation.default(node, facts), "default")


_OF_NAMES = (Route, Uniform)
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


def _refuse_unused(composite: Composite, places: dict[fx.Node, Place], used: set[int]) -> None:
    known = list(places.values())
    for line, (matcher, rule) in enumerate(composite.assignments):
        if composite.strict and line not in used:
            raise without_match(matcher, rule, known)
    for matcher, top_k in composite.filters:
        demanded = composite.strict or matcher.required
        if demanded and not any(matcher(place) for place in known):
            raise without_match(matcher, f"top_k={top_k}", known)


def _filter(filters: Iterable[tuple[Matcher, float]], place: Place) -> float | None:
    for matcher, top_k in filters:
        if matcher(place):
            return None if top_k == 1 else top_k
    return None


__all__ = ["UNKNOWN_POLICIES", "Plan", "Step", "make_plan"]
