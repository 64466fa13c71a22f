"""Values that have an operation of their own, spelled in others: the operation instead.

A sigmoid by its exponential, a softmax by its sum, a dot product by a matrix product: each gets the
rule of what it is, and not of what it is spelled with.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

from torch import fx

from lrp_fx.canonize.dot_products import DOT_PRODUCTS
from lrp_fx.canonize.softmaxes import (
    exponential_of,
    is_sum_of_exponentials,
    log_softmax_of,
    plain_softmax,
    softmax_ratio,
)
from lrp_fx.canonize.sums import Sum, Term, is_whole, sum_of, write_sum
from lrp_fx.graph import (
    Shapes,
    affine,
    arguments,
    as_tuple,
    aten,
    before_spreading,
    call_again,
    call_like,
    is_call,
    is_same,
    literal,
    name_of,
    names_where,
    packet_of,
    replace_by,
    row_of,
    shapes_of,
)
from lrp_fx.meaning import is_softsign

Rewriting = Callable[[fx.Node, fx.Graph], "fx.Node | None"]

_ROUNDING = 1e-12

_STEPS = 4
"""Nobody scales and shifts a tanh in more steps than these; long chains of numbers are not searched."""


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


def _slice(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A slice from the first to the last entry is the value itself, and so is a pad cut off again."""
    b = arguments(node)
    if b["step"] != 1:
        return None
    if b["start"] in (0, None) and b["end"] in (None, sys.maxsize):
        return b["self"]  # type: ignore[no-any-return]
    if is_call(b["self"], "pad"):
        return _unpadded(node, graph)
    return _columns(node, graph) if is_call(b["self"], *_MATRIX_PRODUCTS) else None


_MATRIX_PRODUCTS = ("matmul", "mm", "bmm")


def _columns(node: fx.Node, graph: fx.Graph, depth: int = _STEPS) -> fx.Node | None:
    """Some columns of a product whose second factor was padded by columns: the product with these.

    So are the numerator and the divisor of an attention computed at once, ``a @ [v, 1]``.
    """
    product: Any = node.args[0]
    first, second, *_ = arguments(product).values()
    shapes = shapes_of(graph.owning_module)
    whole, columns = shapes.shape_of(product), shapes.shape_of(second)
    if whole is None or columns is None or arguments(node)["dim"] % len(whole) != len(whole) - 1:
        return None
    part = call_again(graph, node, product, second)
    part.args = (second, -1, *part.args[2:])
    is_product = depth and is_call(second, *_MATRIX_PRODUCTS)
    found = _columns(part, graph, depth - 1) if is_product else None
    if is_call(second, "pad"):
        found = _unpadded(part, graph)
        number = _added(part, shapes) if found is None else None
        if number is not None:
            total = call_like(graph, node, aten.sum, first, [-1], True)
            graph.erase_node(part)
            return _scaled(graph, node, total, number)
    graph.erase_node(part)
    return None if found is None else call_again(graph, product, second, found)


def _added(part: fx.Node, shapes: Shapes) -> float | None:
    """The number with which the one last column that a slice takes was padded."""
    b, pad = arguments(part), arguments(part.args[0])  # type: ignore[arg-type]
    before, after = shapes.shape_of(pad["self"]), shapes.shape_of(b["self"])
    if before is None or after is None or list(pad["pad"]) != [0, 1] or pad["mode"] != "constant":
        return None
    start, end, _ = slice(b["start"], b["end"]).indices(after[-1])
    is_last = (start, end) == (before[-1], after[-1])
    return float(pad["value"] or 0) if is_last else None


def _unpadded(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The value that was padded, where a slice leaves what it was along its dimension."""
    b, pad = arguments(node), arguments(node.args[0])  # type: ignore[arg-type]
    shapes = shapes_of(graph.owning_module)
    before, after = shapes(pad["self"]), shapes(b["self"])
    if before is None or after is None:
        return None
    dim = b["dim"] % before.dim()
    place = 2 * (before.dim() - 1 - dim)  # a pad counts from the last dimension
    added = list(pad["pad"])
    if any(isinstance(value, fx.Node) for value in (b["start"], b["end"], *added)):
        return None
    start, end, _ = slice(b["start"], b["end"]).indices(after.shape[dim])
    if place >= len(added) or (start, end - start) != (added[place], before.shape[dim]):
        return None
    added[place : place + 2] = [0, 0]
    if not any(added):
        return pad["self"]  # type: ignore[no-any-return]
    return call_like(graph, node, aten.pad, pad["self"], added, pad["mode"], pad["value"])


def _only_entry(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A value without the dimension along which it has one entry, but the batch; else None."""
    b = arguments(node)
    if b["dim"] == 0:
        return None
    shape = shapes_of(graph.owning_module).shape_of(b["self"])
    if shape is None or shape[b["dim"]] != 1 or b["dim"] % len(shape) == 0:
        return None
    return call_like(graph, node, aten.squeeze, b["self"], b["dim"])


def _select(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The one entry of a dimension: that without it, or the value before it was added."""
    bound = arguments(node)
    value, dim = bound["self"], bound["dim"]
    only = _only_entry(node, graph)
    if only is not None:
        return only
    outer: list[int] = []
    while is_call(value, "unsqueeze"):
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


_REDUCTIONS = names_where(lambda row: row.reduction == "dims" and not row.results)

_ONE_BY_ONE = names_where(lambda row: row.entrywise and not (row.says or row.fills))


def _kept(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A dimension that a reduction takes away, and that is put back, as one that it keeps."""
    value: Any = node.args[0]
    functions: list[fx.Node] = []
    while is_call(value, *_ONE_BY_ONE) and len(value.all_input_nodes) == 1:
        functions.append(value)
        (value,) = value.all_input_nodes
    if not is_call(value, *_REDUCTIONS):
        return None
    b = arguments(value)
    dims = as_tuple(b.get("dim"), 1)
    if b.get("keepdim", True) or len(dims) != 1 or not isinstance(dims[0], int):
        return None
    if not _puts_back(node, value.args[0], dims[0], graph):
        return None
    kept = call_like(graph, node, packet_of(value.target), *value.args)  # type: ignore[arg-type]
    kept.kwargs = {**value.kwargs, "keepdim": True}
    kept.args = tuple(v for k, v in zip(b, kept.args, strict=False) if k != "keepdim")
    for function in reversed(functions):
        kept = call_again(graph, function, function.all_input_nodes[0], kept)
    return kept


def _puts_back(node: fx.Node, before: Any, dim: int, graph: fx.Graph) -> bool:
    """Whether a view adds the dimension that was reduced."""
    added = arguments(node).get("dim")
    if added is not None and (added < 0) == (dim < 0):
        return bool(added == dim)
    shapes = shapes_of(graph.owning_module)
    whole, shape = shapes.shape_of(before), shapes.shape_of(node)
    if whole is None or shape is None:
        return False
    return list(shape) == [1 if d == dim % len(whole) else size for d, size in enumerate(whole)]


# Sigmoids
def _expit(node: fx.Node, graph: fx.Graph) -> fx.Node:
    return call_like(graph, node, aten.sigmoid, node.args[0])


def _is_one_plus(value: Any) -> fx.Node | None:
    """``z`` of ``1 + exp(z)``."""
    form = affine(value)
    if form is None or (form.scale, form.shift) != (1, 1) or not is_call(form.operand, "exp"):
        return None
    return form.operand.args[0]  # type: ignore[return-value]


def _sigmoid_of_negative(graph: fx.Graph, node: fx.Node, z: fx.Node) -> fx.Node:
    """``sigmoid(-z)``, of which ``-z`` is often there already."""
    return call_like(graph, node, aten.sigmoid, _scaled(graph, node, z, -1.0))


def _reciprocal(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``1 / (1 + exp(z))``."""
    z = _is_one_plus(node.args[0])
    return None if z is None else _sigmoid_of_negative(graph, node, z)


def _shift(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """Numbers around a function that belong to it; ``z - logsumexp(z)`` as ``log_softmax(z)``.

    ``(1 ± tanh(z)) / 2`` is ``sigmoid(±2 z)``. Numbers that bring the value at rest to zero make a
    function of what they surround: ``2 sigmoid(2 z) - 1`` is ``tanh(z)``, and takes no relevance.
    """
    if name_of(node) == "sub" and arguments(node)["alpha"] == 1:
        first, second, *_ = arguments(node).values()
        logarithm = log_softmax_of(node, graph, first, second)
        logarithm = logarithm or _log_sigmoid(node, graph, first, second)
        if logarithm is not None:
            return logarithm
    scale, shift, inner = _unwound(node)
    if shift == 0:
        found = signed(node, graph, scale, inner)
    else:
        found = _with_number(node, graph, scale, shift, inner)
    return found or _in_a_sum(node, graph)


def _log_sigmoid(node: fx.Node, graph: fx.Graph, first: Any, second: Any) -> fx.Node | None:
    """``z - softplus(z)`` as ``log_sigmoid(z)``, and ``log_sigmoid(z) - z`` as ``log_sigmoid(-z)``.

    Only where exponentials read it: they are sigmoids.
    """
    if not all(is_call(user, "exp") for user in node.users):
        return None
    if is_call(second, "softplus") and literal(arguments(second)["beta"]) == 1:
        if is_same(second.args[0], first):
            return call_like(graph, node, aten.log_sigmoid, first)
    elif is_call(first, "log_sigmoid") and is_same(first.args[0], second):
        return call_like(graph, node, aten.log_sigmoid, _scaled(graph, node, second, -1.0))
    return None


def _in_a_sum(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The same where other terms stand between functions and their numbers."""
    whole = sum_of(node) if is_whole(node) else Sum((), 0.0)
    if len(whole.terms) < 2:
        return None
    needed = [_needed(term.scale, term.value) for term in whole.terms]
    if not _are(math.fsum(needed), whole.number):  # of several functions each has its own
        one = _taker(whole, needed)
        needed = [whole.number if place == one else 0.0 for place in range(len(needed))]
    terms, number = list(whole.terms), whole.number
    for place, (term, own) in enumerate(zip(whole.terms, needed, strict=True)):
        found = signed(node, graph, term.scale, term.value)
        if found is None and own != 0 and whole.number != 0:
            found = _with_number(node, graph, term.scale, own, term.value)
            number -= 0.0 if found is None else own
        if found is not None:
            terms[place] = Term(1.0, found)
    if terms == [*whole.terms]:
        return None
    return write_sum(graph, node, Sum(tuple(terms), 0.0 if _are(number + 1, 1) else number))


def _taker(whole: Sum, needed: list[float]) -> int | None:
    """The place of the one function that takes the number of a sum, also as ``1 - sigmoid(z)``."""
    for place, each in enumerate(needed):
        if _are(each, whole.number):
            return place
    for place, term in enumerate(whole.terms):
        if is_call(term.value, *_ODD) and _are(-term.scale, whole.number):
            return place
    return None


def _needed(scale: float, inner: Any) -> float:
    """The number that makes one function of ``scale · inner`` and itself; zero where none does."""
    if is_call(inner, "exp"):
        return -scale
    if is_call(inner, "expm1"):
        return scale
    if is_call(inner, *_ODD):
        return -scale / 2
    if is_call(inner, "tanh") and _are(abs(scale), 0.5):
        return 0.5
    ends = _ends(inner)
    if ends is None:
        return 0.0
    return -scale * _unwound(inner.args[0])[1]


def _with_number(
    node: fx.Node, graph: fx.Graph, scale: float, shift: float, inner: Any
) -> fx.Node | None:
    """``scale · inner + shift``, where the two numbers belong to the function between them."""
    if is_call(inner, "tanh") and _are(abs(scale), 0.5) and _are(shift, 0.5):
        doubled = _scaled(graph, node, inner.args[0], math.copysign(2.0, scale))
        return call_like(graph, node, aten.sigmoid, doubled)
    if is_call(inner, "exp") and _are(scale, -shift):
        return _scaled(graph, node, call_like(graph, node, aten.expm1, inner.args[0]), scale)
    if is_call(inner, "expm1") and _are(scale, shift):
        return _scaled(graph, node, call_like(graph, node, aten.exp, inner.args[0]), scale)
    if is_call(inner, *_ODD) and _are(scale, -2 * shift):
        function, factor = _ODD[name_of(inner)]
        odd = function(
            graph, node, _scaled(graph, node, inner.args[0], math.copysign(factor, scale))
        )
        return _scaled(graph, node, odd, abs(scale) / 2)
    is_complement = _are(scale, -shift)
    if (is_complement or scale < 0) and (opposite := complement_of(graph, node, inner)):
        if is_complement:
            return _scaled(graph, node, opposite, shift)
        return call_like(
            graph, node, aten.add, _scaled(graph, node, opposite, -scale), shift + scale
        )
    return _clamp(node, graph, scale, shift, inner)


def complement_of(graph: fx.Graph, node: fx.Node, gate: Any) -> fx.Node | None:
    """``1 - sigmoid(z)`` as ``sigmoid(-z)``; None of what is no sigmoid."""
    if not is_call(gate, "sigmoid", "hardsigmoid"):
        return None
    return call_again(graph, gate, gate.args[0], _scaled(graph, node, gate.args[0], -1.0))


def _is_view_of_one(value: Any) -> bool:
    """Whether a value moves the entries of one other, and is read once."""
    row = row_of(value)
    if not row.arranges or row.results:
        return False
    return len(value.users) == len(value.all_input_nodes) == 1 and isinstance(
        value.args[0], fx.Node
    )


def is_opposite(first: fx.Node, second: fx.Node) -> bool:
    """Whether two values are ``f(-z)`` and ``f(z)`` of an odd function."""
    if name_of(first) != name_of(second) or name_of(first) not in _SYMMETRIC:
        return False
    if not is_same(first.args[1:], second.args[1:]):
        return False
    scales = [_unwound(each.args[0]) for each in (first, second)]
    (one, shift, z), (other, offset, w) = scales
    return _are(one, -other) and (shift, offset) == (0, 0) and is_same(z, w)


def signed(node: fx.Node, graph: fx.Graph, scale: float, inner: Any) -> fx.Node | None:
    """``-f(z)`` as ``f(-z)`` of an odd function, and ``-softplus(-z)`` as ``log_sigmoid(z)``.

    The sign belongs to the argument, where it may meet another, or the weights of a layer; also
    where views of the function's value lie between.
    """
    views: list[fx.Node] = []
    while scale < 0 and _is_view_of_one(inner):
        views.append(inner)
        inner = inner.args[0]
    if views:
        below = signed(node, graph, -1.0, inner)
        if below is None:
            return None
        for view in reversed(views):
            below = call_again(graph, view, view.args[0], below)
        return _scaled(graph, node, below, -scale)
    if scale >= 0 or not is_call(inner, "softplus", "div", *_SYMMETRIC):
        return None
    b = arguments(inner)
    beta = literal(b.get("beta", 1))
    if beta is None or len(inner.users) > 1:  # others read the value with its sign
        return None
    if is_call(inner, "div") and not is_softsign(b["self"], b["other"]):
        return None
    negative = _scaled(graph, node, b["self"], -beta)
    if is_call(inner, "softplus"):
        function, scale = call_like(graph, node, aten.log_sigmoid, negative), scale / beta
    elif is_call(inner, "div"):
        size = call_like(graph, node, aten.abs, negative)
        function = call_like(
            graph, node, aten.div, negative, call_like(graph, node, aten.add, size, 1)
        )
    else:
        function = call_again(graph, inner, b["self"], negative)
    return _scaled(graph, node, function, -scale)


def _unwound(value: Any) -> tuple[float, float, Any]:
    """A value as ``scale · inner + shift`` with numbers."""
    scale, shift = 1.0, 0.0
    for _ in range(_STEPS):
        form = affine(value)
        if form is None:
            break
        scale, shift, value = scale * form.scale, scale * form.shift + shift, form.operand
    return scale, shift, value


def _are(first: float, second: float) -> bool:
    """Whether two numbers that were computed differ by their rounding alone."""
    return abs(first - second) <= _ROUNDING * max(abs(first), abs(second))


def _scaled(graph: fx.Graph, node: fx.Node, value: Any, factor: float) -> fx.Node:
    """``factor · value``, of which the value may be a multiple of what is there already."""
    scale, shift, inner = _unwound(value)
    if shift == 0 and scale * factor == 1:
        return inner  # type: ignore[no-any-return]
    if shift == 0 and factor < 0 and scale < 0:
        value, factor = inner, scale * factor
    if factor == -1:
        return call_like(graph, node, aten.neg, value)
    same: fx.Node = value
    return same if factor == 1 else call_like(graph, node, aten.mul, value, factor)


_ODD: dict[str, tuple[Callable[[fx.Graph, fx.Node, Any], fx.Node], float]] = {
    "sigmoid": (lambda graph, node, z: call_like(graph, node, aten.tanh, z), 0.5),
    "hardsigmoid": (lambda graph, node, z: call_like(graph, node, aten.hardtanh, z, -1, 1), 1 / 3),
}
"""``2 f(z) - 1`` as a function of a multiple of z."""

_SYMMETRIC = names_where(lambda row: row.odd) - {"neg"}
"""Odd functions: ``f(-z) = -f(z)``."""

_ENDS: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
    "relu6": lambda b: (0, 6),
    "hardtanh": lambda b: (b["min_val"], b["max_val"]),
    "clamp": lambda b: (b["min"], b["max"]),
}


def _ends(inner: Any) -> list[float] | None:
    """The two ends of a clamp."""
    if not is_call(inner, *_ENDS):
        return None
    ends = [literal(end) for end in _ENDS[name_of(inner)](arguments(inner))]
    found = [end for end in ends if end is not None]
    return found if len(found) == 2 else None


def _clamp(
    node: fx.Node, graph: fx.Graph, scale: float, shift: float, inner: Any
) -> fx.Node | None:
    """``relu6(z + 3) - 3`` as ``clamp(z, -3, 3)``: a shift before a clamp that is undone behind it."""
    ends = _ends(inner)
    if ends is None:
        return None
    before, offset, z = _unwound(inner.args[0])
    if not _are(scale * offset, -shift):
        return None
    low, high = sorted(scale * end + shift for end in ends)
    return call_like(graph, node, aten.hardtanh, _scaled(graph, node, z, scale * before), low, high)


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
    z = _is_one_plus(before_spreading(under))
    scale, shift, inner = _unwound(over)
    if z is not None and shift == 0 and is_call(inner, "expm1") and is_same(inner.args[0], z):
        tanh = call_like(graph, node, aten.tanh, _scaled(graph, node, z, math.copysign(0.5, scale)))
        return _scaled(graph, node, tanh, abs(scale))
    if z is not None and is_call(over, "exp") and is_same(z, over.args[0]):
        return call_like(graph, node, aten.sigmoid, z)
    if is_call(over, "mul") and (z is not None or is_sum_of_exponentials(under)):
        for factor, rest in itertools.permutations((over.args[0], over.args[1])):
            ratio = _ratio(node, graph, factor, under) if _is_exponential_product(factor) else None
            if ratio is not None:
                return call_like(graph, node, aten.mul, ratio, rest)
    if z is not None:
        number = literal(over)
        gate = _sigmoid_of_negative(graph, node, z)
        return call_like(graph, node, aten.mul, gate, over if number is None else number)
    return softmax_ratio(node, graph, over, under)


def _is_exponential_product(value: Any, depth: int = _STEPS) -> bool:
    """Whether a value is an exponential, or a short product of one that nobody else reads."""
    if depth and is_call(value, "mul") and len(value.users) == 1:
        return any(_is_exponential_product(each, depth - 1) for each in value.args[:2])
    return is_call(value, "exp")


def _multiplication(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A quotient as the product with a reciprocal, ``x · (1 / y)``; else numbers around a value."""
    first, second = arguments(node).values()
    for over, under in ((first, second), (second, first)):
        scale, shift, inner = _unwound(under)
        if shift == 0 and is_call(inner, "reciprocal"):
            ratio = _ratio(node, graph, over, inner.args[0])
            if ratio is not None:
                return _scaled(graph, node, ratio, scale)
    return _shift(node, graph)


def _logarithm(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``log(1 + z)`` as ``log1p(z)``: the one is part of the function; ``log1p(exp(z))`` is softplus."""
    inner: Any = node.args[0]
    if name_of(node) == "log":
        form = affine(inner)
        if form is None or (form.scale, form.shift) != (1, 1):
            return None
        inner = form.operand
    if is_call(inner, "exp"):
        return call_like(graph, node, aten.softplus, inner.args[0])
    return call_like(graph, node, aten.log1p, inner) if name_of(node) == "log" else None


def _division(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    return _quotient(node, graph) or _shift(node, graph)


def _finite(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``nan_to_num`` of a bounded function; of a softmax it is about rows that are masked as a whole."""
    b = arguments(node)
    source, row = b["self"], row_of(b["self"])
    if b["nan"] not in (None, 0) or not math.isfinite(row.high - row.low):
        return None
    if row.normalizes:
        of_source = arguments(source)
        safe = call_like(graph, node, aten._safe_softmax, of_source["self"], of_source["dim"])
        safe.kwargs = {} if of_source.get("dtype") is None else {"dtype": of_source["dtype"]}
        return safe
    return source  # type: ignore[no-any-return]


def _root(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The root of a product of two sums of squares, as the product of their roots."""
    product: Any = node.args[0]
    if not is_call(product, "mul") or len(product.users) != 1:
        return None
    factors = arguments(product)["self"], arguments(product)["other"]
    if not all(map(_is_sum_of_squares, factors)):
        return None
    roots = [call_again(graph, node, product, factor) for factor in factors]
    return call_like(graph, node, aten.mul, *roots)


def _is_sum_of_squares(value: Any) -> bool:
    while row_of(value).arranges or is_call(value, "sum", "mean", "clamp_min"):
        value = value.args[0]
    return is_call(value, "square") or (is_call(value, "mul") and value.args[0] is value.args[1])


def _least(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``amin(-x)`` as ``-amax(x)``, and the other way round."""
    scale, shift, inner = _unwound(node.args[0])
    if shift != 0 or scale >= 0:
        return None
    packet = aten.amax if name_of(node) == "amin" else aten.amin
    return _scaled(graph, node, call_like(graph, node, packet, inner, *node.args[1:]), scale)


def _joined(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """All pieces of a value joined as they were: the value."""
    b = arguments(node)
    pieces: list[Any] = b["tensors"]
    wholes = {each.args[0] if is_call(each, "getitem") else None for each in pieces}
    if len(wholes) != 1 or [each.args[1] for each in pieces if each.args[1:]] != [
        *range(len(pieces))
    ]:
        return None
    split: Any = wholes.pop()
    if row_of(split).results != "pieces" or is_call(split, "unbind"):
        return None
    shapes = shapes_of(graph.owning_module)
    source: Any = split.args[0]
    whole, own = shapes.shape_of(node), shapes.shape_of(source)
    if whole is None or whole != own:
        return None
    same = arguments(split)["dim"] % len(whole) == b["dim"] % len(whole)
    return source if same else None


def _unbind(node: fx.Node, graph: fx.Graph) -> None:
    """The one entry of a dimension, among the pieces along it: the value without the dimension."""
    only = _only_entry(node, graph)
    for user in [user for user in node.users if is_call(user, "getitem")]:
        if only is not None:
            replace_by(user, only)


_SPELLINGS: dict[str, Rewriting] = {
    "unbind": _unbind,
    "cat": _joined,
    "nan_to_num": _finite,
    **dict.fromkeys(["sqrt", "rsqrt"], _root),
    **dict.fromkeys(["amin", "amax"], _least),
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(["unsqueeze", "reshape"], _kept),
    "special_expit": _expit,
    "reciprocal": _reciprocal,
    **dict.fromkeys(["add", "sub", "rsub", "neg"], _shift),
    "mul": _multiplication,
    "div": _division,
    "exp": exponential_of,
    **dict.fromkeys(["log", "log1p"], _logarithm),
    **dict.fromkeys(["softmax", "_softmax", "log_softmax", "_log_softmax"], plain_softmax),
    **DOT_PRODUCTS,
}
