"""Constant operands in one form: numbers instead of filled tensors, not expanded, one dtype."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from lrp_fx.graph import (
    ARITHMETIC,
    Shapes,
    arguments,
    as_whole_number,
    aten,
    call_like,
    is_call,
    literal,
    name_of,
    operand,
    packet_of,
    replace_by,
    row_of,
    shapes_of,
    tensor_at,
)
from lrp_fx.meaning import CHOICES, NONNEGATIVE, TRUTHS, dynamic_values

_MOST = 1 << 16
"""The most entries that are compared. A larger constant is a table or a mask."""


def name_numbers(graph: fx.Graph, module: fx.GraphModule, constants: Mapping[str, Tensor]) -> None:
    """Write constants that the model's code makes as ``full``, if all entries are the same number.

    Args:
        graph: the graph to edit.
        module: holds the parameters of the graph.
        constants: the constants that do not belong to the model.
    """
    made = [n for n in graph.nodes if n.op == "get_attr" and str(n.target) in constants]
    for node in made:
        node.meta[TRUTHS] = _is_truths(constants[str(node.target)])
        node.meta[CHOICES] = _is_choice(constants[str(node.target)])
        node.meta[NONNEGATIVE] = _is_nonnegative(constants[str(node.target)])
    found = [
        (node, number)
        for node in made
        if (number := _number(constants[str(node.target)])) is not None
    ]
    if not found:
        return
    shapes = shapes_of(module)
    for node, number in found:
        value = constants[str(node.target)]
        if value.dim() and not all(_takes_number(reader, node, shapes) for reader in node.users):
            continue
        with graph.inserting_before(node):
            form = {"dtype": value.dtype, "device": value.device}
            full = call_like(graph, node, aten.full, list(value.shape), number, **form)
        replace_by(node, full)


def _is_truths(value: Tensor) -> bool:
    """Whether all entries of a tensor are zero or one."""
    return _is_readable(value) and bool(((value == 0) | (value == 1)).all())


def _is_choice(value: Tensor) -> bool:
    """Whether all entries of a tensor are zero or one other number."""
    return _is_readable(value) and bool(((value == 0) | (value == value.max())).all())


def _is_nonnegative(value: Tensor) -> bool:
    """Whether no entry of a tensor is negative."""
    return _is_readable(value) and bool((value >= 0).all())


def _is_readable(value: Tensor) -> bool:
    """Whether a tensor holds real numbers, and few enough to look at all of them."""
    if type(value) is not Tensor or value.layout != torch.strided or value.is_complex():
        return False
    return 0 < value.numel() <= _MOST and value.device.type != "meta"


def _number(value: Tensor) -> float | None:
    if not _is_readable(value):
        return None
    first = value.reshape(-1)[0]
    return first.item() if bool((value == first).all()) else None


def _takes_number(reader: fx.Node, constant: fx.Node, shapes: Shapes) -> bool:
    """Whether a reader yields the same shape and dtype with a number in place of the constant."""
    if not row_of(reader).entrywise:
        return True
    result = shapes(reader)
    others = [shapes(source) for source in reader.all_input_nodes if source is not constant]
    return result is not None and any(
        other is not None and (other.shape, other.dtype) == (result.shape, result.dtype)
        for other in others
    )


_SPREADS = ("expand", "expand_as", "repeat")


def plain_operands(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Simplify the constant operands of arithmetic: numbers, unexpanded tensors, the value's dtype.

    Args:
        graph: the graph to edit.
        module: holds the parameters of the graph.
    """
    inputs = (node for node in graph.nodes if node.op == "placeholder")
    dynamic, shapes = dynamic_values(graph, inputs), shapes_of(module)
    for node in list(graph.nodes):
        if packet_of(node.target) is None or name_of(node) not in ARITHMETIC:
            continue
        b = arguments(node)
        for value, constant in ((b["self"], b["other"]), (b["other"], b["self"])):
            if value not in dynamic or constant in dynamic or not isinstance(constant, fx.Node):
                continue
            if _with_number(node, value, constant, shapes):
                continue
            plain = _unspread(node, value, constant, shapes)
            kind = _other_type(plain, value, shapes)
            if kind is not None:
                with graph.inserting_before(node):
                    plain = call_like(graph, node, aten.to, plain, kind)
            if plain is not constant:
                node.replace_input_with(constant, plain)


def _with_number(node: fx.Node, value: fx.Node, constant: fx.Node, shapes: Shapes) -> bool:
    """Replace a constant whose entries all agree by a number, if the result stays the same.

    A constant of zeros, such as the initial state of a recurrence, stays: its sums remain sums.
    """
    number, b = literal(constant), arguments(node)
    if not number or b.get("alpha", 1) != 1:
        return False
    whole, own = shapes(node), shapes(value)
    if whole is None or own is None:
        return False
    is_first = b["self"] is value
    if (whole.shape, whole.dtype) != (own.shape, own.dtype) or b.get("rounding_mode") is not None:
        return False
    if not is_first and name_of(node) in ("div", "rsub"):
        return False
    if not is_first and name_of(node) == "sub":
        node.target = aten.rsub
    node.args, node.kwargs = (value, as_whole_number(number)), {}
    return True


def _unspread(node: fx.Node, value: fx.Node, constant: fx.Node, shapes: Shapes) -> fx.Node:
    """The constant before it was expanded, if the value has the shape of the result anyway."""
    while is_call(constant, *_SPREADS):
        source = constant.args[0]
        assert isinstance(source, fx.Node)
        result, other, before, after = map(shapes.shape_of, (node, value, source, constant))
        if result is None or other != result or before is None or after is None:
            break
        ranked = (*[1] * (len(after) - len(before)), *before)
        if any(own not in (1, size) for own, size in zip(ranked, after, strict=True)):
            break
        constant = source
    return constant


def _other_type(constant: fx.Node, value: fx.Node, shapes: Shapes) -> torch.dtype | None:
    """The value's dtype if it is floating and the constant holds integers or booleans, else None."""
    own = shapes(constant)
    if own is None or own.is_floating_point() or own.is_complex():
        return None
    known = shapes(value)
    return known.dtype if known is not None and known.is_floating_point() else None


_SPARSE = ("to_sparse", "to_sparse_csr", "to_sparse_csc")
_OF_SPARSE = ("_sparse_mm", "mm", "matmul", "_sparse_addmm", "to_dense")
"""What takes full matrices too."""


def dense_constants(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Write sparse matrices, such as an adjacency matrix, in full, in place: rules take parts of them.

    Args:
        graph: the graph to edit.
        module: holds the constants of the graph.
    """
    for node in list(graph.nodes):
        if name_of(node) in _SPARSE and all(name_of(user) in _OF_SPARSE for user in node.users):
            replace_by(node, operand(node))
    for node in list(graph.find_nodes(op="get_attr")):
        if tensor_at(module, str(node.target)).layout != torch.strided:
            with graph.inserting_after(node):
                dense = graph.call_function(aten.to_dense, (node,))
            node.replace_all_uses_with(
                dense, delete_user_cb=lambda user, new=dense: user is not new
            )
