"""Moves the signs of factors before the product: ``-(a b) (-c)`` is ``a b c``, ``a (-c)`` is ``-(a c)``.

A sign that stays at a factor would be folded into the layer that computes it. Rules tell a layer from
its negative, so the map would depend on which factor bears the sign, and no factor is the right one.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.canonize.signs import is_view_of_one
from lrp_fx.graph import (
    affine,
    aten,
    call_like,
    call_with_operand,
    called,
    is_call,
    replace_by,
    row_of,
)
from lrp_fx.meaning import dynamic_values
from lrp_fx.relevance import operation_of


def signs_before_products(graph: fx.Graph) -> None:
    """Rewrite each product of two values that depend on the inputs, in place.

    A sign is moved if nothing else reads the factor, also out of odd functions and through views.
    """
    if not any(map(_has_sign, graph.nodes)):
        return
    dynamic = dynamic_values(graph, (n for n in graph.nodes if n.op == "placeholder"))
    for node in list(graph.nodes):
        with graph.inserting_before(node):
            if is_call(node, "neg") and is_call(node.args[0], "neg"):
                replace_by(node, node.args[0].args[0])
            elif dynamic.issuperset(factors := _factors(node)):
                _move_signs(graph, node, factors)


def _factors(node: fx.Node) -> list[Any]:
    """The operands of a product or matrix product; none of any other node."""
    operation = operation_of(node)
    is_product = operation is not None and operation.kind in ("product", "bilinear")
    return list(operation.operands(node)) if operation is not None and is_product else []


def _move_signs(graph: fx.Graph, product: fx.Node, factors: list[fx.Node]) -> None:
    """Take the signs off the factors, and negate the product if their number is odd."""
    found = {factor: _without_sign(graph, factor) for factor in factors}
    positive = {factor: value for factor, value in found.items() if value is not None}
    if not positive:
        return
    args, kwargs = fx.map_arg((product.args, product.kwargs), lambda n: positive.get(n, n))
    written = call_like(graph, product, called(product), *args, **kwargs)
    is_negative = sum(factor in positive for factor in factors) % 2 == 1
    replace_by(product, call_like(graph, product, aten.neg, written) if is_negative else written)


def _has_sign(value: fx.Node) -> bool:
    """Whether a node multiplies by a negative number."""
    form = affine(value)
    return form is not None and form.shift == 0 and form.scale < 0


def _without_sign(graph: fx.Graph, value: fx.Node) -> fx.Node | None:
    """The negative of a value, if it bears a sign that can be taken off; else None."""
    if len(value.users) != 1:
        return None
    form = affine(value)
    if form is not None:
        if not _has_sign(value):
            return None
        if form.scale == -1:
            return form.operand
        return call_like(graph, value, aten.mul, form.operand, -form.scale)
    if not (row_of(value).odd or is_view_of_one(value)):
        return None
    inside = value.args[0]
    positive = _without_sign(graph, inside) if isinstance(inside, fx.Node) else None
    return None if positive is None else call_with_operand(graph, value, inside, positive)
