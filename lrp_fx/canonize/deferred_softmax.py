"""Softmaxes that divide after the sum: ``Σ exp(z) h / Σ exp(z)`` becomes ``Σ softmax(z) h``."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.canonize.softmaxes import (
    dim_of_sum,
    is_exponential,
    logits_of,
    softmax_of,
    without_safety,
)
from lrp_fx.graph import (
    MATRIX_PRODUCTS,
    affine,
    arguments,
    call_like,
    call_with_operand,
    is_call,
    is_same,
    name_of,
    operand,
    packet_of,
    replace_by,
)
from lrp_fx.relevance import ROUTING

_CONTRACTIONS = MATRIX_PRODUCTS | {"einsum"}


def divide_at_once(graph: fx.Graph) -> None:
    """Divide before the sum, in place, where the divisor is the same for all that is summed.

    Shapes are not known here. The canonical graph is compared with the model, and made again
    without this pass where the assumption fails.
    """
    for node in list(graph.nodes):
        for over, under in _quotients(node):
            with graph.inserting_before(node):
                substitute = _divided(node, graph, over, under)
            if substitute is not None:
                replace_by(node, substitute)
                break


def _quotients(node: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """The numerators and denominators of a quotient or of a product with a reciprocal."""
    if packet_of(node.target) is None or name_of(node) not in ("mul", "div"):
        return []  # products of sizes are not products of tensors
    b = arguments(node)
    first, second = b["self"], b["other"]
    if not (isinstance(first, fx.Node) and isinstance(second, fx.Node)):
        return []
    if name_of(node) == "div":
        return [(first, second)] if b.get("rounding_mode") is None else []
    found: list[tuple[fx.Node, fx.Node]] = []
    for over, under in ((first, second), (second, first)):
        form = affine(under)
        one = form.operand if form is not None and (form.scale, form.shift) == (1, 0) else under
        if is_call(one, "reciprocal"):
            found.append((over, operand(one)))
    return found


def _divided(node: fx.Node, graph: fx.Graph, over: fx.Node, under: fx.Node) -> fx.Node | None:
    moved_total = _behind_views(without_safety(under))[0]
    total = without_safety(moved_total)
    is_safe = total is not moved_total or without_safety(under) is not under
    dim = dim_of_sum(total, kept=False)
    if dim is None:
        return None
    summed = arguments(total)["self"]
    exponential, placed = _behind_views(summed)
    if not is_exponential(exponential, None if placed else dim):
        return None
    contraction, views = _behind_views(over)
    if is_call(contraction, "sum"):
        product = arguments(contraction)["self"]
        if not is_call(product, "mul"):
            return None
    elif is_call(contraction, *_CONTRACTIONS, "mul"):
        product = contraction
    else:
        return None
    for factor in product.all_input_nodes:
        moved = _views_of(factor, summed)
        if moved is not None:
            logits = logits_of(graph, node, exponential, None if placed else dim)
            logits = _moved(graph, placed, logits)
            weights = call_like(graph, node, softmax_of(exponential, is_safe=is_safe), logits, dim)
            new = call_with_operand(graph, product, factor, _moved(graph, moved, weights))
            if product is not contraction:
                new = call_with_operand(graph, contraction, product, new)
            return _moved(graph, views, new)
    return None


def _behind_views(value: Any) -> tuple[Any, list[fx.Node]]:
    """The value behind views, and the views in reverse graph order."""
    views: list[fx.Node] = []
    while isinstance(value, fx.Node) and name_of(value) in ROUTING:
        views.append(value)
        value = value.args[0]
    return value, views


def _views_of(value: fx.Node, source: fx.Node) -> list[fx.Node] | None:
    """The views from ``source`` to ``value`` in reverse graph order; None if there is another way."""
    for count, each in enumerate([*(views := _behind_views(value)[1]), _behind_views(value)[0]]):
        if is_same(each, source):
            return views[:count]
    return None


def _moved(graph: fx.Graph, views: list[fx.Node], value: fx.Node) -> fx.Node:
    for view in reversed(views):
        value = call_with_operand(graph, view, view.args[0], value)
    return value
