"""Values that have an operation of their own, spelled in others: the operation instead.

A sigmoid by its exponential, a softmax by its sum, a dot product by a matrix product: each gets the
rule of what it is, and not of what it is spelled with.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from torch import fx

from lrp_fx.aten import arguments, as_tuple, aten, name_of, packet_of
from lrp_fx.canonize.graphs import (
    Shapes,
    call_again,
    call_like,
    depends_on_inputs,
    replace_by,
)
from lrp_fx.canonize.sums import Sum, Term, is_whole, sum_of, write_sum
from lrp_fx.contractions import ELLIPSIS
from lrp_fx.literals import affine, is_same, literal
from lrp_fx.relevance.saturation import is_softsign

Rewriting = Callable[[fx.Node, fx.Graph], "fx.Node | None"]
_ROUNDING = 1e-12
_STEPS = 4
"""Nobody scales and shifts a tanh in more steps than these; long chains of numbers are not searched."""
_SAFETY = 1e-9
"""No sum of exponentials comes so near to zero, unless all of their arguments are below -20."""


def one_spelling(graph: fx.Graph) -> None:
    """Rewrite what the table at the end knows, in place; to be run on the one vocabulary."""
    for node in list(graph.nodes):
        if node.op != "call_function" or packet_of(node.target) is None:
            continue
        rewriting = _SPELLINGS.get(name_of(node))
        if rewriting is None:
            continue
        with graph.inserting_before(node):
            substitute = rewriting(node, graph)
        if substitute is not None:
            replace_by(node, substitute)


def _is(value: Any, *names: str) -> bool:
    return isinstance(value, fx.Node) and name_of(value) in names


def _before_spreading(value: Any) -> Any:
    """The value that was spread to the shape of another."""
    while _is(value, "expand", "expand_as"):
        value = value.args[0]
    return value


def _slice(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A slice from the first to the last entry is the value itself, and so is a pad cut off again."""
    b = arguments(node)
    if b["step"] != 1:
        return None
    if b["start"] in (0, None) and b["end"] in (None, sys.maxsize):
        return b["self"]  # type: ignore[no-any-return]
    return _unpadded(node, graph) if _is(b["self"], "pad") else None


def _unpadded(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The value that was padded, where a slice leaves what it was along its dimension."""
    b, pad = arguments(node), arguments(node.args[0])  # type: ignore[arg-type]
    shapes = Shapes(graph.owning_module)  # type: ignore[arg-type]
    before, after = shapes(pad["self"]), shapes(b["self"])
    if before is None or after is None:
        return None
    dim = b["dim"] % before.dim()
    place = 2 * (before.dim() - 1 - dim)  # a pad counts from the last dimension
    added = list(pad["pad"])
    start, end, _ = slice(b["start"], b["end"]).indices(after.shape[dim])
    if place >= len(added) or (start, end - start) != (added[place], before.shape[dim]):
        return None
    added[place : place + 2] = [0, 0]
    if not any(added):
        return pad["self"]  # type: ignore[no-any-return]
    return call_like(graph, node, aten.pad, pad["self"], added, pad["mode"], pad["value"])


# Sigmoids


def _expit(node: fx.Node, graph: fx.Graph) -> fx.Node:
    return call_like(graph, node, aten.sigmoid, node.args[0])


def _is_one_plus(value: Any) -> fx.Node | None:
    """``z`` of ``1 + exp(z)``."""
    form = affine(value) if isinstance(value, fx.Node) else None
    if form is None or (form.scale, form.shift) != (1, 1) or not _is(form.operand, "exp"):
        return None
    return form.operand.args[0]  # type: ignore[return-value]


def _sigmoid_of_negative(graph: fx.Graph, node: fx.Node, z: fx.Node) -> fx.Node:
    """``sigmoid(-z)``, of which ``-z`` is often there already."""
    form = affine(z)
    if form is not None and (form.scale, form.shift) == (-1, 0):
        return call_like(graph, node, aten.sigmoid, form.operand)
    return call_like(graph, node, aten.sigmoid, call_like(graph, node, aten.neg, z))


def _reciprocal(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``1 / (1 + exp(z))``."""
    z = _is_one_plus(node.args[0])
    return None if z is None else _sigmoid_of_negative(graph, node, z)


def _shift(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """Numbers around a function that belong to it; ``z - logsumexp(z)`` as ``log_softmax(z)``.

    ``(1 ± tanh(z)) / 2`` is ``sigmoid(±2 z)``. Numbers that bring the value at rest to zero make a
    function of what they surround: ``2 sigmoid(2 z) - 1`` is ``tanh(z)``, and takes no relevance.
    """
    if name_of(node) == "sub":
        b = arguments(node)
        log_softmax = _log_softmax(node, graph, b["self"], b["other"]) if b["alpha"] == 1 else None
        if log_softmax is not None:
            return log_softmax
    scale, shift, inner = _unwound(node)
    if shift == 0:
        return _signed(node, graph, scale, inner) or _in_a_sum(node, graph)
    return _with_number(node, graph, scale, shift, inner) or _in_a_sum(node, graph)


def _in_a_sum(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The same where other terms stand between a function and its number."""
    whole = sum_of(node) if is_whole(node) else Sum((), 0.0)
    if len(whole.terms) < 2:
        return None
    terms, number = list(whole.terms), whole.number
    for place, term in enumerate(whole.terms):
        found = _signed(node, graph, term.scale, term.value)
        if number != 0 and found is None:
            found = _with_number(node, graph, term.scale, number, term.value)
            number = number if found is None else 0.0
        if found is not None:
            terms[place] = Term(1.0, found)
    return write_sum(graph, node, Sum(tuple(terms), number)) if terms != [*whole.terms] else None


def _with_number(
    node: fx.Node, graph: fx.Graph, scale: float, shift: float, inner: Any
) -> fx.Node | None:
    """``scale · inner + shift``, where the two numbers belong to the function between them."""
    if _is(inner, "tanh") and _are(abs(scale), 0.5) and _are(shift, 0.5):
        doubled = _scaled(graph, node, inner.args[0], math.copysign(2.0, scale))
        return call_like(graph, node, aten.sigmoid, doubled)
    if _is(inner, "exp") and _are(scale, -shift):
        return _scaled(graph, node, call_like(graph, node, aten.expm1, inner.args[0]), scale)
    if _is(inner, "expm1") and _are(scale, shift):
        return _scaled(graph, node, call_like(graph, node, aten.exp, inner.args[0]), scale)
    if _is(inner, *_ODD) and _are(scale, -2 * shift):
        function, factor = _ODD[name_of(inner)]
        odd = function(graph, node, _scaled(graph, node, inner.args[0], factor))
        return _scaled(graph, node, odd, scale / 2)
    return _clamp(node, graph, scale, shift, inner)


def _signed(node: fx.Node, graph: fx.Graph, scale: float, inner: Any) -> fx.Node | None:
    """``-f(-z)`` as ``f(z)`` of an odd function, and ``-softplus(-z)`` as ``log_sigmoid(z)``."""
    if scale >= 0 or not _is(inner, "softplus", "div", *_SYMMETRIC):
        return None
    b = arguments(inner)
    if name_of(inner) == "softplus":
        if literal(b["beta"]) != 1:
            return None
        negated = _scaled(graph, node, b["self"], -1.0)
        return _scaled(graph, node, call_like(graph, node, aten.log_sigmoid, negated), -scale)
    factor, shift, z = _unwound(b["self"])
    if factor >= 0 or shift != 0:
        return None
    z = _scaled(graph, node, z, -factor)
    if name_of(inner) != "div":
        function = call_again(graph, inner, b["self"], z)
    elif is_softsign(b["self"], b["other"]):
        divisor = call_like(graph, node, aten.add, call_like(graph, node, aten.abs, z), 1)
        function = call_like(graph, node, aten.div, z, divisor)
    else:
        return None
    return _scaled(graph, node, function, -scale)


def _unwound(value: Any) -> tuple[float, float, Any]:
    """A value as ``scale · inner + shift`` with numbers."""
    scale, shift = 1.0, 0.0
    for _ in range(_STEPS):
        form = affine(value) if isinstance(value, fx.Node) else None
        if form is None:
            break
        scale, shift, value = scale * form.scale, scale * form.shift + shift, form.operand
    return scale, shift, value


def _are(first: float, second: float) -> bool:
    """Whether two numbers that were computed differ by their rounding alone."""
    return abs(first - second) <= _ROUNDING * max(abs(first), abs(second))


def _scaled(graph: fx.Graph, node: fx.Node, value: Any, factor: float) -> fx.Node:
    """``factor · value``, of which the value may be a multiple of what is there already."""
    form = affine(value) if isinstance(value, fx.Node) else None
    if form is not None and form.shift == 0 and form.scale * factor == 1:
        return form.operand
    same: fx.Node = value
    return same if factor == 1 else call_like(graph, node, aten.mul, value, factor)


_ODD: dict[str, tuple[Callable[[fx.Graph, fx.Node, Any], fx.Node], float]] = {
    "sigmoid": (lambda graph, node, z: call_like(graph, node, aten.tanh, z), 0.5),
    "hardsigmoid": (lambda graph, node, z: call_like(graph, node, aten.hardtanh, z, -1, 1), 1 / 3),
}
"""``2 f(z) - 1`` as a function of a multiple of z."""
_SYMMETRIC = frozenset(
    [
        *("tanh", "erf", "sin", "sinh", "tan", "asin", "asinh", "atan", "atanh"),
        *("softshrink", "hardshrink", "tanhshrink"),
    ]
)
"""Odd functions: ``f(-z) = -f(z)``."""
_ENDS: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
    "relu6": lambda b: (0, 6),
    "hardtanh": lambda b: (b["min_val"], b["max_val"]),
    "clamp": lambda b: (b["min"], b["max"]),
}


def _clamp(
    node: fx.Node, graph: fx.Graph, scale: float, shift: float, inner: Any
) -> fx.Node | None:
    """``relu6(z + 3) - 3`` as ``clamp(z, -3, 3)``: a shift before a clamp that is undone behind it."""
    if not _is(inner, *_ENDS):
        return None
    ends = [literal(end) for end in _ENDS[name_of(inner)](arguments(inner))]
    before, offset, z = _unwound(inner.args[0])
    if ends[0] is None or ends[1] is None or not _are(scale * offset, -shift):
        return None
    low, high = sorted(scale * end + shift for end in ends if end is not None)
    return call_like(graph, node, aten.hardtanh, _scaled(graph, node, z, scale * before), low, high)


# Softmaxes


def _quotient(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``exp(z) / (1 + exp(z))``, ``exp(z) / sum(exp(z))``, and a number divided by ``1 + exp(z)``.

    Also ``(exp(2 z) - 1) / (exp(2 z) + 1)``, which is ``tanh(z)``.
    """
    b = arguments(node)
    if b.get("rounding_mode") is not None:
        return None
    return _ratio(node, graph, b["self"], b["other"])


def _ratio(node: fx.Node, graph: fx.Graph, over: Any, under: Any) -> fx.Node | None:
    """A quotient; that of a value by ``1 + exp(z)`` is its product with ``sigmoid(-z)``."""
    if not isinstance(under, fx.Node):
        return None
    z = _is_one_plus(_before_spreading(under))
    scale, shift, inner = _unwound(over)
    if z is not None and shift == 0 and _is(inner, "expm1") and is_same(inner.args[0], z):
        tanh = call_like(graph, node, aten.tanh, _scaled(graph, node, z, 0.5))
        return _scaled(graph, node, tanh, scale)
    if z is not None:
        if _is(over, "exp") and is_same(z, over.args[0]):
            return call_like(graph, node, aten.sigmoid, z)
        number = literal(over)
        gate = _sigmoid_of_negative(graph, node, z)
        return call_like(graph, node, aten.mul, gate, over if number is None else number)
    if not is_exponential(over):
        return None
    under = without_safety(under)
    dim = dim_of_sum(under)
    if dim is None:
        return None
    summed = arguments(under)["self"]
    if _is(summed, "abs"):
        summed = summed.args[0]
    if not is_same(summed, over):
        return None
    return call_like(graph, node, aten.softmax, logits_of(graph, node, over, dim), dim)


def is_exponential(value: Any) -> bool:
    """Whether a value is ``exp(z)``, of which some entries may be zero instead."""
    return _is(value, "exp") or _masked(value) is not None


def _masked(value: Any) -> tuple[str, str] | None:
    """The arguments of a mask of ``exp(z)``: that, and the zero in the place of some of its entries."""
    if not _is(value, "masked_fill", "where") or packet_of(value.target) is None:
        return None
    b = arguments(value)
    pairs = (
        [("self", "value")] if _is(value, "masked_fill") else [("self", "other"), ("other", "self")]
    )
    for kept, filled in pairs:
        if _is(b.get(kept), "exp") and literal(b.get(filled)) == 0:
            return kept, filled
    return None


def logits_of(graph: fx.Graph, node: fx.Node, value: fx.Node, dim: int | None) -> Any:
    """``z`` of ``exp(z)``, masked likewise, without a shift that a softmax over ``dim`` does not see."""
    names = _masked(value)
    if names is None:
        return value.args[0] if dim is None else without_shift(value.args[0], dim)
    kept, filled = names
    b = arguments(value)
    b |= {kept: logits_of(graph, node, b[kept], dim), filled: -math.inf}
    return call_like(graph, node, packet_of(value.target), *b.values())  # type: ignore[arg-type]


def without_safety(divisor: Any) -> Any:
    """A divisor without the number that keeps it from zero, and not spread to another's shape."""
    divisor = _before_spreading(divisor)
    if _is(divisor, "clamp", "clamp_min"):
        bound = arguments(divisor)
        least = literal(bound["min"])
        is_safety = least is not None and least <= _SAFETY and bound.get("max") is None
        return _before_spreading(bound["self"]) if is_safety else divisor
    form = affine(divisor) if isinstance(divisor, fx.Node) else None
    if form is not None and form.scale == 1 and 0 < form.shift <= _SAFETY:
        return _before_spreading(form.operand)
    return divisor


def dim_of_sum(value: Any, *, kept: bool = True) -> int | None:
    """The one dimension of a sum, also one of absolute values as a norm.

    Args:
        value: may be such a sum.
        kept: only one that is kept, with size one.
    """
    if _is(value, "norm", "linalg_vector_norm"):
        bound = arguments(value)
        is_sum = literal(bound.get("p", bound.get("ord"))) == 1
    else:
        is_sum = _is(value, "sum")
    return _reduced_dim(value, kept) if is_sum else None


def _exponential(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``exp`` of a log-softmax or of a log-sigmoid."""
    source: Any = node.args[0]
    if _is(source, "log_sigmoid"):
        return call_like(graph, node, aten.sigmoid, source.args[0])
    if _is(source, "log_softmax", "_log_softmax"):
        b = arguments(source)
        new = call_like(graph, node, aten.softmax, without_shift(b["self"], b["dim"]), b["dim"])
        new.kwargs = {"dtype": b["dtype"]} if b.get("dtype") is not None else {}
        return new
    return None


def _softmax(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``softmax(z - max(z))`` is ``softmax(z)``; over ``z`` and zero it is two sigmoids."""
    b = arguments(node)
    node.args = (without_shift(node.args[0], b["dim"]), *node.args[1:])
    logits: Any = node.args[0]
    if not _is(logits, "stack") or arguments(logits)["dim"] != b["dim"] or b.get("dtype"):
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


def _log_softmax(node: fx.Node, graph: fx.Graph, logits: Any, total: Any) -> fx.Node | None:
    summed, dim = _logsumexp(total)
    if dim is None or not is_same(summed, logits):
        return None
    return call_like(graph, node, aten.log_softmax, without_shift(logits, dim), dim)


def _logsumexp(total: Any) -> tuple[Any, int | None]:
    """``z`` and the one dimension of ``logsumexp(z)``, also where its exponentials are written out.

    ``max(z) + log(sum(exp(z - max(z))))`` is that of ``z``.
    """
    total = _before_spreading(total)
    if _is(total, "logsumexp"):
        return arguments(total)["self"], _kept_dim(total)
    if _is(total, "log"):
        sum_of = without_safety(total.args[0])
        exponentials: Any = arguments(sum_of)["self"] if _is(sum_of, "sum") else None
        if _is(exponentials, "exp"):
            return exponentials.args[0], _kept_dim(sum_of)
    if _is(total, "add") and arguments(total)["alpha"] == 1:
        pair = arguments(total)["self"], arguments(total)["other"]
        for shift, rest in (pair, pair[::-1]):
            shifted, dim = _logsumexp(rest)
            if dim is not None and _is(shifted, "sub"):
                b = arguments(shifted)
                if is_same(_before_spreading(b["other"]), _before_spreading(shift)):
                    return b["self"], dim
    return None, None


def without_shift(logits: Any, dim: Any) -> Any:
    """``z`` of ``z - max(z)`` along a dimension, which the softmax over it does not see."""
    while _is(logits, "sub"):
        b = arguments(logits)
        shift = _before_spreading(b["other"])
        if _is(shift, "getitem"):
            shift = shift.args[0]
        if not _is(shift, "amax", "max", "logsumexp", "mean", "amin"):
            break
        bound = arguments(shift)
        if not is_same(bound["self"], b["self"]) or _kept_dim(shift) != dim:
            break
        logits = b["self"]
    return logits


def _kept_dim(node: fx.Node) -> int | None:
    """The one dimension over which a value is reduced, and kept."""
    return _reduced_dim(node, True)


def _reduced_dim(node: fx.Node, kept: bool) -> int | None:
    bound = arguments(node)
    dims = as_tuple(bound.get("dim"), 1)
    is_one = len(dims) == 1 and isinstance(dims[0], int)
    return dims[0] if is_one and (bound.get("keepdim") or not kept) else None


# Dot products


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
    """The matrix product of a single row and a single column."""
    first, second = list(arguments(node).values())[:2]
    ranked = name_of(node) == "bmm" or all(
        _is(_untransposed(each), "unsqueeze") for each in (first, second)
    )
    if not (_has_single(first, -2, ranked) and _has_single(second, -1, ranked)):
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


def _select(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The one entry of a dimension that was just added: the value before."""
    bound = arguments(node)
    value, dim = bound["self"], bound["dim"]
    outer: list[int] = []
    while _is(value, "unsqueeze"):
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


def _untransposed(value: Any) -> Any:
    while _is(value, "mT", "transpose"):
        value = value.args[0]
    return value


def _has_single(value: Any, dim: int, ranked: bool) -> bool:
    """Whether a value has one entry along its last dimension but one, −2, or its last, −1.

    Args:
        value: a matrix, or a batch of them.
        dim: the dimension.
        ranked: whether the value has three dimensions.
    """
    if not isinstance(value, fx.Node) or packet_of(value.target) is None:
        return False
    places = {dim, dim + 3} if ranked else {dim}
    bound = arguments(value)
    if name_of(value) == "unsqueeze":
        return bound["dim"] in places
    if name_of(value) == "reshape":
        sizes = bound["shape"]
        return isinstance(sizes, (list, tuple)) and len(sizes) >= 2 and sizes[dim] == 1
    swaps = name_of(value) == "mT" or (
        name_of(value) == "transpose"
        and {bound["dim0"], bound["dim1"]} in ({-1, -2}, *([{1, 2}, {1, -1}, {-2, 2}] * ranked))
    )
    return swaps and _has_single(value.args[0], -3 - dim, ranked)


def _einsum(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """An einsum of two values without a matrix product in it: a product, and a sum over indices.

    An ellipsis counts as an index where it stands first: what is behind it is counted from the end.
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
    """A tensor with its dimensions in this order, and single ones where it has none."""
    named = [index for index in order if index in names and index != "."]
    source = [names.index(index) - len(names) for index in named]
    if source != sorted(source):
        last = list(range(-len(named), 0))
        value = call_like(graph, origin, aten.movedim, value, source, last)
    for place, index in enumerate(reversed(order)):
        if index not in names and index != ".":
            value = call_like(graph, origin, aten.unsqueeze, value, -1 - place)
    return value


def _multiplication(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A quotient as the product with a reciprocal, ``x · (1 / y)``; else numbers around a value."""
    first, second = arguments(node).values()
    for over, under in ((first, second), (second, first)):
        scale, shift, inner = _unwound(under)
        if shift == 0 and _is(inner, "reciprocal"):
            ratio = _ratio(node, graph, over, inner.args[0])
            if ratio is not None:
                return _scaled(graph, node, ratio, scale)
    return _shift(node, graph)


def _logarithm(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``log(1 + z)`` as ``log1p(z)``: the one is part of the function; ``log1p(exp(z))`` is softplus."""
    inner: Any = node.args[0]
    if name_of(node) == "log":
        form = affine(inner) if isinstance(inner, fx.Node) else None
        if form is None or (form.scale, form.shift) != (1, 1):
            return None
        inner = form.operand
    if _is(inner, "exp"):
        return call_like(graph, node, aten.softplus, inner.args[0])
    return call_like(graph, node, aten.log1p, inner) if name_of(node) == "log" else None


def _division(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    return _quotient(node, graph) or _shift(node, graph)


_SPELLINGS: dict[str, Rewriting] = {
    "slice": _slice,
    "select": _select,
    "special_expit": _expit,
    "reciprocal": _reciprocal,
    **dict.fromkeys(["add", "sub", "rsub", "neg"], _shift),
    "mul": _multiplication,
    "div": _division,
    "exp": _exponential,
    **dict.fromkeys(["log", "log1p"], _logarithm),
    **dict.fromkeys(["softmax", "_softmax", "log_softmax", "_log_softmax"], _softmax),
    **dict.fromkeys(["dot", "vdot"], _dot),
    "linalg_vecdot": _vecdot,
    **dict.fromkeys(["matmul", "bmm", "mm"], _row_by_column),
    "einsum": _einsum,
}
