"""From a graph and a composite to a plan."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx, nn

from lrp_fx.capture import Captured
from lrp_fx.composites import Composite
from lrp_fx.composites.composite import without_match
from lrp_fx.graph import descendants
from lrp_fx.meaning import Analysis, analyse, linear_ranks
from lrp_fx.plan.choose import (
    chosen,
    default_receivers,
    filter_at,
    places_in,
    receivers_of,
    refuse_unused,
)
from lrp_fx.plan.notes import notes_on
from lrp_fx.plan.plan import Hook, Plan, Step, is_part
from lrp_fx.plan.refusals import (
    refuse_computed_weights,
    refuse_random,
    refuse_unknown,
    without_relevance,
)
from lrp_fx.plan.unknown import Unknown, asked_for
from lrp_fx.relevance import UNKNOWN, operation_of
from lrp_fx.rules import Rule


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
        CaptureError: if ``explained`` is random.
        InputError: if ``explained`` does not depend on the inputs.
        UnsupportedOperationError: for operations without a description, all of which it names, and
            for weights that are computed from the inputs.
        CompositeError: for a line of the composite or a hook that matches nothing, or a rule that
            does not fit.
        OptionError: if a function ``unknown`` returns anything but an accepted rule or None.
    """
    refuse_random(explained)
    graph, stops = captured.module.graph, [node for group in groups for node in group]
    facts = analyse(graph, inputs)
    if not facts.is_dynamic(
        explained
    ):  # a layer above the nodes where relevance ends may still get some
        facts = analyse(graph, [*inputs, *stops])
    if not facts.is_dynamic(explained):
        raise without_relevance(explained, facts)
    everything = _reached(captured, facts, explained, set(facts.dynamic))
    ranks = linear_ranks(reversed(everything), lambda n: default_receivers(n, facts, facts.dynamic))
    wanted = descendants(graph, stops)
    place_of = places_in(model, *ranks)
    places = {node: place_of(node) for node in everything if not is_part(node)}
    used: set[int] = set()
    choices: dict[fx.Node, tuple[Rule, str]] = {}
    for node, place in places.items():
        choices[node] = chosen(node, place, composite, facts, used)

    steps = []
    live = {explained}
    for node in reversed(graph.nodes):
        if node not in live or node not in wanted:
            continue
        if is_part(node):
            receivers = [node.args[0]]
            steps.append(Step(node, "", None, None, "", None, tuple(receivers)))
        elif node.op == "call_function":
            operation = operation_of(node) or UNKNOWN
            if node not in choices:  # the default rules do not reach it, but a chosen one does
                places[node] = place_of(node)
                choices[node] = chosen(node, places[node], composite, facts, used)
            if operation is UNKNOWN and callable(unknown):
                choices[node] = asked_for(node, unknown) or choices[node]
            rule, chosen_by = choices[node]
            candidates = receivers_of(operation, node, rule, facts)
            receivers = [operand for operand in candidates if operand in wanted]
            if node in stops and not receivers:
                continue
            place = places[node]
            path = place.paths[-1] if place.paths else ""
            top_k = filter_at(composite.filters, place)
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
                    place=place,
                )
            )
        else:
            continue
        live.update(receivers)
    passing = [step for step in steps if step.receivers]
    refuse_unknown(passing, unknown)
    refuse_computed_weights([step.node for step in passing], facts)
    refuse_unused(composite, places, used)
    for hook in hooks:
        if not any(hook in step.hooks for step in steps):
            raise without_match(hook.matcher, "relevance hooks", list(places.values()))
    notes = [*notes, *notes_on(steps, explained, facts)]
    return Plan(
        tuple(steps), explained, tuple(map(tuple, groups)), tuple(notes), facts, way=captured.way
    )


def _reached(
    captured: Captured, facts: Analysis, explained: fx.Node, wanted: set[fx.Node]
) -> list[fx.Node]:
    """The nodes that relevance reaches from ``explained`` under the default rules, last first."""
    live, reached = {explained}, []
    for node in reversed(captured.module.graph.nodes):
        if node in live and node in wanted and node.op == "call_function":
            reached.append(node)
            live.update(default_receivers(node, facts, wanted))
    return reached
