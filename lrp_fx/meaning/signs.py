"""Values without negative entries, as their operations show."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from lrp_fx.graph import (
    CASTS,
    affine,
    arguments,
    ends_of_clip,
    is_size,
    literal,
    name_of,
    packet_of,
    row_of,
    shapes_of,
)
from lrp_fx.relevance import operation_of

NONNEGATIVE = "nonnegative"
"""Metadata key: whether a constant made by the model's code has no negative entries."""
TRUTHS = "truths"
"""Metadata key: whether a constant made by the model's code holds only zeros and ones (a mask)."""
_COUNTS = ("one_hot", "eye")
_BETWEEN = ("arange", "linspace", "logspace")


def is_nonnegative(node: fx.Node, known: set[fx.Node]) -> bool:
    """Whether no entry of a value is negative, if none of the known values has negative entries."""
    name, row, number = name_of(node), row_of(node), literal(node)
    if number is not None:
        return number >= 0
    if node.op == "get_attr":
        return bool(node.meta.get(NONNEGATIVE))
    if row.is_nonnegative or row.says in ("masks", "places") or name in _COUNTS:
        return True
    if name in _BETWEEN:  # whatever its ends and its step are
        return bool(node.args) and all(map(_number_at_least_zero, node.args))
    if row.keeps_sign or name in ("getitem", "where"):
        return _numbers_at_least_zero(node) and all(
            source in known
            for source in node.all_input_nodes
            if not _is_size_or_index(node, source)
        )
    if packet_of(node.target) is None:
        return False
    bound = arguments(node)
    if row.writes:
        written = bound[row.writes if row.writes in bound else "value"]
        return all(v in known or _number_at_least_zero(v) for v in (bound["self"], written))
    if name == "pad":
        fill = bound["value"] if bound["mode"] == "constant" else 0
        return bound["self"] in known and (fill is None or _number_at_least_zero(fill))
    if row.clips:
        return _number_at_least_zero(ends_of_clip(node)[0])
    if name == "mul" and bound["self"] is bound["other"]:
        return True
    if name in ("add", "mul", "div"):
        signs = [v in known or _number_at_least_zero(v) for v in (bound["self"], bound["other"])]
        return all(signs) and _number_at_least_zero(bound.get("alpha", 1))
    if name == "pow":
        return isinstance(bound["exponent"], int) and bound["exponent"] % 2 == 0
    return False


def is_share(constant: Any) -> bool:
    """Whether all entries of a constant lie between zero and one, as those of masks and sigmoids."""
    waiting = [constant]
    while waiting:
        constant = waiting.pop()
        number = literal(constant)
        if number is not None:
            if not 0 <= number <= 1:
                return False
            continue
        if not isinstance(constant, fx.Node):
            return False
        row, form = row_of(constant), affine(constant)
        if row.says == "masks" or constant.meta.get(TRUTHS) or (row.low >= 0 and row.high <= 1):
            continue
        if _is_boolean(constant):
            continue
        if form is not None and (form.scale, form.shift) == (-1, 1):
            waiting.append(form.operand)
        elif name_of(constant) in (*CASTS, "tril", "triu") or row.arranges:
            read = constant.args[0]
            waiting += read if isinstance(read, (list, tuple)) else [read]
        else:
            return False
    return True


def _is_boolean(value: fx.Node) -> bool:
    module = value.graph.owning_module
    known = None if module is None else shapes_of(module)(value)
    return known is not None and known.dtype == torch.bool


def is_rectifier(node: fx.Node) -> bool:
    """Whether a function is zero for all numbers up to zero, and positive for none of them."""
    row = row_of(node)
    if row.clips:
        low, _ = ends_of_clip(node)
        return isinstance(low, (int, float)) and low == 0
    return row.low == row.rest == 0 and row.trend == "rises"


def _is_size_or_index(node: fx.Node, source: fx.Node) -> bool:
    """Whether ``source`` only steers a node: a size, an index, or the condition of a where."""
    if source.op == "call_function" and is_size(source):
        return True
    operation = operation_of(node)
    return operation is not None and source not in operation.operands(node)


def _numbers_at_least_zero(node: fx.Node) -> bool:
    """Whether no operand is a negative number, such as the second value of a where."""
    operation = operation_of(node)
    numbers = [] if operation is None else operation.operands(node)
    return all(_number_at_least_zero(v) for v in numbers if not isinstance(v, fx.Node))


def _number_at_least_zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and value >= 0
