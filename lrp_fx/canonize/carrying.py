"""Carries a constant scale or shift past views: from after a view to before it, and back.

A view here moves, adds, removes, splits or joins dimensions, or moves entries along some of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import fx

from lrp_fx.graph import (
    Constants,
    arguments,
    aten,
    call_like,
    called,
    name_of,
    names_where,
    shapes_of,
)

Factor = fx.Node | float
"""A constant: a tensor node or a number."""


def before_views(value: fx.Node) -> tuple[fx.Node, list[fx.Node]]:
    """The value that ``value`` is a view of, and the views between them, in graph order."""
    views: list[fx.Node] = []
    while name_of(value) in _BEFORE and isinstance(value.args[0], fx.Node):
        views.insert(0, value)
        value = value.args[0]
    return value, views


def carried_before(
    graph: fx.Graph,
    node: fx.Node,
    parts: tuple[Factor, Factor],
    views: list[fx.Node],
    constants: Constants,
) -> tuple[Factor, Factor] | None:
    """A scale and shift of the views' result, as those of what the views read; None if unknown."""
    found: list[Factor] = []
    with graph.inserting_before(node):
        for part in parts:
            carried: Factor | None = part
            for view in reversed(views):
                if isinstance(carried, fx.Node):
                    carried = _BEFORE[name_of(view)](graph, view, carried, constants)
            if carried is None:
                return None
            found.append(carried)
    scale, shift = found
    return scale, shift


def _before_removal(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A constant before ``select`` or ``squeeze`` of one dimension, in which it gets size one."""
    value, dim = constants(constant), arguments(view).get("dim")
    if value is None or not isinstance(dim, int):
        return None
    if dim >= 0:  # of unknown rank, it is taken for the last one
        dim = dim - _rank(view, constants, dim + 1)
    reaches = value.dim() >= -dim
    return call_like(graph, view, aten.unsqueeze, constant, dim) if reaches else constant


def _before_unsqueeze(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    value, dim = constants(constant), min(arguments(view)["dim"], -1)
    if value is None:
        return None
    if value.dim() < -dim:
        return constant
    is_one = value.shape[dim] == 1
    return call_like(graph, view, aten.squeeze, constant, dim) if is_one else None


def _rank(view: fx.Node, constants: Constants, least: int) -> int:
    """The number of dimensions of what a view reads; ``least`` if it is unknown."""
    shape = shapes_of(constants.module).shape_of(view.args[0])
    return least if shape is None else len(shape)


def _before_move(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A constant before a permutation of dimensions."""
    value, bound = constants(constant), arguments(view)
    if value is None:
        return None
    if name_of(view) == "permute":
        rank = len(bound["dims"])
        order = [dim % rank for dim in bound["dims"]]
    else:
        pair = [bound.get("dim0", -2), bound.get("dim1", -1)]
        if (pair[0] < 0) != (pair[1] < 0):
            return None
        rank = _rank(view, constants, max(-min(pair), max(pair) + 1))
        first, second = (dim % rank for dim in pair)
        order = list(range(rank))
        order[first], order[second] = second, first
        rank = max(rank, value.dim()) if pair[0] < 0 else rank
        order = [*range(rank - len(order)), *(dim + rank - len(order) for dim in order)]
    if value.dim() > rank:
        return None
    sizes = [*[1] * (rank - value.dim()), *value.shape]
    back = [order.index(dim) for dim in range(rank)]
    ranked = call_like(graph, view, aten.reshape, constant, sizes)
    return call_like(graph, view, aten.permute, ranked, back)


def _before_reshape(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A constant before dimensions are split or joined, with one value per entry of a group."""
    shapes = shapes_of(constants.module)
    inner, outer = shapes.shape_of(view.args[0]), shapes.shape_of(view)
    if inner is None or outer is None:
        return None
    return _regrouped(graph, view, constant, constants, outer, inner)


def carried_behind(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A scale or shift of what a view reads, as that of what it returns; None if unknown."""
    shapes = shapes_of(constants.module)
    inner, outer = shapes.shape_of(view.args[0]), shapes.shape_of(view)
    value = constants(constant)
    if inner is None or outer is None or value is None or value.dim() > len(inner):
        return None
    if name_of(view) in ARRANGED:
        return _before_arrangement(graph, view, constant, constants)
    if name_of(view) in _REGROUPING:
        return _regrouped(graph, view, constant, constants, inner, outer)
    sizes = [*[1] * (len(inner) - value.dim()), *value.shape]
    ranked = call_like(graph, view, aten.reshape, constant, sizes)
    moved = call_like(graph, view, called(view), ranked, *view.args[1:], **view.kwargs)
    return moved


ARRANGED = ("flip", "roll", "slice", "index_select", *(f"upsample_nearest{n}d" for n in (1, 2, 3)))
"""Operations that keep the dimensions, and move, repeat or drop entries along some of them."""


_REGROUPING = names_where(lambda row: row.keeps_order and not row.entrywise)
_PERMUTING = names_where(lambda row: row.permutes) - {"movedim"}

BEHIND = _REGROUPING | _PERMUTING | {*ARRANGED}
"""Views through which :func:`carried_behind` can carry a constant."""


def _regrouped(
    graph: fx.Graph,
    view: fx.Node,
    constant: fx.Node,
    constants: Constants,
    old: Sequence[int],
    new: Sequence[int],
) -> fx.Node | None:
    """A constant that broadcasts to the shape ``old``, as one that broadcasts to the shape ``new``."""
    value = constants(constant)
    if value is None or value.dim() > len(old):
        return None
    own = (*[1] * (len(old) - value.dim()), *value.shape)
    expanded, sizes = list[int](), list[int]()
    for of_old, of_new in _groups(old, new):
        kept = own[len(expanded) : len(expanded) + len(of_old)]
        differs = any(size != 1 for size in kept)
        expanded += of_old if differs else [1] * len(of_old)
        sizes += of_new if differs else [1] * len(of_new)
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    spread = call_like(graph, view, aten.expand, constant, expanded)
    return call_like(graph, view, aten.reshape, spread, sizes)


def _groups(inner: Sequence[int], outer: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The sizes of two shapes of one value, split into the smallest groups of equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    rest, others = list(inner), list(outer)
    while rest and others:
        left, right = [rest.pop(0)], [others.pop(0)]
        while math.prod(left) != math.prod(right):
            short, more = (left, rest) if math.prod(left) < math.prod(right) else (right, others)
            short.append(more.pop(0))
        groups.append((left, right))
    ones = rest, others  # trailing sizes of one
    return [*groups, ones] if rest or others else groups


def _before_arrangement(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A constant before entries are moved along dimensions in which it does not vary."""
    shape = shapes_of(constants.module).shape_of(view.args[0])
    value, dims = constants(constant), _arranged_dims(view)
    if shape is None or value is None or dims is None or value.dim() > len(shape):
        return None
    own = (*[1] * (len(shape) - value.dim()), *value.shape)
    return constant if all(own[dim] == 1 for dim in dims) else None


def _arranged_dims(view: fx.Node) -> tuple[int, ...] | None:
    """The dimensions along which a view moves, repeats or drops entries; None if unknown."""
    b, name = arguments(view), name_of(view)
    if name.startswith("upsample_nearest"):
        return tuple(range(-int(name[-2]), 0))
    dims = b.get("dims", b.get("dim"))
    listed = tuple(dims) if isinstance(dims, (list, tuple)) else (dims,)
    return listed if listed and all(isinstance(dim, int) for dim in listed) else None


_BEFORE = {
    **dict.fromkeys(ARRANGED, _before_arrangement),
    **dict.fromkeys(("reshape", "flatten", "unflatten"), _before_reshape),
    "select": _before_removal,
    "squeeze": _before_removal,
    "unsqueeze": _before_unsqueeze,
    **dict.fromkeys(_PERMUTING, _before_move),
}
"""View → the function that turns a constant after the view into one before it."""
