"""Softmaxes written by exponentials, also masked, shifted, or divided by a safe sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from lrp_fx.canonize.masks import is_mask
from lrp_fx.canonize.numbers import scaled_by, unwound
from lrp_fx.graph import (
    CASTS,
    Packet,
    affine,
    ancestors,
    arguments,
    as_tuple,
    aten,
    before_expansion,
    call_like,
    call_like_getitem,
    call_with_operand,
    called,
    depends_on_inputs,
    in_order,
    index_of,
    is_call,
    is_same,
    literal,
    name_of,
    operand,
    shapes_of,
)
from lrp_fx.meaning import is_nonnegative

SAFETY = 1e-9
"""A sum of exponentials is smaller than this only if all arguments are below about -20."""
_SOFTMAXES = ("softmax", "_softmax")
_DEPTH = 3
"""The most masks and priors around exponentials that are looked through."""


def softmax_ratio(node: fx.Node, graph: fx.Graph, over: Any, under: Any) -> fx.Node | None:
    """``a exp(z) / sum(b exp(z))`` as ``a/b softmax(z)``, also masked; None for other quotients.

    The value above may be a part of the exponentials: ``exp(z)[0] / sum(exp(z))``.
    """
    total = without_safety(under)
    more = affine(before_expansion(under))
    number = 0.0
    is_more = more is not None and more.scale == 1 and more.shift > 0
    if dim_of_sum(total, kept=False) is None and more is not None and is_more:
        total, number = more.operand, more.shift
    dim = dim_of_sum(total, kept=False)
    if dim is None:
        return None
    summed = arguments(total)["self"]
    is_size = is_call(summed, "abs")
    scale, shift, over = unwound(over)
    factor, other_shift, summed = unwound(operand(summed) if is_size else summed)
    factor = abs(factor) if is_size else factor
    if (shift, other_shift) != (0, 0) or factor == 0 or not is_exponential(summed, dim):
        return None
    views = _parts_along(over, summed, dim, is_there=bool(arguments(total).get("keepdim")))
    if views is None:
        return None
    if number:
        shares = _with_one_more(node, graph, summed, dim, number / factor)
    else:
        logits = logits_of(graph, node, summed, dim)
        softmax = softmax_of(summed, is_safe=total is not under)
        shares = call_like(graph, node, softmax, logits, dim)
    if shares is None:
        return None
    for view in reversed(views):
        shares = moved_like(graph, view, shares)
    return scaled_by(graph, node, shares, scale / factor)


def moved_like(graph: fx.Graph, move: fx.Node, value: fx.Node) -> fx.Node:
    """A value after the call that moved another one, or took a part of it."""
    if is_call(move, "getitem"):
        return call_like_getitem(graph, value, index_of(move))
    return call_with_operand(graph, move, move.args[0], value)


def _parts_along(value: Any, whole: fx.Node, dim: int, *, is_there: bool) -> list[fx.Node] | None:
    """The calls that take a value from another one along one dimension; None if others do.

    Args:
        value: the part.
        whole: the value that it is a part of.
        dim: the dimension.
        is_there: whether the part must have the dimension.
    """
    shape = shapes_of(whole.graph.owning_module).shape_of(whole)
    views: list[fx.Node] = []
    while not is_same(value, whole):
        if not isinstance(value, fx.Node) or len(views) > _DEPTH:
            return None
        views.append(value)
        call = operand(value) if is_call(value, "getitem") else value
        if not is_call(call, *_CUTS, "unsqueeze", "select", "unbind"):
            return None
        own = arguments(call).get("dim", 0)
        if own != dim and (shape is None or own % len(shape) != dim % len(shape)):
            return None
        if is_there == is_call(call, "select", "unbind"):
            return None
        if not is_call(call, *_CUTS):
            is_there = not is_there
        value = arguments(call)["self"] if call is value else operand(call)
        if call is not views[-1]:
            views.append(call)
    return views if is_there else None


_CUTS = ("slice", "split", "split_with_sizes", "chunk", "tensor_split", "index_select")
"""Calls that keep a dimension and take entries along it."""


def _with_one_more(
    node: fx.Node, graph: fx.Graph, value: fx.Node, dim: int, number: float
) -> fx.Node | None:
    """``exp(z) / (n + sum(exp(z)))`` as a softmax over ``z`` and ``log n``, without the last entry."""
    shape = shapes_of(graph.owning_module).shape_of(value)
    is_last = shape is not None and dim % len(shape) == len(shape) - 1
    if not is_last or number < 0 or not is_call(value, "exp"):
        return None
    more = call_like(graph, node, aten.pad, value.args[0], [0, 1], "constant", math.log(number))
    weights = call_like(graph, node, aten.softmax, more, -1)
    return call_like(graph, node, aten.slice, weights, -1, 0, -1, 1)


def softmax_of(value: fx.Node, *, is_safe: bool) -> Packet:
    """The softmax that a quotient is: with a safe divisor, rows that are fully masked yield zeros."""
    return aten._safe_softmax if is_safe and not is_call(value, "exp") else aten.softmax


def is_exponential(value: Any, dim: int | None, depth: int = _DEPTH) -> bool:
    """Whether a value is ``exp(z)``, possibly with masked entries or a constant factor.

    A softmax counts too: it is proportional to exponentials, and dividing by its sum removes the
    factor.

    Args:
        value: the value.
        dim: the dimension of a softmax; None for any.
        depth: how many masks and priors may lie around the exponentials.
    """
    if is_call(value, *_SOFTMAXES):
        return dim is None or bool(arguments(value)["dim"] == dim)
    masked = _masked(value, depth)
    return is_call(value, "exp") or (
        masked is not None and is_exponential(masked.value, dim, depth - 1)
    )


def logits_of(graph: fx.Graph, node: fx.Node, value: fx.Node, dim: int | None) -> Any:
    """``z`` of an exponential value, without a shift that a softmax over ``dim`` cancels."""
    masked = _masked(value)
    if masked is not None:
        return masked.write(graph, node, logits_of(graph, node, masked.value, dim))
    return value.args[0] if dim is None else without_shift(value.args[0], dim)


@dataclass(frozen=True)
class _Masked:
    """Exponentials with a mask or a prior.

    Args:
        value: the exponentials, possibly with another one.
        write: applies the mask or prior to the arguments of the exponentials.
    """

    value: fx.Node
    write: Callable[[fx.Graph, fx.Node, Any], Any]


def _masked(value: Any, depth: int = _DEPTH) -> _Masked | None:
    form = affine(value) if depth else None
    if form is not None and form.shift == 0 and form.scale > 0:
        return _Masked(form.operand, lambda graph, node, z: z)  # a softmax cancels the number
    exponent = _exponent(value) if depth else None
    if exponent is not None:
        return _Masked(operand(value), lambda graph, node, z: scaled_by(graph, node, z, exponent))
    if not depth or not is_call(value, "masked_fill", "where", "tril", "triu", "mul", "div"):
        return None
    b = arguments(value)
    if is_call(value, "masked_fill"):
        return _Masked(b["self"], _Hidden(b["mask"])) if literal(b["value"]) == 0 else None
    if is_call(value, "tril", "triu"):
        return _Masked(b["self"], _OutsideOf(value))
    first, second = b["self"], b["other"]
    if is_call(value, "where"):
        if literal(second) == 0 and isinstance(first, fx.Node):
            return _Masked(first, _Hidden(b["condition"], negated=True))
        return _Masked(second, _Hidden(b["condition"])) if literal(first) == 0 else None
    divides = is_call(value, "div")
    if b.get("rounding_mode") is not None:
        return None
    for kept, weight in ((first, second),) if divides else ((first, second), (second, first)):
        if isinstance(weight, fx.Node) and is_exponential(kept, None, depth - 1):
            if is_mask(weight) and not divides:
                return _Masked(kept, _Hidden(weight, negated=True))
            is_constant = not depends_on_inputs(weight) and _is_nonnegative(weight)
            if is_constant or is_call(weight, "exp"):
                return _Masked(kept, _Prior(weight, divides))
    return None


def _exponent(value: Any) -> float | None:
    """The number ``c > 0`` of a power ``x ** c``; None for any other value."""
    if is_call(value, "sqrt", "square"):
        return 0.5 if is_call(value, "sqrt") else 2.0
    exponent = literal(arguments(value)["exponent"]) if is_call(value, "pow") else None
    return exponent if exponent is not None and exponent > 0 else None


def _is_nonnegative(constant: fx.Node) -> bool:
    """Whether a constant has no negative entries, as its operations show."""
    known: set[fx.Node] = set()
    for node in in_order(constant.graph, ancestors(constant)):
        if is_nonnegative(node, known):
            known.add(node)
    return constant in known


@dataclass(frozen=True)
class _Hidden:
    """Writes ``-inf`` where a mask is true, or, ``negated``, where it is false."""

    mask: fx.Node
    negated: bool = False

    def __call__(self, graph: fx.Graph, node: fx.Node, z: Any) -> fx.Node:
        mask = call_like(graph, node, aten.eq, self.mask, 0) if self.negated else self.mask
        return call_like(graph, node, aten.masked_fill, z, mask, -math.inf)


@dataclass(frozen=True)
class _OutsideOf:
    """Writes ``-inf`` where ``tril`` or ``triu`` writes zeros."""

    triangle: fx.Node

    def __call__(self, graph: fx.Graph, node: fx.Node, z: Any) -> fx.Node:
        ones = call_like(graph, node, aten.ones_like, z, dtype=torch.bool)
        packet = called(self.triangle)
        kept = call_like(graph, node, packet, ones, *self.triangle.args[1:], **self.triangle.kwargs)
        return _Hidden(kept, negated=True)(graph, node, z)


@dataclass(frozen=True)
class _Prior:
    """Writes ``z + log(w)`` for another factor ``w ≥ 0`` of the exponentials, or ``z - log(w)``.

    The factor is a constant, or an exponential too.
    """

    weight: fx.Node
    divides: bool

    def __call__(self, graph: fx.Graph, node: fx.Node, z: Any) -> fx.Node:
        is_exp = is_call(self.weight, "exp")
        exponent = self.weight.args[0] if is_exp else call_like(graph, node, aten.log, self.weight)
        return call_like(graph, node, aten.sub if self.divides else aten.add, z, exponent)


def without_safety(divisor: Any) -> Any:
    """A divisor without what keeps it away from zero, and before it was expanded."""
    divisor = before_expansion(divisor)
    if is_call(divisor, "clamp", "clamp_min", "maximum"):
        bound = arguments(divisor)
        least = literal(bound["other" if is_call(divisor, "maximum") else "min"])
        is_safety = least is not None and least <= SAFETY and bound.get("max") is None
        return before_expansion(bound["self"]) if is_safety else divisor
    replaced = _without_zeros(divisor)
    if replaced is not None:
        return replaced
    form = affine(divisor)
    if form is not None and form.scale == 1 and 0 <= form.shift <= SAFETY:
        return before_expansion(form.operand)
    return divisor


def _without_zeros(divisor: Any) -> fx.Node | None:
    """``d`` of ``where(d == 0, 1, d)``, ``d.masked_fill(d == 0, 1)`` and ``d + (d == 0)``."""
    if not is_call(divisor, "where", "masked_fill", "add"):
        return None
    b = arguments(divisor)
    condition: Any = b.get("condition", b.get("mask", b.get("other")))
    while is_call(condition, *CASTS):
        condition = condition.args[0]
    if not is_call(condition, "eq") or literal(arguments(condition)["other"]) != 0:
        return None
    total: fx.Node = arguments(condition)["self"]
    kept = b["other" if is_call(divisor, "where") else "self"]
    return total if is_same(kept, total) else None


def dim_of_sum(value: Any, *, kept: bool = True) -> int | None:
    """The one dimension that a sum, or a norm that sums absolute values, reduces; else None.

    Args:
        value: any value.
        kept: accept only a sum that keeps the dimension with size one.
    """
    if is_call(value, "norm", "linalg_vector_norm"):
        bound = arguments(value)
        is_sum = literal(bound.get("p", bound.get("ord"))) == 1
    else:
        is_sum = is_call(value, "sum")
    return _reduced_dim(value, kept) if is_sum else None


def plain_softmax(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``softmax(z - max(z))`` as ``softmax(z)``; a softmax over ``z`` and zero as two sigmoids.

    ``softmax(c · log_softmax(z))`` is ``softmax(c z)``.
    """
    b = arguments(node)
    node.args = (without_shift(node.args[0], b["dim"]), *node.args[1:])
    scale, _, inner = unwound(node.args[0])
    if is_call(inner, "log_softmax", "_log_softmax") and arguments(inner)["dim"] == b["dim"]:
        node.args = (scaled_by(graph, node, arguments(inner)["self"], scale), *node.args[1:])
    logits: Any = node.args[0]
    if not is_call(logits, "stack") or arguments(logits)["dim"] != b["dim"] or b.get("dtype"):
        return None
    pair = list(arguments(logits)["tensors"])
    if len(pair) != 2 or [literal(each) for each in pair].count(0) != 1:
        return None
    is_log = name_of(node) in ("log_softmax", "_log_softmax")
    function = aten.log_sigmoid if is_log else aten.sigmoid
    place = 0 if literal(pair[1]) == 0 else 1
    negated = call_like(graph, node, aten.neg, pair[place])
    pair[1 - place] = call_like(graph, node, function, negated)
    pair[place] = call_like(graph, node, function, pair[place])
    return call_like(graph, node, aten.stack, pair, b["dim"])


def without_shift(logits: Any, dim: Any) -> Any:
    """``z`` of ``z - max(z)`` along ``dim``; a softmax over ``dim`` cancels such shifts."""
    while is_call(logits, "sub"):
        b = arguments(logits)
        shift = before_expansion(b["other"])
        if is_call(shift, "getitem"):
            shift = shift.args[0]
        if not is_call(shift, "amax", "max", "logsumexp", "mean", "amin"):
            break
        bound = arguments(shift)
        if not is_same(bound["self"], b["self"]) or kept_dim(shift) != dim:
            break
        logits = b["self"]
    return logits


def kept_dim(node: fx.Node) -> int | None:
    """The one dimension that a node reduces and keeps with size one; else None."""
    return _reduced_dim(node, True)


def _reduced_dim(node: fx.Node, kept: bool) -> int | None:
    bound = arguments(node)
    dims = as_tuple(bound.get("dim"), 1)
    is_one = len(dims) == 1 and isinstance(dims[0], int)
    return dims[0] if is_one and (bound.get("keepdim") or not kept) else None
