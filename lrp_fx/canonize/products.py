"""Products with a constant, however they are written, as linear layers or ``lrp_fx::product``.

``x @ W`` with a matrix becomes ``aten.linear``. Every other product with a constant (``W @ x``, a
vector, a matrix per head, ``mv``, ``dot``, an einsum) becomes ``lrp_fx::product``, which has the
same operands as a linear layer. The constant may be computed from parameters or from sizes. An
elementwise product that maps one entry to several, as in ``x[:, :, None] * w``, is a linear layer too,
and a product of ``one_hot`` with a table is a look-up.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import fx

from lrp_fx.canonize.affine import LINEAR
from lrp_fx.canonize.call_writer import CallWriter
from lrp_fx.canonize.einsum import Indexed, contract, take_apart
from lrp_fx.canonize.masks import selects
from lrp_fx.canonize.softmaxes import is_exponential
from lrp_fx.graph import (
    ARITHMETIC,
    CASTS,
    MATRIX_PRODUCTS,
    ON_THE_LEFT,
    ON_THE_RIGHT,
    PRODUCT,
    Constants,
    affine,
    arguments,
    as_tuple,
    aten,
    before_expansion,
    called,
    literal,
    name_of,
    packet_of,
    replace_by,
    row_of,
    shape_of,
    shapes_of,
)
from lrp_fx.meaning import dynamic_values


def name_products(graph: fx.Graph, module: fx.GraphModule, explained: int | None = None) -> None:
    """Rewrite each einsum, and each product with an operand that no explained input affects.

    Args:
        graph: the graph to edit, after :func:`~lrp_fx.canonize.vocabulary.one_vocabulary`.
        module: holds the parameters of the graph.
        explained: how many of the first inputs are explained; None for all.

    Raises:
        UnsupportedOperationError: for an einsum of one operand that sums over an ellipsis.
    """
    nodes = [node for node in graph.nodes if name_of(node) in _FORMS and _may_be_product(node)]
    names = {name_of(node) for node in graph.nodes}
    if not nodes and names.isdisjoint({*_SPREADING, "one_hot"}):
        return
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    dynamic = dynamic_values(graph, inputs[:explained])
    _write_each(graph, module, nodes, _FORMS, dynamic)
    forms = {**dict.fromkeys(_SPREADING, _spread), "linear": _look_up}
    others = [node for node in graph.nodes if name_of(node) in forms]
    _write_each(graph, module, others, forms, dynamic)


def _write_each(
    graph: fx.Graph,
    module: fx.GraphModule,
    nodes: Iterable[fx.Node],
    forms: Mapping[str, Form],
    dynamic: set[fx.Node],
) -> None:
    """Rewrite the nodes that depend on the inputs, each by the form of its name."""
    for node in nodes:
        if node in dynamic:
            with graph.inserting_before(node):
                written = forms[name_of(node)](CallWriter(node, dynamic), node)
                if written is not None:
                    replace_by(node, written)


def has_given_factors(graph: fx.Graph, explained: int) -> bool:
    """Whether a factor of some product depends only on inputs that are not explained.

    Args:
        graph: a captured graph.
        explained: how many of the first inputs are explained.
    """
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if explained >= len(inputs):
        return False
    moving, given = set(inputs[:explained]), set(inputs[explained:])
    for node in graph.nodes:
        sources = node.all_input_nodes
        if not moving.isdisjoint(sources):
            if name_of(node) in (*_FORMS, *_WITH_SUMS) and not given.isdisjoint(sources):
                return True
            moving.add(node)
        elif not given.isdisjoint(sources):
            given.add(node)
    return False


def _may_be_product(node: fx.Node) -> bool:
    """Whether a node is a product by its name, or sums one up."""
    if name_of(node) not in ("sum", "mean"):
        return True
    return name_of(node.all_input_nodes[0]) == "mul"


def _sum_of_products(write: CallWriter, node: fx.Node) -> fx.Node | None:
    """Write ``(x * w).sum(dim)`` as a linear layer, if the constant ``w`` varies along ``dim``.

    If ``w`` selects entries, it stays: a sum or a mean of the entries that a mask selects is one of
    fewer entries, and not a layer.
    """
    b = arguments(node)
    first, second = list(arguments(b["self"]).values())[:2]
    if write.is_dynamic(first) == write.is_dynamic(second) or b.get("dtype") is not None:
        return None
    if is_exponential(b["self"], None):  # the denominator of a softmax
        return None
    data, weight = (first, second) if write.is_dynamic(first) else (second, first)
    values, constant = shapes_of(write.module)(data), shapes_of(write.module)(weight)
    dims = as_tuple(b.get("dim"), 1)
    if values is None or constant is None or not all(isinstance(dim, int) for dim in dims):
        return None
    if torch.result_type(values, constant) != values.dtype or not values.is_floating_point():
        return None  # a linear layer has one dtype, and indices have no weights
    sizes, own = values.shape, constant.shape
    rank = max(len(sizes), len(own))
    summed = {dim % rank - rank for dim in dims}
    if selects(weight, summed, shapes_of(write.module)):
        return None
    varies = {-place for place, size in enumerate(reversed(own), 1) if size != 1}
    if not summed or not summed <= varies:
        return None
    spread = {dim for dim in varies if -dim <= len(sizes) and sizes[dim] == 1}
    if summed & spread or len(own) > len(sizes):
        return None
    names = dict(zip(range(-rank, 0), string.ascii_letters, strict=False))
    for dim in sorted(spread):  # dimensions that only the constant has are units
        data = write(aten.squeeze, data, dim)
    indexed = Indexed(data, tuple(names[dim] for dim in names if dim not in spread))
    kept = write(aten.reshape, weight, [own[dim] for dim in sorted(varies)])
    if constant.dtype != values.dtype:  # a mask
        kept = write(aten.to, kept, values.dtype)
    weights = Indexed(kept, tuple(names[dim] for dim in sorted(varies)))
    value = contract(
        write, indexed, weights, tuple(names[d] for d in names if d not in summed)
    ).value
    if name_of(node) == "mean":
        value = write(aten.div, value, math.prod(own[dim] for dim in summed))
    for dim in sorted(summed) if b.get("keepdim") else ():
        value = write(aten.unsqueeze, value, dim % rank)
    return value


def _spread(write: CallWriter, node: fx.Node) -> fx.Node | None:
    """Write a product that maps one entry to several as a linear layer: ``x[:, :, None] * w``.

    The entries are those of an input, also normalized, or of a linear layer. What else is spread by
    a constant may be a statistic or a gate, whose products are read as a whole.
    """
    b = arguments(node)
    if b.get("rounding_mode") is not None:
        return None
    first, second = b["self"], b["other"]
    if name_of(node) == "mul" and write.is_dynamic(second):
        first, second = second, first
    data, shapes = before_expansion(first), shapes_of(write.module)
    constant = shapes(second)
    if constant is None or not _is_entry(write, data):
        return None
    values = shapes(data)
    if values is None or values.dtype != constant.dtype or not values.is_floating_point():
        return None
    rank = values.dim()
    sizes, own = values.shape, (*[1] * (rank - constant.dim()), *constant.shape)
    varies = [dim for dim in range(-rank, 0) if own[dim] != 1]
    spread = [dim for dim in varies if sizes[dim] == 1]
    if not spread or -rank in spread or constant.dim() > rank:  # the first one is the batch
        return None
    if data is not first and spread == varies:  # the copies that the code makes are normalized
        return None
    whole = [size if size != 1 else more for size, more in zip(sizes, own, strict=True)]
    if shapes.shape_of(node) != torch.Size(whole) or Constants(write.module)(second) is None:
        return None
    weight = write(aten.reshape, second, [own[dim] for dim in varies])
    if name_of(node) == "div":
        weight = write(aten.reciprocal, weight)
    if spread == [-1] == varies:
        return write(aten.linear, data, write(aten.unsqueeze, weight, -1))
    for dim in spread:
        data = write(aten.squeeze, data, dim)
    names = dict(zip(range(-rank, 0), string.ascii_letters, strict=False))
    kept = [dim for dim in names if dim not in spread]
    of_data, of_weight, of_all = ("".join(names[d] for d in dims) for dims in (kept, varies, names))
    return write(PRODUCT, data, weight, None, f"{of_data},{of_weight}->{of_all}")


def _is_entry(write: CallWriter, value: fx.Node) -> bool:
    """Whether a value is an input or the result of a linear layer, moved, scaled and shifted."""
    while name_of(value) in ARITHMETIC | {"neg"} or row_of(value).arranges:
        moving = [source for source in value.all_input_nodes if write.is_dynamic(source)]
        if len(moving) != 1:
            return False
        (value,) = moving
    return value.op == "placeholder" or name_of(value) in LINEAR | {"product"}


def _look_up(write: CallWriter, node: fx.Node) -> fx.Node | None:
    """Write a linear layer of ``one_hot(i)``, also summed or averaged, as a look-up of its columns."""
    b = arguments(node)
    weight = b["weight"]
    if write.is_dynamic(weight):
        return None
    table = weight.args[0] if name_of(weight) == "t" else write(aten.t, weight)
    rows = _rows(write, b["input"], table)
    return rows if rows is None or b["bias"] is None else write(aten.add, rows, b["bias"])


def _rows(write: CallWriter, value: Any, table: fx.Node) -> fx.Node | None:
    """``value @ table`` by looking rows up, if the value counts or averages indices; else None."""
    b, name = arguments(value) if packet_of(value.target) else {}, name_of(value)
    if name == "one_hot":
        return write(aten.embedding, table, b["self"])
    form = affine(value)
    if name in CASTS:
        return _rows(write, value.args[0], table)
    if form is not None and form.shift == 0:
        rows = _rows(write, form.operand, table)
        return None if rows is None else write(aten.mul, rows, form.scale)
    if name not in ("sum", "mean"):
        return None
    counted, dims = shapes_of(write.module)(b["self"]), as_tuple(b.get("dim"), 1)
    if counted is None or not all(isinstance(dim, int) for dim in dims):
        return None
    if counted.dim() - 1 in {dim % counted.dim() for dim in dims}:
        return None
    rows = _rows(write, b["self"], table)
    return None if rows is None else write(called(value), rows, list(dims), b["keepdim"])


def _matrix_product(write: CallWriter, node: fx.Node) -> fx.Node | None:
    first, second = list(arguments(node).values())[:2]
    if write.is_dynamic(first) == write.is_dynamic(second):
        return None
    if name_of(node) == "bmm":
        first, second = (
            v if write.is_dynamic(v) else _of_each(v, write.module) for v in (first, second)
        )
    chosen = _sum_of_chosen(write, first, second)
    if chosen is not None:
        return chosen
    if write.is_dynamic(second):
        return write(PRODUCT, second, first, None, ON_THE_LEFT)
    shape = shape_of(second, write.module)
    if shape is not None and len(shape) == 2:
        return write(aten.linear, first, write(aten.t, second))
    return write(PRODUCT, first, second, None, ON_THE_RIGHT)


def _sum_of_chosen(write: CallWriter, first: fx.Node, second: fx.Node) -> fx.Node | None:
    """Write a product with one row or column of ones, or of a mask, as a sum: ``m @ x``; else None."""
    on_left, shapes = write.is_dynamic(second), shapes_of(write.module)
    data, weight = (second, first) if on_left else (first, second)
    values, own = shapes.shape_of(data), shapes.shape_of(weight)
    if own is None or (on_left and (values is None or len(values) < 2)):
        return None
    is_vector = len(own) == 1
    summed = -1 if is_vector or on_left else -2
    if not (is_vector or own[-3 - summed] == 1):
        return None
    dim, number = -2 if on_left else -1, literal(weight)
    if number is not None:
        return write(aten.mul, write(aten.sum, data, [dim], not is_vector), number)
    if not selects(weight, {summed}, shapes):
        return None
    if is_vector:
        factor = write(aten.unsqueeze, weight, -1) if on_left else weight
    else:
        factor = write(aten.transpose, weight, -2, -1)
    return write(aten.sum, write(aten.mul, data, factor), [dim], not is_vector)


def _of_each(batch: fx.Node, module: fx.GraphModule) -> fx.Node:
    """The matrix that a constant batch repeats, so that bmm is a product with that matrix."""
    if name_of(batch) != "expand":
        return batch
    matrix, sizes = list(arguments(batch).values())[:2]
    if name_of(matrix) == "unsqueeze" and arguments(matrix)["dim"] == 0:
        matrix = arguments(matrix)["self"]
    shape = shape_of(matrix, module)
    if shape is None or len(shape) != 2:
        return batch
    kept = all(size in (-1, own) for size, own in zip(sizes[-2:], shape, strict=True))
    return matrix if kept else batch


def _vdot(write: CallWriter, node: fx.Node) -> fx.Node:
    """Write ``Σ_i a_i b_i``, of real numbers, as a product."""
    a, b = arguments(node).values()
    return contract(write, Indexed(a, ("i",)), Indexed(b, ("i",)), ()).value


def _inner(write: CallWriter, node: fx.Node) -> fx.Node | None:
    """Write ``Σ_i a_…i b_…i``, over the last dimension of both, as a linear layer."""
    first, second = arguments(node).values()
    return _over(write, first, second, [-1], [-1])


def _tensordot(write: CallWriter, node: fx.Node) -> fx.Node | None:
    return _over(write, *list(arguments(node).values())[:4])


def _over(
    write: CallWriter, first: fx.Node, second: fx.Node, dims: list[int], others: list[int]
) -> fx.Node | None:
    """The product summed over the given dimensions, as a linear layer; None without a constant."""
    if write.is_dynamic(first) == write.is_dynamic(second):
        return None
    data, weight = (first, second) if write.is_dynamic(first) else (second, first)
    summed, rows = (dims, others) if write.is_dynamic(first) else (others, dims)
    shape = shape_of(weight, write.module)
    if shape is None or not summed:
        return None
    count = len(summed)
    last = list(range(-count, 0))
    rows = [dim % len(shape) for dim in rows]
    free = [dim for dim in range(len(shape)) if dim not in rows]
    matrix = write(aten.permute, weight, [*free, *rows])
    units = 1
    for dim in free:
        units *= shape[dim]
    matrix = write(aten.reshape, matrix, [units, -1])
    if list(summed) != last:
        data = write(aten.movedim, data, list(summed), last)
    if not free and selects(weight, {dim - len(shape) for dim in rows}, shapes_of(write.module)):
        return write(aten.sum, write(aten.mul, data, write(aten.permute, weight, rows)), last)
    if count > 1:
        data = write(aten.flatten, data, -count, -1)
    result = write(aten.linear, data, matrix)
    if not free:
        return write(aten.squeeze, result, -1)
    if len(free) > 1:
        result = write(aten.unflatten, result, -1, [shape[dim] for dim in free])
    if write.is_dynamic(first):
        return result
    return write(aten.movedim, result, list(range(-len(free), 0)), list(range(len(free))))


Form = Callable[[CallWriter, fx.Node], "fx.Node | None"]
_SPREADING = ("mul", "div")
_WITH_SUMS = ("addmm", "baddbmm")
"""Operations that contain such a product once they are written in the one vocabulary."""
_FORMS: dict[str, Form] = {
    **dict.fromkeys(MATRIX_PRODUCTS, _matrix_product),
    "vdot": _vdot,
    "inner": _inner,
    "tensordot": _tensordot,
    "einsum": take_apart,
    "sum": _sum_of_products,
    "mean": _sum_of_products,
}
