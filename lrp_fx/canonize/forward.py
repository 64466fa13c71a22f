"""Folds a constant scale and shift per unit into the linear operation after it.

``W (s x + t) + b`` becomes ``(s W) x + (W t + b)``. Examples are batch norms, also frozen or
written out. Two kinds of scales and shifts stay. Those of the model's input are preprocessing: they
pass relevance unchanged, and the bounds of the input are carried through them. Those of a norm over
a sample's own values, such as a layer norm, belong to that norm.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import fx

from lrp_fx.canonize.affine import AFFINE, fits_units, scale_and_shift, set_parameters
from lrp_fx.canonize.carrying import BEHIND, Factor, carried_behind
from lrp_fx.graph import (
    CONVOLUTIONS,
    NORMS,
    Constants,
    arguments,
    as_tuple,
    aten,
    call_like,
    depends_on_inputs,
    name_of,
    shapes_of,
)
from lrp_fx.meaning import Dependence, analyse
from lrp_fx.relevance import ROUTING

TAKING = CONVOLUTIONS | {"linear"}
"""Operations to fold into. After a transposed convolution a shift would vary from entry to entry."""
Parts = tuple[Factor, Factor]
"""The scale ``s`` and the shift ``t``."""
OfNorm = Callable[[fx.Graph, fx.Node], tuple[fx.Node, fx.Node]]


def fold_forward(
    graph: fx.Graph,
    constants: Constants,
    linear: fx.Node,
    of_norm: OfNorm,
    stays: Callable[[fx.Node], bool],
    *,
    dense: bool,
    kept: frozenset[fx.Node],
) -> None:
    """Fold the scales and shifts of a linear operation's input into the operation, where exact.

    It is exact if nothing else reads the input and no zero padding lies between: padded zeros would
    not be shifted. A number that only scales changes no rule's shares and stays.

    Args:
        graph: the graph to edit.
        constants: the values that depend only on parameters.
        linear: a convolution or linear layer.
        of_norm: writes the scale and shift of a batch norm.
        stays: whether the scale and shift of a value have to stay (see :func:`what_stays`).
        dense: assume that linear layers read values of shape (N, C), so that the channels of a
            batch norm are their inputs, and that constants may have more leading dimensions of size
            one than a unit has.
        kept: nodes whose values have to stay.
    """
    views = _views(linear, dense, kept)
    steps, source = _steps(linear, views, constants, dense, kept)
    if not steps or source in kept or stays(source):
        return
    with graph.inserting_before(linear):
        parts = [_parts(graph, step, linear, of_norm) for step in steps]
        if views:
            parts = [
                _behind(graph, constants, step, each, views)
                for step, each in zip(steps, parts, strict=True)
            ]
    if not any(_changes_shares(each) for each in parts):
        return
    for step, each in zip(steps, parts, strict=True):
        if each is None or not _fits(each, linear, constants, dense):
            return
        _fold(graph, constants, linear, step, each, views)


def may_vanish(node: fx.Node) -> bool:
    """Whether folding may remove a node: a norm, or padding, scale or shift before a layer."""
    if name_of(node) == "batch_norm":
        return True
    readers = {name_of(reader) for reader in node.users}
    return not readers.isdisjoint(TAKING) and (name_of(node) == "pad" or _scaled(node) is not None)


def what_stays(graph: fx.Graph) -> Callable[[fx.Node], bool]:
    """A function that tells whether the scale and shift of a value have to stay."""

    @cache
    def facts() -> tuple[Callable[[object], bool], Callable[[object], bool], Dependence]:
        analysis = analyse(graph, (node for node in graph.nodes if node.op == "placeholder"))
        return (
            analysis.is_preprocessing,
            analysis.is_dynamic,
            Dependence(graph, analysis.is_dynamic),
        )

    def stays(value: fx.Node) -> bool:
        is_preprocessing, is_dynamic, dependence = facts()
        if is_preprocessing(value):
            return True
        while name_of(value) in ROUTING:
            value = value.all_input_nodes[0]
        if name_of(value) not in ("mul", "div"):
            return name_of(value) in NORMS
        first, second = arguments(value)["self"], arguments(value)["other"]
        if not (is_dynamic(first) and is_dynamic(second)):
            return False
        return any(
            dependence.reduces(one, source)
            for one, other in ((first, second), (second, first))
            for source in dependence.sources(other)
        )

    return stays


def _views(linear: fx.Node, dense: bool, kept: frozenset[fx.Node]) -> list[fx.Node]:
    """The views between a linear operation and the scales of its input, in reverse graph order."""
    views: list[fx.Node] = []
    value = arguments(linear)["input"]
    while dense and name_of(value) in BEHIND and len(value.users) == 1 and value not in kept:
        views.append(value)
        value = value.args[0]
    return views


def _behind(
    graph: fx.Graph, constants: Constants, step: fx.Node, parts: Parts | None, views: list[fx.Node]
) -> Parts | None:
    """The scale and shift of a step, carried past the views of its value."""
    values = shapes_of(constants.module).shape_of(step)
    found: list[Factor] = []
    for part in parts or ():
        carried: Factor | None = part
        if name_of(step) == "batch_norm" and values is not None and isinstance(part, fx.Node):
            sizes = [-1] + [1] * (len(values) - 2)
            carried = call_like(graph, step, aten.reshape, part, sizes)
        for view in reversed(views):
            if isinstance(carried, fx.Node):
                carried = carried_behind(graph, view, carried, constants)
        if carried is None:
            return None
        found.append(carried)
    return (found[0], found[1]) if found else None


def _steps(
    linear: fx.Node,
    views: list[fx.Node],
    constants: Constants,
    dense: bool,
    kept: frozenset[fx.Node],
) -> tuple[list[fx.Node], fx.Node]:
    """The scales and shifts of a linear operation's input, and the value that they start from.

    Returns:
        The steps in reverse graph order, and the value before them.
    """
    steps: list[fx.Node] = []
    value = views[-1].args[0] if views else arguments(linear)["input"]
    assert isinstance(value, fx.Node)
    if not _takes_shifts(linear, constants):
        return steps, value
    while len(value.users) == 1 and value not in kept:
        operand = _scaled(value)
        is_norm_of_places = name_of(value) == "batch_norm" and name_of(linear) == "linear"
        if operand is None or (is_norm_of_places and not dense):
            break
        steps.append(value)
        value = operand
    return steps, value


def _takes_shifts(linear: fx.Node, constants: Constants) -> bool:
    """Whether a constant shift of an input channel shifts all entries of an output channel equally."""
    bound = arguments(linear)
    weight = constants(bound["weight"])
    if weight is None or bound["weight"] is bound["input"]:
        return False
    if name_of(linear) == "linear":
        return True
    is_depthwise = weight.shape[1] == 1 and bound["groups"] == weight.shape[0]
    no_padding = not any(as_tuple(bound["padding"], 1))
    return no_padding and (bound["groups"] == 1 or is_depthwise)


def _scaled(node: fx.Node) -> fx.Node | None:
    """The operand that a batch norm or a constant scales or shifts; None for any other node."""
    if name_of(node) == "batch_norm":
        operand: fx.Node = arguments(node)["input"]
        return operand if depends_on_inputs(operand) else None
    if name_of(node) not in AFFINE:
        return None
    moving = [operand for operand in node.all_input_nodes if depends_on_inputs(operand)]
    return moving[0] if len(moving) == 1 else None


def _parts(graph: fx.Graph, step: fx.Node, linear: fx.Node, of_norm: OfNorm) -> Parts | None:
    """The scale and shift of a step. Those of a batch norm are reshaped to broadcast to its values."""
    if name_of(step) != "batch_norm":
        operand = _scaled(step)
        return None if operand is None else scale_and_shift(graph, step, operand)
    scale, shift = of_norm(graph, step)
    if name_of(linear) != "linear":
        sizes = [-1] + [1] * int(name_of(linear)[-2])  # the 2 of conv2d
        scale, shift = (call_like(graph, linear, aten.reshape, v, sizes) for v in (scale, shift))
    return scale, shift


def _changes_shares(parts: Parts | None) -> bool:
    """Whether the scale and shift are more than one number that scales all units."""
    if parts is None:
        return False
    scale, shift = parts
    return isinstance(scale, fx.Node) or isinstance(shift, fx.Node) or shift != 0


def _fits(parts: Parts, linear: fx.Node, constants: Constants, dense: bool) -> bool:
    weight = constants(arguments(linear)["weight"])
    assert weight is not None
    is_depthwise = name_of(linear) != "linear" and arguments(linear)["groups"] > 1
    channels = weight.shape[0] if is_depthwise else weight.shape[1]
    units = (channels, *[1] * (weight.dim() - 2))
    return all(
        fits_units(part, units, weight, constants, dense)
        for part in parts
        if isinstance(part, fx.Node)
    )


def _fold(
    graph: fx.Graph,
    constants: Constants,
    linear: fx.Node,
    step: fx.Node,
    parts: Parts,
    views: list[fx.Node],
) -> None:
    """Let the linear operation read the operand of ``step``, with a new weight and bias."""
    bound, scaled = arguments(linear), _scaled(step)
    weight = constants.shape_of(bound["weight"])
    assert weight is not None and scaled is not None
    depthwise = len(weight) > 2 and bound["groups"] > 1
    ones = [1] * (len(weight) - 2)
    shape = [-1, 1, *ones] if depthwise else [1, -1, *ones]
    with graph.inserting_before(linear):
        scale, shift = (
            call_like(graph, linear, aten.reshape, part, shape)
            if isinstance(part, fx.Node)
            else part
            for part in parts
        )
        if shift != 0:
            shifted = call_like(graph, linear, aten.mul, bound["weight"], shift)
            bias = call_like(graph, linear, aten.sum, shifted, list(range(1, len(weight))))
            if bound["bias"] is not None:
                bias = call_like(graph, linear, aten.add, bias, bound["bias"])
            bound["bias"] = bias
        if scale != 1:
            bound["weight"] = call_like(graph, linear, aten.mul, bound["weight"], scale)
    if views:
        views[-1].replace_input_with(step, scaled)
    else:
        bound["input"] = scaled
    set_parameters(linear, bound, bound["weight"], bound["bias"])
    known = linear.meta.get("merged_into_input", ())
    linear.meta["merged_into_input"] = known + step.meta.get("module_calls", ())
    graph.erase_node(step)
