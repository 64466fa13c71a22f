"""Slices, selections and joins that return a whole value, or its only entry, are removed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from lrp_fx.canonize.numbers import MAX_STEPS, scaled_by
from lrp_fx.graph import (
    CASTS,
    MATRIX_PRODUCTS,
    Shapes,
    affine,
    arguments,
    as_tuple,
    aten,
    call_like,
    call_with_operand,
    called,
    index_of,
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
    if _leads_to_join(b["self"], MAX_STEPS):
        return part_of_joined(node, graph)
    if is_call(b["self"], "pad"):
        return _unpadded(node, graph)
    return _columns(node, graph) if is_call(b["self"], *MATRIX_PRODUCTS) else None


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
    is_product = depth and is_call(second, *MATRIX_PRODUCTS)
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
    before = shapes_of(graph.owning_module)(pad["self"])
    if before is None:
        return None
    dim = b["dim"] % before.dim()
    place = 2 * (before.dim() - 1 - dim)  # a pad lists the last dimension first
    added, size = list(pad["pad"]), before.shape[dim]
    if any(isinstance(value, fx.Node) for value in (b["start"], b["end"], *added)):
        return None
    first, last = added[place : place + 2] or (0, 0)
    start, end, _ = slice(b["start"], b["end"]).indices(first + size + last)
    if (start, end - start) != (first, size):
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
    if _leads_to_join(value, MAX_STEPS):
        return part_of_joined(node, graph)
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
    """A reduction whose dimension is added again after it: the reduction with ``keepdim``."""
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
    kept = call_like(graph, node, called(value), *value.args, **{**value.kwargs, "keepdim": True})
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


@dataclass(frozen=True)
class _Part:
    """Entries ``start`` to ``end`` of a value along a dimension that counts from the front."""

    dim: int
    start: int
    end: int


def part_of_joined(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A slice or selection of joined values as the same part of one or some of these values."""
    shapes, b = shapes_of(graph.owning_module), arguments(node)
    whole = shapes.shape_of(b["self"])
    if whole is None:
        return None
    dim = b["dim"] % len(whole)
    if is_call(node, "select"):
        if not isinstance(b["index"], int):
            return None
        place = b["index"] % whole[dim]
        found = _cut(graph, node, b["self"], _Part(dim, place, place + 1), MAX_STEPS)
        return None if found is None else _entry(graph, node, found, dim)
    bounds = (b["start"], b["end"], b["step"])
    if not all(each is None or isinstance(each, int) for each in bounds) or b["step"] != 1:
        return None
    start, end, _ = slice(b["start"], b["end"]).indices(whole[dim])
    return _cut(graph, node, b["self"], _Part(dim, start, end), MAX_STEPS)


def pieces_of_joined(node: fx.Node, graph: fx.Graph) -> None:
    """Replace the pieces of a split of joined values by parts of these values."""
    b = arguments(node)
    if not _leads_to_join(b["self"], MAX_STEPS):
        return
    shapes = shapes_of(graph.owning_module)
    whole = shapes.shape_of(b["self"])
    start = 0
    results = shapes.results_of(node)
    if whole is None or results is None:
        return
    dim, unbinds = b["dim"] % len(whole), is_call(node, "unbind")
    parts = []
    for size in (1 if unbinds else each.shape[dim] for each in results):
        parts.append(_Part(dim, start, start + size))
        start += size
    for user in [user for user in node.users if is_call(user, "getitem")]:
        found = _cut(graph, node, b["self"], parts[index_of(user)], MAX_STEPS)
        if found is not None and unbinds:
            found = _entry(graph, node, found, dim)
        if found is not None:
            replace_by(user, found)


def _entry(graph: fx.Graph, node: fx.Node, value: fx.Node, dim: int) -> fx.Node:
    """The only entry along a dimension: the value that was stacked, or a selection."""
    if is_call(value, "stack") and arguments(value)["dim"] == dim:
        (stacked,) = arguments(value)["tensors"]
        assert isinstance(stacked, fx.Node)
        return stacked
    return call_like(graph, node, aten.select, value, dim, 0)


def _leads_to_join(value: Any, steps: int) -> bool:
    """Whether a value is joined by ``cat`` or ``stack``, and then only turned, scaled or cast."""
    if is_call(value, "cat", "stack"):
        return not _is_layer(value)
    passes = is_call(value, *_TURNS, *CASTS) or affine(value) is not None
    sources = value.all_input_nodes if steps and passes and value.args else []
    return len(sources) == 1 and _leads_to_join(sources[0], steps - 1)


def _is_layer(join: fx.Node) -> bool:
    """Whether a module does nothing but join. Its value stays, so that it is found by its name."""
    around = [*join.all_input_nodes, *join.users]
    known = {call for each in around for call in each.meta.get("module_calls", ())}
    return not known.issuperset(join.meta.get("module_calls", ()))


def _cut(graph: fx.Graph, node: fx.Node, value: Any, part: _Part, steps: int) -> fx.Node | None:
    """Write a part of a value without the values beside it; None if it was not joined from several."""
    if not _leads_to_join(value, steps):
        return None
    if is_call(value, "cat", "stack"):
        return _cut_join(graph, node, value, part)
    source = value.all_input_nodes[0]
    shape = shapes_of(graph.owning_module).shape_of(source)
    if shape is None:
        return None
    dim = part.dim
    if is_call(value, *_TURNS):  # which dimension of the source becomes this one
        numbers = torch.empty([place + 2 for place in range(len(shape))], device="meta")
        turned = called(value)(numbers, *value.args[1:], **value.kwargs)
        dim = turned.shape[dim] - 2
    below = _cut(graph, node, source, _Part(dim, part.start, part.end), steps - 1)
    return None if below is None else call_with_operand(graph, value, source, below)


_TURNS = names_where(lambda row: row.permutes)


def _cut_join(graph: fx.Graph, node: fx.Node, join: fx.Node, part: _Part) -> fx.Node | None:
    """Write the joined values, or parts of them, that a part of the join consists of."""
    b, shapes = arguments(join), shapes_of(graph.owning_module)
    joined, values = shapes(join), list(b["tensors"])
    if joined is None or b["dim"] % joined.dim() != part.dim or part.end <= part.start:
        return None
    if is_call(join, "stack"):
        kept = values[part.start : part.end]
        if any((own := shapes(each)) is None or own.dtype != joined.dtype for each in kept):
            return None
        return call_like(graph, node, aten.stack, kept, part.dim) if kept != values else None
    kept, begin = list[fx.Node](), 0
    for value in values:
        own = shapes(value)
        if own is None or (own.dim(), own.dtype) != (joined.dim(), joined.dtype):
            return None
        size = own.shape[part.dim]
        start, end = max(part.start - begin, 0), min(part.end - begin, size)
        begin += size
        if start < end:
            piece = value
            if (start, end) != (0, size):
                cut = _cut(graph, node, value, _Part(part.dim, start, end), MAX_STEPS)
                bounds = (part.dim, start, end, 1)
                piece = cut or call_like(graph, node, aten.slice, value, *bounds)
            kept.append(piece)
    if kept == values:
        return None
    return kept[0] if len(kept) == 1 else call_like(graph, node, aten.cat, kept, part.dim)


def only_entry_unbound(node: fx.Node, graph: fx.Graph) -> None:
    """Replace the only piece along a dimension by the value without that dimension."""
    only = _only_entry(node, graph)
    for user in [user for user in node.users if is_call(user, "getitem")]:
        if only is not None:
            replace_by(user, only)
    if only is None:
        pieces_of_joined(node, graph)
