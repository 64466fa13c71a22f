"""Roots of sums of squares, from which norms are written."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import (
    arguments,
    aten,
    call_like,
    call_with_operand,
    is_call,
    row_of,
)


def norm_by_its_root(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """Write the root of a product of two sums of squares as the product of their roots."""
    product: Any = node.args[0]
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
    return is_call(value, "square") or (is_call(value, "mul") and value.args[0] is value.args[1])
