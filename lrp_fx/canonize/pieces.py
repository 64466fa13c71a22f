"""Slices, selections and joins that return a whole value, or its only entry, are removed."""

from __future__ import annotations

import sys
from typing import Any

from torch import fx

from lrp_fx.canonize.numbers import MAX_STEPS, scaled_by
from lrp_fx.graph import (
    Shapes,
    arguments,
    as_tuple,
    aten,
    call_like,
    call_with_operand,
    called,
    is_call,
    names_where,
    operand,
    replace_by,
    row_of,
    shapes_of,
)


def whole_slice(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A slice of all entries as the value itself; a slice that undoes a pad as the unpadded value."""
    b = arguments(node)
    if b["step"] != 1:
        return None
    if b["start"] in (0, None) and b["end"] in (None, sys.maxsize):
        whole: fx.Node = b["self"]
        return whole
    if is_call(b["self"], "pad"):
        return _unpadded(node, graph)
    return _columns(node, graph) if is_call(b["self"], *_MATRIX_PRODUCTS) else None


_MATRIX_PRODUCTS = ("matmul", "mm", "bmm")


def _columns(node: fx.Node, graph: fx.Graph, depth: int = MAX_STEPS) -> fx.Node | None:
    """Columns of a product whose second factor was padded: a product with these columns alone.

    This separates the numerator and the denominator of an attention that computes both at once, as
    ``a @ [v, 1]``.
    """
    product: Any = node.args[0]
    first, second, *_ = arguments(product).values()
    shapes = shapes_of(graph.owning_module)
    whole, columns = shapes.shape_of(product), shapes.shape_of(second)
    if whole is None or columns is None or arguments(node)["dim"] % len(whole) != len(whole) - 1:
        return None
    part = call_with_operand(graph, node, product, second)
    part.args = (second, -1, *part.args[2:])
    is_product = depth and is_call(second, *_MATRIX_PRODUCTS)
    found = _columns(part, graph, depth - 1) if is_product else None
    if is_call(second, "pad"):
        found = _unpadded(part, graph)
        number = _added(part, shapes) if found is None else None
        if number is not None:
            total = call_like(graph, node, aten.sum, first, [-1], True)
            graph.erase_node(part)
            return scaled_by(graph, node, total, number)
    graph.erase_node(part)
    return None if found is None else call_with_operand(graph, product, second, found)


def _added(part: fx.Node, shapes: Shapes) -> float | None:
    """The number that the last column was padded with, if a slice takes just this column."""
    b, pad = arguments(part), arguments(operand(part))
    before, after = shapes.shape_of(pad["self"]), shapes.shape_of(b["self"])
    if before is None or after is None or list(pad["pad"]) != [0, 1] or pad["mode"] != "constant":
        return None
    start, end, _ = slice(b["start"], b["end"]).indices(after[-1])
    is_last = (start, end) == (before[-1], after[-1])
    return float(pad["value"] or 0) if is_last else None


def _unpadded(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The unpadded value, if a slice cuts off what a pad added along the slice's dimension."""
    b, pad = arguments(node), arguments(operand(node))
    shapes = shapes_of(graph.owning_module)
    before, after = shapes(pad["self"]), shapes(b["self"])
    if before is None or after is None:
        return None
    dim = b["dim"] % before.dim()
    place = 2 * (before.dim() - 1 - dim)  # a pad lists the last dimension first
    added = list(pad["pad"])
    if any(isinstance(value, fx.Node) for value in (b["start"], b["end"], *added)):
        return None
    start, end, _ = slice(b["start"], b["end"]).indices(after.shape[dim])
    if place >= len(added) or (start, end - start) != (added[place], before.shape[dim]):
        return None
    added[place : place + 2] = [0, 0]
    if not any(added):
        value: fx.Node = pad["self"]
        return value
    return call_like(graph, node, aten.pad, pad["self"], added, pad["mode"], pad["value"])


def _only_entry(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The value without a dimension of size one that is not the batch dimension; else None."""
    b = arguments(node)
    if b["dim"] == 0:
        return None
    shape = shapes_of(graph.owning_module).shape_of(b["self"])
    if shape is None or shape[b["dim"]] != 1 or b["dim"] % len(shape) == 0:
        return None
    return call_like(graph, node, aten.squeeze, b["self"], b["dim"])


def only_entry_selected(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A selection of the only entry of a dimension: the value without that dimension."""
    bound = arguments(node)
    value, dim = bound["self"], bound["dim"]
    only = _only_entry(node, graph)
    if only is not None:
        return only
    outer: list[int] = []
    while is_call(value, "unsqueeze"):
        inner: fx.Node = arguments(value)["self"]
        added = arguments(value)["dim"]
        if added == dim:
            for each in reversed(outer):
                inner = call_like(graph, node, aten.unsqueeze, inner, each - 1)
            return inner
        if not 0 <= dim < added:
            return None
        outer.append(added)
        value = inner
    return None


_REDUCTIONS = names_where(lambda row: row.reduction == "dims" and not row.results)


_ONE_BY_ONE = names_where(lambda row: row.entrywise and not (row.says or row.fills))


def entry_kept(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A reduction whose dimension is added again behind it: the reduction with ``keepdim``."""
    value: Any = node.args[0]
    functions: list[fx.Node] = []
    while is_call(value, *_ONE_BY_ONE) and len(value.all_input_nodes) == 1:
        functions.append(value)
        (value,) = value.all_input_nodes
    if not is_call(value, *_REDUCTIONS):
        return None
    b = arguments(value)
    dims = as_tuple(b.get("dim"), 1)
    if b.get("keepdim", True) or len(dims) != 1 or not isinstance(dims[0], int):
        return None
    if not _puts_back(node, value.args[0], dims[0], graph):
        return None
    kept = call_like(graph, node, called(value), *value.args)
    kept.kwargs = {**value.kwargs, "keepdim": True}
    kept.args = tuple(v for k, v in zip(b, kept.args, strict=False) if k != "keepdim")
    for function in reversed(functions):
        kept = call_with_operand(graph, function, function.all_input_nodes[0], kept)
    return kept


def _puts_back(node: fx.Node, before: Any, dim: int, graph: fx.Graph) -> bool:
    """Whether a view adds the dimension that was reduced."""
    added = arguments(node).get("dim")
    if added is not None and (added < 0) == (dim < 0):
        return bool(added == dim)
    shapes = shapes_of(graph.owning_module)
    whole, shape = shapes.shape_of(before), shapes.shape_of(node)
    if whole is None or shape is None:
        return False
    return list(shape) == [1 if d == dim % len(whole) else size for d, size in enumerate(whole)]


def joined_again(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """All pieces of a value joined in their order: the value."""
    b = arguments(node)
    pieces: list[Any] = b["tensors"]
    wholes = {each.args[0] if is_call(each, "getitem") else None for each in pieces}
    if len(wholes) != 1 or [each.args[1] for each in pieces if each.args[1:]] != [
        *range(len(pieces))
    ]:
        return None
    split: Any = wholes.pop()
    if row_of(split).results != "pieces" or is_call(split, "unbind"):
        return None
    shapes = shapes_of(graph.owning_module)
    source: Any = split.args[0]
    whole, own = shapes.shape_of(node), shapes.shape_of(source)
    if whole is None or whole != own:
        return None
    same = arguments(split)["dim"] % len(whole) == b["dim"] % len(whole)
    return source if same else None


def only_entry_unbound(node: fx.Node, graph: fx.Graph) -> None:
    """Replace the only piece along a dimension by the value without that dimension."""
    only = _only_entry(node, graph)
    for user in [user for user in node.users if is_call(user, "getitem")]:
        if only is not None:
            replace_by(user, only)
