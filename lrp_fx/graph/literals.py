"""Numbers in a graph, affine maps by numbers, and calls that compute the same value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from lrp_fx.graph.calls import arguments, name_of, packet_of
from lrp_fx.graph.operations import ARITHMETIC, names_where, row_named

_FILL_ARGUMENT = {
    **dict.fromkeys(("full_like", "new_full", "full"), "fill_value"),
    "scalar_tensor": "s",
}
_MADE = {torch.ones: 1.0, torch.zeros: 0.0}
"""Python functions that are called where the size is a value of the graph."""
_SPREADS = names_where(lambda row: row.keeps_order) | {"expand", "expand_as"}

MAX_STEPS = 4
"""The most steps that are looked through. Nobody scales and shifts a function more often."""
_DEPTH = 6
"""How many steps back two computations are compared; users rarely write longer ones twice."""


@dataclass(frozen=True)
class Affine:
    """The map ``scale · operand + shift``, where scale and shift are numbers."""

    operand: fx.Node
    scale: float
    shift: float


def literal(value: Any) -> float | None:
    """The number that a value stands for: a Python number, or a tensor filled with one number.

    Returns:
        The number, or None if the value is anything else.
    """
    while isinstance(value, fx.Node) and value.op == "call_function":
        name = name_of(value)
        if value.target in _MADE:
            return _MADE[value.target]
        row = row_named(name)
        if row.low == row.high:  # every entry is this number
            return float(row.low)
        if name in _FILL_ARGUMENT:
            value = arguments(value)[_FILL_ARGUMENT[name]]
        elif name in _SPREADS:
            value = value.args[0]
        else:
            return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else None


def as_whole_number(number: float) -> float:
    """The number as an int if it is whole, so that arithmetic with integer tensors stays integer."""
    return int(number) if number.is_integer() else number


def affine(node: Any) -> Affine | None:
    """The affine map that a node applies to its operand; None if there is no such map."""
    if not isinstance(node, fx.Node):
        return None
    name = name_of(node)
    if packet_of(node.target) is None or name not in ARITHMETIC | {"neg"}:
        return None
    b = arguments(node)
    first = b["self"]
    if name == "neg":
        return Affine(first, -1.0, 0.0) if isinstance(first, fx.Node) else None
    second, alpha = b["other"], b.get("alpha", 1)
    if b.get("rounding_mode") is not None or literal(alpha) is None:
        return None
    if name == "rsub":
        first, second, name = second, first, "sub"
        if alpha != 1:
            return None
    number, other_number = literal(first), literal(second)
    if isinstance(first, fx.Node) and other_number is not None:
        if name in ("add", "sub"):
            return Affine(first, 1.0, alpha * other_number * (1 if name == "add" else -1))
        scale = other_number if name == "mul" else (1 / other_number if other_number else None)
        return None if scale is None else Affine(first, scale, 0.0)
    if isinstance(second, fx.Node) and number is not None and name != "div":
        if name == "mul":
            return Affine(second, number, 0.0)
        return Affine(second, alpha * (1.0 if name == "add" else -1.0), number)
    return None


def unwound(value: Any) -> tuple[float, float, Any]:
    """``value`` as ``scale · inner + shift`` with numbers.

    Returns:
        ``scale``, ``shift`` and ``inner``.
    """
    scale, shift = 1.0, 0.0
    for _ in range(MAX_STEPS):
        form = affine(value)
        if form is None:
            break
        scale, shift, value = scale * form.scale, scale * form.shift + shift, form.operand
    return scale, shift, value


def is_same(first: Any, second: Any, depth: int = _DEPTH) -> bool:
    """Whether two values are the same node, or are computed in the same way from the same nodes.

    At most ``depth`` steps back are compared; beyond that, the nodes must be identical.
    """
    if first is second:
        return True
    if not (isinstance(first, fx.Node) and isinstance(second, fx.Node)):
        if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
            pairs = zip(first, second, strict=False)
            return len(first) == len(second) and all(is_same(a, b, depth) for a, b in pairs)
        return type(first) is type(second) and bool(first == second)
    is_call = packet_of(first.target) is not None or name_of(first) == "getitem"
    if depth == 0 or not is_call or (first.op, first.target) != (second.op, second.target):
        return False
    return dict(first.kwargs) == dict(second.kwargs) and is_same(first.args, second.args, depth - 1)


def equal_calls(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Map each node to the first node of the graph that computes the same value by an equal call."""
    first: dict[fx.Node, fx.Node] = {}
    calls: dict[Any, fx.Node] = {}
    for node in graph.nodes:
        first[node] = calls.setdefault(_call(node, first), node)
    return first


def _call(node: fx.Node, first: dict[fx.Node, fx.Node]) -> Any:
    """A key that equal calls share: the target and the arguments. Other nodes are their own key."""
    if node.op == "get_attr":
        return node.op, node.target
    if node.op != "call_function" or not (packet_of(node.target) or name_of(node) == "getitem"):
        return node
    return node.target, str(fx.map_arg((node.args, node.kwargs), first.__getitem__))
