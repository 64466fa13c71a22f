"""Exponentials of logarithms, and logarithms of exponentials: log space and linear space are one meaning.

``exp(z - logsumexp(z))`` is ``exp(z) / sum(exp(z))``, and ``z - log(sum(exp(z)))`` is ``log_softmax(z)``.
"""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from lrp_fx.canonize.numbers import unwound
from lrp_fx.canonize.quotients import quotient, times_sigmoid
from lrp_fx.canonize.signs import complement_of
from lrp_fx.canonize.softmaxes import kept_dim, moved_like, without_safety, without_shift
from lrp_fx.canonize.sums import Sum, sum_of, write_sum
from lrp_fx.graph import (
    affine,
    arguments,
    aten,
    before_expansion,
    call_like,
    is_call,
    is_same,
    literal,
    name_of,
    operand,
    row_of,
)


def exponential_of(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``exp`` of a logarithm as the value itself, of a difference of logarithms as their quotient.

    A quotient only where it is a share among exponentials: ``exp(z - softplus(z))`` is ``sigmoid(z)``.
    """
    source: Any = node.args[0]
    plain = _without_log(node, graph, source)
    if plain is not None:
        return plain
    whole = sum_of(source)
    if not whole.number and len(whole.terms) > 1:
        product = _product(node, graph, whole)
        if product is not None:
            return product
    for scale in (-1.0, 1.0):
        for place, term in enumerate(whole.terms):
            inner = before_expansion(term.value)
            value = _without_log(node, graph, inner) if term.scale == scale else None
            if value is None:
                continue
            others = whole.terms[:place] + whole.terms[place + 1 :]
            over = _exponential(node, graph, Sum(others, whole.number))
            if scale > 0:
                return None if over == 1.0 else times_sigmoid(node, graph, over, value)
            found = quotient(node, graph, over, value)
            if found is None and over == 1.0 and inner is term.value:
                return call_like(graph, node, aten.reciprocal, value)
            return found
    return None


def _product(node: fx.Node, graph: fx.Graph, whole: Sum) -> fx.Node | None:
    """``exp(Σ ± log(y))`` as the product of the values and reciprocals; None for other terms."""
    found: fx.Node | None = None
    for term in sorted(whole.terms, key=lambda each: -each.scale):
        value = _without_log(node, graph, term.value) if abs(term.scale) == 1 else None
        if value is None or (found is None and term.scale < 0):
            return None
        if found is None:
            found = value
        elif term.scale > 0:
            found = call_like(graph, node, aten.mul, found, value)
        else:
            quot = quotient(node, graph, found, value)
            found = call_like(graph, node, aten.div, found, value) if quot is None else quot
    return found


def _exponential(node: fx.Node, graph: fx.Graph, whole: Sum) -> fx.Node | float:
    """``exp`` of a sum; of one logarithm, the value itself."""
    if not whole.terms:
        return math.exp(whole.number)
    if len(whole.terms) == 1 and whole.number == 0 and whole.terms[0].scale == 1:
        plain = _without_log(node, graph, whole.terms[0].value)
        if plain is not None:
            return plain
    return call_like(graph, node, aten.exp, write_sum(graph, node, whole))


def _without_log(node: fx.Node, graph: fx.Graph, value: Any) -> fx.Node | None:
    """``exp`` of a value, if the value is a logarithm; else None."""
    if is_call(value, "log"):
        return operand(value)
    if is_call(value, "log_sigmoid"):
        return call_like(graph, node, aten.sigmoid, operand(value))
    if is_call(value, "log1p"):
        return call_like(graph, node, aten.add, operand(value), 1)
    if is_call(value, "softplus") and literal(arguments(value)["beta"]) == 1:
        return call_like(graph, node, aten.add, call_like(graph, node, aten.exp, operand(value)), 1)
    if is_call(value, "logsumexp"):
        b = arguments(value)
        exponentials = call_like(graph, node, aten.exp, b["self"])
        return call_like(graph, node, aten.sum, exponentials, b["dim"], b["keepdim"])
    if is_call(value, "log_softmax", "_log_softmax"):
        b = arguments(value)
        new = call_like(graph, node, aten.softmax, without_shift(b["self"], b["dim"]), b["dim"])
        new.kwargs = {"dtype": b["dtype"]} if b.get("dtype") is not None else {}
        return new
    if is_call(value, "getitem") or (row_of(value).arranges and len(value.all_input_nodes) == 1):
        below = _without_log(node, graph, operand(value))
        return None if below is None else moved_like(graph, value, below)
    return None


def log_share_of(node: fx.Node, graph: fx.Graph, logits: Any, total: Any) -> fx.Node | None:
    """``z - logsumexp(z)`` as ``log_softmax(z)``, ``z - softplus(z)`` as ``log_sigmoid(z)``.

    Returns None for other values.
    """
    if is_call(total, "softplus") and literal(arguments(total)["beta"]) == 1:
        is_own = is_same(operand(total), logits)
        return call_like(graph, node, aten.log_sigmoid, logits) if is_own else None
    summed, dim = _logsumexp(total)
    if dim is None or not is_same(summed, logits):
        return None
    return call_like(graph, node, aten.log_softmax, without_shift(logits, dim), dim)


def stable_logsumexp(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``max(z) + log(sum(exp(z - max(z))))`` as ``logsumexp(z)``; None for other sums."""
    z, dim = _logsumexp(node)
    return None if dim is None else call_like(graph, node, aten.logsumexp, z, [dim], True)


def _logsumexp(total: Any) -> tuple[Any, int | None]:
    """``z`` and the one dimension of ``logsumexp(z)``, also where its exponentials are written out.

    ``max(z) + log(sum(exp(z - max(z))))`` counts as ``logsumexp(z)``.
    """
    total = before_expansion(total)
    if is_call(total, "logsumexp"):
        return arguments(total)["self"], kept_dim(total)
    if is_call(total, "log"):
        sum_of = without_safety(total.args[0])
        exponentials: Any = arguments(sum_of)["self"] if is_call(sum_of, "sum") else None
        if is_call(exponentials, "exp"):
            return exponentials.args[0], kept_dim(sum_of)
    if is_call(total, "add") and arguments(total)["alpha"] == 1:
        pair = arguments(total)["self"], arguments(total)["other"]
        for shift, rest in (pair, pair[::-1]):
            shifted, dim = _logsumexp(rest)
            if dim is not None and is_call(shifted, "sub"):
                b = arguments(shifted)
                if is_same(before_expansion(b["other"]), before_expansion(shift)):
                    return b["self"], dim
    return None, None


def logarithm(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``log(1 + z)`` as ``log1p(z)``, and ``log1p(exp(z))`` as ``softplus(z)``.

    The logarithm of a softmax or a sigmoid is one function.
    """
    inner: Any = node.args[0]
    if name_of(node) == "log":
        if is_call(inner, "softmax", "_softmax") and arguments(inner).get("dtype") is None:
            b = arguments(inner)
            return call_like(graph, node, aten.log_softmax, b["self"], b["dim"])
        if is_call(inner, "sigmoid"):
            return call_like(graph, node, aten.log_sigmoid, inner.args[0])
        form = affine(inner)
        if form is None or (form.scale, form.shift) != (1, 1):
            return None
        inner = form.operand
    if is_call(inner, "exp"):
        return call_like(graph, node, aten.softplus, inner.args[0])
    scale, shift, gate = unwound(inner)
    opposite = complement_of(graph, node, gate) if (scale, shift) == (-1, 0) else None
    if opposite is not None:
        return (
            call_like(graph, node, aten.log_sigmoid, operand(opposite))
            if is_call(opposite, "sigmoid")
            else None
        )
    return call_like(graph, node, aten.log1p, inner) if name_of(node) == "log" else None
