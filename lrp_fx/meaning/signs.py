"""Values without negative entries, as their operations show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from lrp_fx.graph import (
    CASTS,
    arguments,
    ends_of_clip,
    is_size,
    literal,
    name_of,
    packet_of,
    row_of,
    shapes_of,
    unwound,
)
from lrp_fx.relevance import operation_of

NONNEGATIVE = "nonnegative"
"""Metadata key: whether a constant made by the model's code has no negative entries."""
TRUTHS = "truths"
"""Metadata key: whether a constant made by the model's code holds only zeros and ones (a mask)."""
CHOICES = "choices"
"""Metadata key: whether a constant made by the model's code holds only zeros and one other number."""
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


def are_all(value: Any, holds: Callable[[Any], bool]) -> bool:
    """Whether all entries of a value come from values of a kind: moved, cast, or chosen between.

    Args:
        value: a node, or anything else that an operation reads.
        holds: whether a value is known to be of the kind. Zero is, and with ``x`` also ``1 - x``.
    """
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if holds(value):
            continue
        if not isinstance(value, fx.Node):
            return False
        scale, shift, inner = unwound(value)
        if (scale, shift) == (-1, 1):
            waiting.append(inner)
        elif name_of(value) == "where":
            waiting += [arguments(value)[name] for name in ("self", "other")]
        elif name_of(value) in (*CASTS, "tril", "triu") or row_of(value).arranges:
            read = value.args[0]
            waiting += read if isinstance(read, (list, tuple)) else [read]
        else:
            return False
    return True


def holds_truths(value: fx.Node) -> bool:
    """Whether a value is a mask by its operation, its dtype, or its entries if they are known."""
    module = value.graph.owning_module
    known = None if module is None else shapes_of(module)(value)
    is_boolean = known is not None and known.dtype == torch.bool
    return is_boolean or row_of(value).says == "masks" or bool(value.meta.get(TRUTHS))


def is_share(constant: Any) -> bool:
    """Whether all entries of a constant lie between zero and one, as those of masks and sigmoids."""
    return are_all(constant, _holds_shares)


def _holds_shares(value: Any) -> bool:
    number = literal(value)
    if number is not None or not isinstance(value, fx.Node):
        return number is not None and 0 <= number <= 1
    row = row_of(value)
    return holds_truths(value) or (row.low >= 0 and row.high <= 1)


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
