"""Moves signs before functions to their arguments, and finds values of opposite sign."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.canonize.numbers import are_equal, scaled_by, unwound
from lrp_fx.graph import (
    arguments,
    aten,
    call_like,
    call_with_operand,
    is_call,
    is_same,
    literal,
    name_of,
    names_where,
    row_of,
)
from lrp_fx.meaning import is_softsign


def is_view_of_one(value: Any) -> bool:
    """Whether a value moves the entries of one other value, and each has one reader."""
    row = row_of(value)
    if not row.arranges or row.results:
        return False
    return len(value.users) == len(value.all_input_nodes) == 1 and isinstance(
        value.args[0], fx.Node
    )


def is_opposite(first: fx.Node, second: fx.Node) -> bool:
    """Whether two values are ``f(-z)`` and ``f(z)`` of an odd function."""
    if name_of(first) != name_of(second) or name_of(first) not in _SYMMETRIC:
        return False
    if not is_same(first.args[1:], second.args[1:]):
        return False
    scales = [unwound(each.args[0]) for each in (first, second)]
    (one, shift, z), (other, offset, w) = scales
    return are_equal(one, -other) and (shift, offset) == (0, 0) and is_same(z, w)


def signed(node: fx.Node, graph: fx.Graph, scale: float, inner: Any) -> fx.Node | None:
    """``-f(z)`` as ``f(-z)`` for an odd function, and ``-softplus(-z)`` as ``log_sigmoid(z)``.

    The sign moves to the argument, also through views of the function's value. There it may cancel
    another sign or be folded into the weights of a layer.
    """
    views: list[fx.Node] = []
    while scale < 0 and is_view_of_one(inner):
        views.append(inner)
        inner = inner.args[0]
    if views:
        below = signed(node, graph, -1.0, inner)
        if below is None:
            return None
        for view in reversed(views):
            below = call_with_operand(graph, view, view.args[0], below)
        return scaled_by(graph, node, below, -scale)
    if scale >= 0 or not is_call(inner, "softplus", "div", *_SYMMETRIC):
        return None
    b = arguments(inner)
    beta = literal(b.get("beta", 1))
    if beta is None or len(inner.users) > 1:  # other readers need the value as it is
        return None
    if is_call(inner, "div") and not is_softsign(b["self"], b["other"]):
        return None
    negative = scaled_by(graph, node, b["self"], -beta)
    if is_call(inner, "softplus"):
        function, scale = call_like(graph, node, aten.log_sigmoid, negative), scale / beta
    elif is_call(inner, "div"):
        size = call_like(graph, node, aten.abs, negative)
        function = call_like(
            graph, node, aten.div, negative, call_like(graph, node, aten.add, size, 1)
        )
    else:
        function = call_with_operand(graph, inner, b["self"], negative)
    return scaled_by(graph, node, function, -scale)


def complement_of(graph: fx.Graph, node: fx.Node, gate: Any) -> fx.Node | None:
    """``1 - sigmoid(z)`` as ``sigmoid(-z)``; None if the gate is not a sigmoid."""
    if not is_call(gate, "sigmoid", "hardsigmoid"):
        return None
    return call_with_operand(graph, gate, gate.args[0], scaled_by(graph, node, gate.args[0], -1.0))


_SYMMETRIC = names_where(lambda row: row.odd) - {"neg"}
"""Odd functions: ``f(-z) = -f(z)``."""
