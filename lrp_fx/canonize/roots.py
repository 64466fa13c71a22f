"""Roots of squares and of sums of squares, from which norms are written."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import (
    arguments,
    aten,
    call_like,
    call_with_operand,
    is_call,
    literal,
    row_of,
)


def root(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``rsqrt(z²)`` as ``1 / |z|``, and the root of a product of two sums of squares as two roots."""
    product: Any = node.args[0]
    if is_call(node, "rsqrt") and _is_square(product):
        size = call_like(graph, node, aten.abs, product.args[0])
        return call_like(graph, node, aten.reciprocal, size)
    if not is_call(product, "mul") or len(product.users) != 1:
        return None
    factors = arguments(product)["self"], arguments(product)["other"]
    if not all(map(_is_sum_of_squares, factors)):
        return None
    roots = [call_with_operand(graph, node, product, factor) for factor in factors]
    return call_like(graph, node, aten.mul, *roots)


def _is_sum_of_squares(value: Any) -> bool:
    while row_of(value).arranges or is_call(value, "sum", "mean", "clamp_min"):
        value = value.args[0]
    return _is_square(value)


def _is_square(value: Any) -> bool:
    if is_call(value, "pow"):
        return literal(value.args[1]) == 2
    return is_call(value, "square") or (is_call(value, "mul") and value.args[0] is value.args[1])
