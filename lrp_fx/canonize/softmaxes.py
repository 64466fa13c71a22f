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
    called,
    depends_on_inputs,
    in_order,
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
    """``a exp(z) / sum(b exp(z))`` as ``a/b softmax(z)``, also masked; None for other quotients."""
    total = without_safety(under)
    more = affine(before_expansion(under))
    number = 0.0
    if dim_of_sum(total) is None and more is not None and more.scale == 1 and more.shift > 0:
        total, number = more.operand, more.shift
    dim = dim_of_sum(total)
    if dim is None:
        return None
    summed = arguments(total)["self"]
    is_size = is_call(summed, "abs")
    scale, shift, over = unwound(over)
    factor, other_shift, summed = unwound(operand(summed) if is_size else summed)
    factor = abs(factor) if is_size else factor
    if (shift, other_shift) != (0, 0) or factor == 0 or not is_same(summed, over):
        return None
    if not is_exponential(over, dim):
        return None
    if number:
        shares = _with_one_more(node, graph, over, dim, number / factor)
        return None if shares is None else scaled_by(graph, node, shares, scale / factor)
    logits = logits_of(graph, node, over, dim)
    softmax = softmax_of(over, is_safe=total is not under)
    shares = call_like(graph, node, softmax, logits, dim)
    return scaled_by(graph, node, shares, scale / factor)


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


def exponential_of(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``exp`` of a log-softmax or log-sigmoid as softmax or sigmoid; of ``logsumexp`` as a sum."""
    source: Any = node.args[0]
    form = affine(source)
    is_negative = form is not None and (form.scale, form.shift) == (-1, 0)
    logarithm = form.operand if form is not None and is_negative else source
    if is_call(logarithm, "logsumexp"):
        b = arguments(logarithm)
        exponentials = call_like(graph, node, aten.exp, b["self"])
        total = call_like(graph, node, aten.sum, exponentials, b["dim"], b["keepdim"])
        return call_like(graph, node, aten.reciprocal, total) if is_negative else total
    if is_call(source, "log_sigmoid"):
        return call_like(graph, node, aten.sigmoid, source.args[0])
    if is_call(source, "log_softmax", "_log_softmax"):
        b = arguments(source)
        new = call_like(graph, node, aten.softmax, without_shift(b["self"], b["dim"]), b["dim"])
        new.kwargs = {"dtype": b["dtype"]} if b.get("dtype") is not None else {}
        return new
    return None


def plain_softmax(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``softmax(z - max(z))`` as ``softmax(z)``; a softmax over ``z`` and zero as two sigmoids."""
    b = arguments(node)
    node.args = (without_shift(node.args[0], b["dim"]), *node.args[1:])
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


def log_softmax_of(node: fx.Node, graph: fx.Graph, logits: Any, total: Any) -> fx.Node | None:
    """``z - logsumexp(z)`` as ``log_softmax(z)``; None for other values."""
    summed, dim = _logsumexp(total)
    if dim is None or not is_same(summed, logits):
        return None
    return call_like(graph, node, aten.log_softmax, without_shift(logits, dim), dim)


def _logsumexp(total: Any) -> tuple[Any, int | None]:
    """``z`` and the one dimension of ``logsumexp(z)``, also where its exponentials are written out.

    ``max(z) + log(sum(exp(z - max(z))))`` counts as ``logsumexp(z)``.
    """
    total = before_expansion(total)
    if is_call(total, "logsumexp"):
        return arguments(total)["self"], _kept_dim(total)
    if is_call(total, "log"):
        sum_of = without_safety(total.args[0])
        exponentials: Any = arguments(sum_of)["self"] if is_call(sum_of, "sum") else None
        if is_call(exponentials, "exp"):
            return exponentials.args[0], _kept_dim(sum_of)
    if is_call(total, "add") and arguments(total)["alpha"] == 1:
        pair = arguments(total)["self"], arguments(total)["other"]
        for shift, rest in (pair, pair[::-1]):
            shifted, dim = _logsumexp(rest)
            if dim is not None and is_call(shifted, "sub"):
                b = arguments(shifted)
                if is_same(before_expansion(b["other"]), before_expansion(shift)):
                    return b["self"], dim
    return None, None


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
        if not is_same(bound["self"], b["self"]) or _kept_dim(shift) != dim:
            break
        logits = b["self"]
    return logits


def _kept_dim(node: fx.Node) -> int | None:
    """The one dimension that a node reduces and keeps with size one; else None."""
    return _reduced_dim(node, True)


def _reduced_dim(node: fx.Node, kept: bool) -> int | None:
    bound = arguments(node)
    dims = as_tuple(bound.get("dim"), 1)
    is_one = len(dims) == 1 and isinstance(dims[0], int)
    return dims[0] if is_one and (bound.get("keepdim") or not kept) else None
