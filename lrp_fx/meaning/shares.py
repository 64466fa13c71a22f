"""Shares: values divided by their sum, over a dimension or over the groups that an index names."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import (
    PRODUCT,
    affine,
    arguments,
    is_same,
    literal,
    name_of,
    names_where,
    packet_of,
)
from lrp_fx.relevance import ROUTING


def is_sum_of(divisor: Any, value: Any) -> bool:
    """Whether a divisor is ``sum(value)`` or ``sum(|value|)``.

    Rearrangements and numbers added for numerical safety are ignored; equal calls are one value.
    """
    total = _total(divisor)
    if total is None or not _is_sum(total):
        return is_weighted_sum(divisor) and is_weighted_sum_of(divisor, value)
    summed = behind_views(total.args[0])
    if isinstance(summed, fx.Node) and name_of(summed) == "abs":
        summed = behind_views(summed.args[0])
    return is_same(summed, behind_views(value))


def is_weighted_sum(divisor: Any) -> bool:
    """Whether a divisor is a sum with constant weights, written as a linear layer."""
    layer = _total(divisor)
    return layer is not None and _is_linear(layer)


def is_weighted_sum_of(divisor: Any, value: Any) -> bool:
    """Whether a divisor is ``Σ x · w`` where ``value`` is ``x · w``, with a mask or a prior ``w``."""
    layer, value = _total(divisor), behind_views(value)
    if layer is None or not isinstance(value, fx.Node):
        return False
    if packet_of(value.target) is None or name_of(value) != "mul":
        return False
    data, weights, *bias = layer.args
    operands = [behind_views(data), behind_views(weights)]
    factors = [behind_views(arguments(value)[name]) for name in ("self", "other")]
    is_product = is_same(factors, operands) or is_same(factors[::-1], operands)
    is_safe = not bias or bias[0] is None or literal(bias[0]) is not None  # only a small number
    return is_product and is_safe


def _total(divisor: Any) -> fx.Node | None:
    """The sum or linear layer behind rearrangements and additions for numerical safety."""
    while isinstance(divisor, fx.Node) and not (_is_sum(divisor) or _is_linear(divisor)):
        form = affine(divisor)
        if name_of(divisor) in ROUTING or name_of(divisor) in ("clamp", "clamp_min"):
            divisor = divisor.args[0]
        elif form is not None and form.scale == 1:
            divisor = form.operand
        else:
            return None
    return divisor if isinstance(divisor, fx.Node) else None


def is_sum_of_groups(divisor: Any, value: Any) -> bool:
    """Whether a divisor holds, for each entry of ``value``, the sum of the entries of its group.

    Sums of groups are added at the places that an index names, such as the nodes of a graph, and read
    at the same index again. A softmax over the edges of a graph is written like this.
    """
    readings = _behind(divisor, _KEEPING)
    if not isinstance(readings, fx.Node) or name_of(readings) not in _READS:
        return False
    total = _behind(readings.args[0], _KEEPING)
    if not isinstance(total, fx.Node) or name_of(total) not in _ADDS:
        return False
    bound = arguments(total)
    adds = bound.get("accumulate", True) and bound.get("reduce", "sum") in ("sum", "add", None)
    start = literal(bound["self"])
    if not adds or start is None or start < 0 or literal(bound.get("alpha", 1)) != 1:
        return False
    written, read = _index(bound), _index(arguments(readings))
    is_own = is_same(_behind(bound[_ADDS[name_of(total)]], _VIEWS), _behind(value, _VIEWS))
    return is_own and written is not None and is_same(written, read)


def _index(bound: dict[str, Any]) -> Any:
    """The one tensor of an index among the arguments of a call, before it was expanded."""
    index = bound.get("indices", bound.get("index"))
    if isinstance(index, (list, tuple)):
        tensors = [each for each in index if each is not None]
        index = tensors[0] if len(tensors) == 1 else None
    return _behind(index, _VIEWS)


def _behind(node: Any, names: frozenset[str]) -> Any:
    """The value behind operations of some names, and behind numbers added for numerical safety."""
    while isinstance(node, fx.Node):
        form = affine(node) if names is _KEEPING else None
        if form is not None and form.scale == 1 and form.shift >= 0:
            node = form.operand
        elif name_of(node) in names:
            node = node.args[0]
        else:
            break
    return node


_VIEWS = names_where(lambda row: row.keeps_order) | {"expand"}
_KEEPING = _VIEWS | {"clamp", "clamp_min"}
_READS = frozenset({"index", "index_select", "gather"})
"""Operations that read entries at an index, which is their last argument."""
_ADDS = {
    **{"index_add": "source", "scatter_add": "src", "scatter_reduce": "src", "scatter": "src"},
    "index_put": "values",
}
"""Operations that add to entries at an index, and the argument that they add."""


def _is_linear(node: fx.Node) -> bool:
    return name_of(node) == "linear" or packet_of(node.target) is PRODUCT


def _is_sum(node: fx.Node) -> bool:
    """Whether a node is a sum, or a sum of absolute values written as a norm."""
    if name_of(node) in ("norm", "linalg_vector_norm"):
        bound = arguments(node)
        return literal(bound.get("p", bound.get("ord"))) == 1
    return name_of(node) == "sum"


def behind_views(node: Any) -> Any:
    """The value behind rearrangements."""
    while isinstance(node, fx.Node) and name_of(node) in ROUTING:
        node = node.args[0]
    return node
