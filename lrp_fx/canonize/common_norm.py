"""Moves the division by a statistic of a linear map's operand before the map.

``W v / ‖v‖`` becomes ``W (v / ‖v‖)`` if the norm is the same number for all entries that a unit
adds up. The statistic is then held constant as in every norm, and does not count as a factor of its
own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from lrp_fx.canonize.call_writer import CallWriter
from lrp_fx.graph import (
    CONVOLUTIONS,
    ON_THE_LEFT,
    ON_THE_RIGHT,
    Shapes,
    arguments,
    aten,
    name_of,
    packet_of,
    replace_by,
    shapes_of,
)
from lrp_fx.meaning import REDUCTIONS, Dependence, behind_views, dynamic_values

_MAPS = CONVOLUTIONS | {"linear", "product"}


def divide_before(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Divide a linear map's operand, not its result, by a statistic of the operand, in place."""
    names = {name_of(node) for node in graph.nodes if packet_of(node.target) is not None}
    if not (names & REDUCTIONS and names & _MAPS and names & {"mul", "div"}):
        return
    dynamic = dynamic_values(graph, (n for n in graph.nodes if n.op == "placeholder"))
    dependence, shapes = Dependence(graph, dynamic.__contains__), shapes_of(module)
    for node in list(graph.nodes):
        if packet_of(node.target) is None or name_of(node) not in ("mul", "div"):
            continue
        first, second = arguments(node)["self"], arguments(node)["other"]
        sides = [(first, second)] + [(second, first)] * (name_of(node) == "mul")
        for score, divisor in sides:
            if score not in dynamic or divisor not in dynamic:
                break
            steps, linear = _before_constants(score, dynamic)
            if name_of(linear) not in _MAPS or arguments(linear).get("bias") is not None:
                continue
            constants, statistic = _before_constants(divisor, dynamic)
            data = next(iter(arguments(linear).values()))
            if statistic not in dynamic or not dependence.reduces(statistic, behind_views(data)):
                continue
            with graph.inserting_before(node):
                write = CallWriter(node, dynamic)
                fitting = _fitting(write, linear, data, statistic, shapes)
                if fitting is None:
                    continue
                value = _again(write, node, data, fitting)
                value = _again(write, linear, value, *list(arguments(linear).values())[1:])
                for step in reversed(steps):
                    args = [value if each in dynamic else each for each in step.args]
                    value = _again(write, step, *args)
                value = _by_constants(write, value, constants, name_of(node) == "div")
            replace_by(node, value)
            dependence = Dependence(
                graph, dynamic.__contains__
            )  # the old object does not know the new nodes
            break


def _again(write: CallWriter, call: fx.Node, *args: Any) -> fx.Node:
    """Write the same operation with other arguments."""
    packet = packet_of(call.target)
    assert packet is not None
    return write(packet, *args)


def _before_constants(value: fx.Node, dynamic: set[fx.Node]) -> tuple[list[fx.Node], fx.Node]:
    """The value before its products with constants, and these products, in reverse graph order.

    Only products that nothing else reads are looked through.

    Returns:
        The products, and the value before them.
    """
    steps: list[fx.Node] = []
    while packet_of(value.target) is not None and name_of(value) in ("mul", "div"):
        b = arguments(value)
        moving = [each for each in (b["self"], b["other"]) if each in dynamic]
        is_quotient = name_of(value) == "div" and (
            moving != [b["self"]] or b.get("rounding_mode") is not None
        )
        if len(moving) != 1 or is_quotient or len(value.users) != 1 or value.kwargs:
            break
        steps.append(value)
        (value,) = moving
    return steps, value


def _by_constants(
    write: CallWriter, value: fx.Node, steps: list[fx.Node], divides: bool
) -> fx.Node:
    """Divide or multiply a value by the constants that stood around the statistic."""
    for step in steps:
        b = arguments(step)
        constant = b["other"] if write.is_dynamic(b["self"]) else b["self"]
        multiplies = (name_of(step) == "mul") != divides
        value = write(aten.mul if multiplies else aten.div, value, constant)
    return value


def _fitting(
    write: CallWriter, linear: fx.Node, data: fx.Node, statistic: fx.Node, shapes: Shapes
) -> fx.Node | None:
    """The statistic in a shape that fits the operand; None if it varies along summed dimensions."""
    size, own = shapes.shape_of(data), shapes.shape_of(statistic)
    weight = shapes.shape_of(arguments(linear)["weight"])
    if size is None or own is None or weight is None:
        return None
    if name_of(linear) in CONVOLUTIONS:
        summed = list(range(1 - len(weight), 0))
    elif name_of(linear) == "linear":
        summed = [-1]
    else:
        form: Any = arguments(linear)["form"]
        if form == ON_THE_LEFT and len(weight) > 1:
            summed = [-2]
        elif (form == ON_THE_RIGHT and len(weight) == 1) or _drops_last(form):
            statistic, own = write(aten.unsqueeze, statistic, -1), torch.Size([*own, 1])
            summed = [-1]
        elif form == ON_THE_RIGHT:
            summed = [-1]
        else:
            return None
    is_one = all(own[dim] == 1 for dim in summed if -dim <= len(own))
    return statistic if is_one and len(own) <= len(size) else None


def _drops_last(form: str) -> bool:
    """Whether an einsum only sums over the last dimension of the data, with a vector."""
    inputs, arrow, output = form.partition("->")
    data, _, weight = inputs.partition(",")
    return bool(arrow) and len(weight) == 1 and data == output + weight
