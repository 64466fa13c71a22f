"""Dot products of two activations, written as matrix products or einsum: a product and its sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from lrp_fx.graph import (
    ELLIPSIS,
    MATRIX_PRODUCTS,
    arguments,
    aten,
    call_like,
    depends_on_inputs,
    is_call,
    name_of,
    packet_of,
    shapes_of,
)


def _sum_of_product(
    node: fx.Node, graph: fx.Graph, first: fx.Node, second: fx.Node, dim: Any, keepdim: bool = False
) -> fx.Node | None:
    if not (depends_on_inputs(first) and depends_on_inputs(second)):
        return None
    product = call_like(graph, node, aten.mul, first, second)
    return call_like(graph, node, aten.sum, product, [dim], keepdim)


def _dot(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    first, second, *_ = arguments(node).values()
    return _sum_of_product(node, graph, first, second, -1)


def _vecdot(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    first, second, dim = arguments(node).values()
    return _sum_of_product(node, graph, first, second, dim)


def _row_by_column(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The matrix product of a single row and a single column, or with a diagonal matrix.

    That of a single column and a single row, which sums over one term only, is a product of entries.
    """
    first, second = list(arguments(node).values())[:2]
    if is_call(first, "diag_embed") and _is_plain_diagonal(first):
        column = call_like(graph, node, aten.unsqueeze, first.args[0], -1)
        return call_like(graph, node, aten.mul, column, second)
    if is_call(second, "diag_embed") and _is_plain_diagonal(second):
        row = call_like(graph, node, aten.unsqueeze, second.args[0], -2)
        return call_like(graph, node, aten.mul, first, row)
    ranks = [3, 3] if name_of(node) == "bmm" else [_rank(first), _rank(second)]
    is_moving = depends_on_inputs(first) and depends_on_inputs(second)
    if (
        is_moving
        and min(ranks) > 1
        and (_has_single(first, -1, ranks[0]) or _has_single(second, -2, ranks[1]))
    ):
        return call_like(graph, node, aten.mul, first, second)
    if not (_has_single(first, -2, ranks[0]) and _has_single(second, -1, ranks[1])):
        return None
    if name_of(node) == "bmm":
        vector = call_like(graph, node, aten.squeeze, first, 1)
        other = call_like(graph, node, aten.squeeze, second, 2)
        dot = _sum_of_product(node, graph, vector, other, -1)
        for dim in (1, 2) if dot is not None else ():
            dot = call_like(graph, node, aten.unsqueeze, dot, dim)
        return dot
    row = call_like(graph, node, aten.transpose, second, -2, -1)
    return _sum_of_product(node, graph, first, row, -1, keepdim=True)


def _rank(value: Any) -> int:
    """The number of dimensions; 0 if it is unknown."""
    shape = shapes_of(value.graph.owning_module).shape_of(value)
    return 0 if shape is None else len(shape)


def _is_plain_diagonal(matrix: fx.Node) -> bool:
    """Whether the entries lie on the main diagonal of the last two dimensions."""
    b = arguments(matrix)
    return (b["offset"], b["dim1"], b["dim2"]) == (0, -2, -1)


def _has_single(value: Any, dim: int, rank: int) -> bool:
    """Whether the code gives a value size one in its last (−1) or second-to-last (−2) dimension.

    A size that is one in this call only, such as that of a text of one word, does not count.

    Args:
        value: a matrix or a batch of matrices.
        dim: −1 or −2.
        rank: the number of dimensions; 0 if it is unknown.
    """
    if not isinstance(value, fx.Node) or packet_of(value.target) is None:
        return False
    bound = arguments(value)
    if name_of(value) == "unsqueeze":
        return bound["dim"] in (dim, dim + rank if rank else dim)
    if name_of(value) == "reshape":
        sizes = bound["shape"]
        return isinstance(sizes, (list, tuple)) and len(sizes) >= 2 and sizes[dim] == 1
    places = (-1, -2, rank - 1, rank - 2) if rank else (-1, -2)
    swaps = name_of(value) == "mT" or (
        name_of(value) == "transpose" and {bound["dim0"], bound["dim1"]} <= set(places)
    )
    return swaps and _has_single(value.args[0], -3 - dim, rank)


def _einsum(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """Write an einsum of two values that contains no matrix product as a product and a sum.

    A leading ellipsis is treated as one index: all other dimensions are counted from the end.
    """
    b = arguments(node)
    equation, tensors = b["equation"].replace(" ", ""), b["tensors"]
    if len(tensors) != 2 or "->" not in equation:
        return None
    inputs, output = equation.replace(ELLIPSIS, ".").split("->")
    names = inputs.split(",")
    if any(len(set(each)) != len(each) or each.find(".") > 0 for each in (*names, output)):
        return None
    shared = set(names[0]) & set(names[1])
    single = set(names[0]) ^ set(names[1])
    contracted = [index for index in names[0] if index in shared and index not in output]
    if not single <= set(output) or (single and contracted) or "." in contracted:
        return None
    if not all(depends_on_inputs(tensor) for tensor in tensors):
        return None
    order = [*output, *contracted]
    factors = [_in_order(graph, node, *pair, order) for pair in zip(tensors, names, strict=True)]
    product = call_like(graph, node, aten.mul, *factors)
    if not contracted:
        return product
    return call_like(graph, node, aten.sum, product, list(range(-len(contracted), 0)))


def _in_order(
    graph: fx.Graph, origin: fx.Node, value: fx.Node, names: str, order: list[str]
) -> fx.Node:
    """A tensor with its dimensions in ``order``, with size one for indices that it lacks."""
    named = [index for index in order if index in names and index != "."]
    source = [names.index(index) - len(names) for index in named]
    if source != sorted(source):
        last = list(range(-len(named), 0))
        value = call_like(graph, origin, aten.movedim, value, source, last)
    for place, index in enumerate(reversed(order)):
        if index not in names and index != ".":
            value = call_like(graph, origin, aten.unsqueeze, value, -1 - place)
    return value


DOT_PRODUCTS: dict[str, Callable[[fx.Node, fx.Graph], fx.Node | None]] = {
    **dict.fromkeys(["dot", "vdot"], _dot),
    "linalg_vecdot": _vecdot,
    **dict.fromkeys(MATRIX_PRODUCTS, _row_by_column),
    "einsum": _einsum,
}
"""Operation → the function that writes it as an entrywise product and a sum, where it is one."""
