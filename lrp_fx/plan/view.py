"""Views: which output or layer is explained, for inputs or for layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx, nn

from lrp_fx.capture import Captured, Way
from lrp_fx.composites import Composite
from lrp_fx.errors import InputError
from lrp_fx.plan.final_probabilities import explained_output
from lrp_fx.plan.layers import Layer, find_layer, layer_name
from lrp_fx.plan.make import make_plan
from lrp_fx.plan.outputs import OutputKey, explained_result
from lrp_fx.plan.plan import Hook, Plan, Squashing
from lrp_fx.plan.unknown import Unknown
from lrp_fx.relevance import MaskRelevance


@dataclass(frozen=True)
class View:
    """Which output or layer is explained, and for which inputs or layers.

    Args:
        explained: the layer whose value is explained; None for the model's output.
        explained_input: explain the layer's input, not its output.
        layers: the layers whose relevance is wanted; None for the model's inputs.
        layers_input: the relevance of the layers' inputs, not their outputs.
        audited: for the ledger, which also needs nodes that pass no relevance on.
        masked: the layers whose relevance is masked by channels, per run.
        through: also stop relevance that bypasses the masked layers.
        channel_dim: the dimension of these channels.
    """

    explained: Layer | None = None
    explained_input: bool = False
    layers: tuple[Layer, ...] | None = None
    layers_input: bool = False
    audited: bool = False
    masked: tuple[Layer, ...] = ()
    through: bool = False
    channel_dim: int = 1


def plan_of_view(
    captured: Captured,
    model: nn.Module,
    composite: Composite,
    view: View,
    *,
    inputs: Sequence[fx.Node],
    candidates: tuple[bool, ...] | None,
    output: OutputKey | None,
    unknown: Unknown,
    hooks: Sequence[Hook],
    reason: str = "",
) -> Plan:
    """The plan for a view.

    Args:
        captured: the canonical graph, with the values that the view asks for.
        model: the user's model.
        composite: the rules.
        view: the explained output or layer, and for which inputs or layers.
        inputs: the placeholders that are explained.
        candidates: which outputs could be explained if none is named; None if that is not known.
        output: the output that the user named.
        unknown: what to do at operations without a description.
        hooks: the user's hooks.
        reason: why the composite was chosen, for the reader of the plan.

    Raises:
        InputError: for a layer that is not there, or that has several tensors where one is needed.
        LRPError: the errors of :func:`make_plan`.
    """
    notes = [_capture_note(captured.way), f"composite: {composite.name}{reason and f' ({reason})'}"]
    squashing: Squashing = "softmax"
    if view.explained is None:
        result, chosen = explained_result(captured, output, candidates)
        of = explained_output(result)
        explained, note, squashing = of.node, of.note, of.squashing
        notes += [chosen] if chosen else []
    else:
        nodes = find_layer(captured, model, view.explained, of_input=view.explained_input)
        if len(nodes) != 1:
            verb = "reads" if view.explained_input else "returns"
            names = ", ".join(map(str, nodes))
            raise InputError(f"the layer {verb} {len(nodes)} tensors: name one of {names}")
        (explained,), note = nodes, f"explained: {nodes[0].name}"
    groups: list[tuple[fx.Node, ...]] = [tuple(inputs)]
    if view.layers is not None:
        groups = [
            find_layer(captured, model, layer, before=explained, of_input=view.layers_input)
            for layer in view.layers
        ]
    plan = make_plan(
        captured,
        model,
        composite,
        inputs=inputs,
        explained=explained,
        groups=groups,
        unknown=unknown,
        notes=[*notes, note],
        hooks=hooks,
    )
    masks = _masks(captured, model, view, explained)
    return replace(plan, masks=masks, through=view.through, squashing=squashing)


def _masks(
    captured: Captured, model: nn.Module, view: View, explained: fx.Node
) -> dict[fx.Node, MaskRelevance]:
    """The mask of each layer that a run may name channels of, by the layer's node."""
    masks: dict[fx.Node, MaskRelevance] = {}
    for layer in view.masked:
        name = layer_name(model, layer)
        nodes = find_layer(captured, model, layer, before=explained)
        if len(nodes) != 1:
            raise InputError(f"'{name}' returns {len(nodes)} tensors: name the node of one")
        if nodes[0] in masks:
            raise InputError(
                f"'{name}' and '{masks[nodes[0]].layer}' are one node, '{nodes[0].name}': name one"
            )
        masks[nodes[0]] = MaskRelevance(name, view.channel_dim)
    return masks


def _capture_note(way: Way) -> str:
    if way == "record":
        return "capture: record; the plan holds for this input only, others may take another branch"
    return f"capture: {way}"
