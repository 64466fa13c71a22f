"""Sigmoids and other bounded functions, written by exponentials or with numbers around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import fx

from lrp_fx.canonize.log_space import log_share_of, stable_logsumexp
from lrp_fx.canonize.numbers import are_equal, scaled_by, unwound
from lrp_fx.canonize.quotients import quotient, times_sigmoid
from lrp_fx.canonize.signs import complement_of, signed
from lrp_fx.canonize.sums import Sum, Term, is_whole, sum_of, write_sum
from lrp_fx.graph import (
    arguments,
    aten,
    call_like,
    ends_of_clip,
    is_call,
    literal,
    name_of,
    row_of,
)


def reciprocal(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``1 / (1 + exp(z))`` as ``sigmoid(-z)``, and ``1 / exp(z)`` as ``exp(-z)``."""
    return quotient(node, graph, 1.0, node.args[0])


def shifted(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """Merge numbers around a function into the function.

    ``tanh(z)`` with a number beside it becomes ``2 sigmoid(2 z) - 1``: ``(1 ± tanh(z)) / 2`` is
    ``sigmoid(±2 z)``. Numbers that make the value at rest zero belong
    to the function: ``2 sigmoid(2 z) - 1`` becomes ``tanh(z)``, so that no number takes relevance.
    ``z - logsumexp(z)`` becomes ``log_softmax(z)``.
    """
    if name_of(node) == "sub" and arguments(node)["alpha"] == 1:
        first, second, *_ = arguments(node).values()
        logarithm = log_share_of(node, graph, first, second)
        if logarithm is not None:
            return logarithm
    if name_of(node) == "add":
        shifted_total = stable_logsumexp(node, graph)
        if shifted_total is not None:
            return shifted_total
    if not is_whole(node):  # the numbers of the whole sum belong together
        return None
    scale, shift, inner = unwound(node)
    if shift == 0:
        found = signed(node, graph, scale, inner)
    else:
        found = _with_number(node, graph, scale, shift, inner)
    return found or _in_a_sum(node, graph)


def _in_a_sum(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """The same as :func:`shifted`, if other terms stand between functions and their numbers."""
    whole = sum_of(node)
    if len(whole.terms) < 2:
        return None
    needed = [_needed(term.scale, term.value) for term in whole.terms]
    if not are_equal(math.fsum(needed), whole.number):  # else each function has its own number
        one = _taker(whole, needed)
        needed = [whole.number if place == one else 0.0 for place in range(len(needed))]
    terms, number = list(whole.terms), whole.number
    for place, (term, own) in enumerate(zip(whole.terms, needed, strict=True)):
        found = None
        if own != 0 and whole.number != 0:
            found = _with_number(node, graph, term.scale, own, term.value)
            number -= 0.0 if found is None else own
        found = found or signed(node, graph, term.scale, term.value)
        if found is not None:
            terms[place] = Term(1.0, found)
    if terms == [*whole.terms]:
        return None
    return write_sum(graph, node, Sum(tuple(terms), 0.0 if are_equal(number + 1, 1) else number))


def _taker(whole: Sum, needed: list[float]) -> int | None:
    """The index of the one function that the number of a sum belongs to, also in ``1 - sigmoid(z)``."""
    for place, each in enumerate(needed):
        if are_equal(each, whole.number):
            return place
    for place, term in enumerate(whole.terms):
        if is_call(term.value, *_ODD) and are_equal(-term.scale, whole.number):
            return place
    return None


def _needed(scale: float, inner: Any) -> float:
    """The number that forms one function with ``scale · inner``; zero if there is none."""
    if is_call(inner, "exp"):
        return -scale
    if is_call(inner, "expm1"):
        return scale
    if is_call(inner, *_ODD):
        return -scale / 2
    if is_call(inner, "tanh") and are_equal(abs(scale), 0.5):
        return 0.5
    ends = _ends(inner)
    if ends is None:
        return 0.0
    return -scale * unwound(inner.args[0])[1]


def _with_number(
    node: fx.Node, graph: fx.Graph, scale: float, shift: float, inner: Any
) -> fx.Node | None:
    """``scale · inner + shift`` as one function, if the two numbers belong to ``inner``."""
    if is_call(inner, "tanh"):
        doubled = scaled_by(graph, node, inner.args[0], math.copysign(2.0, scale))
        gate = call_like(graph, node, aten.sigmoid, doubled)
        gate = scaled_by(graph, node, gate, 2 * abs(scale))
        rest = shift - abs(scale)
        return gate if are_equal(rest + 1, 1) else call_like(graph, node, aten.add, gate, rest)
    if is_call(inner, "exp") and are_equal(scale, -shift):
        return scaled_by(graph, node, call_like(graph, node, aten.expm1, inner.args[0]), scale)
    if is_call(inner, "expm1") and are_equal(scale, shift):
        return scaled_by(graph, node, call_like(graph, node, aten.exp, inner.args[0]), scale)
    if is_call(inner, *_ODD) and are_equal(scale, -2 * shift):
        function, factor = _ODD[name_of(inner)]
        odd = function(
            graph, node, scaled_by(graph, node, inner.args[0], math.copysign(factor, scale))
        )
        return scaled_by(graph, node, odd, abs(scale) / 2)
    is_complement = are_equal(scale, -shift)
    if (is_complement or scale < 0) and (opposite := complement_of(graph, node, inner)):
        if is_complement:
            return scaled_by(graph, node, opposite, shift)
        return call_like(
            graph, node, aten.add, scaled_by(graph, node, opposite, -scale), shift + scale
        )
    return _clamp(node, graph, scale, shift, inner)


_ODD: dict[str, tuple[Callable[[fx.Graph, fx.Node, Any], fx.Node], float]] = {
    "sigmoid": (lambda graph, node, z: call_like(graph, node, aten.tanh, z), 0.5),
    "hardsigmoid": (lambda graph, node, z: call_like(graph, node, aten.hardtanh, z, -1, 1), 1 / 3),
}
"""For each function f, how ``2 f(z) - 1`` is written, and the factor of z in it."""


def _ends(inner: Any) -> list[float] | None:
    """The two ends of a clamp, or None."""
    if not row_of(inner).clips:
        return None
    ends = [literal(end) for end in ends_of_clip(inner)]
    found = [end for end in ends if end is not None]
    return found if len(found) == 2 else None


def _clamp(
    node: fx.Node, graph: fx.Graph, scale: float, shift: float, inner: Any
) -> fx.Node | None:
    """A clamp with a shift that is undone after it: ``relu6(z + 3) - 3`` as ``clamp(z, -3, 3)``."""
    ends = _ends(inner)
    if ends is None:
        return None
    before, offset, z = unwound(inner.args[0])
    if not are_equal(scale * offset, -shift):
        return None
    low, high = sorted(scale * end + shift for end in ends)
    return call_like(
        graph, node, aten.hardtanh, scaled_by(graph, node, z, scale * before), low, high
    )


def multiplied(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``x · (1 / y)`` as a quotient; otherwise as :func:`shifted`."""
    first, second = arguments(node).values()
    for over, under in ((first, second), (second, first)):
        share = times_sigmoid(node, graph, over, under)
        if share is not None:
            return share
        scale, shift, inner = unwound(under)
        if shift == 0 and is_call(inner, "reciprocal"):
            ratio = quotient(node, graph, over, inner.args[0])
            if ratio is not None:
                return scaled_by(graph, node, ratio, scale)
    return shifted(node, graph)


def divided(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """A quotient of exponentials as a sigmoid, softmax or tanh; otherwise as :func:`shifted`."""
    b = arguments(node)
    if b.get("rounding_mode") is None:
        ratio = quotient(node, graph, b["self"], b["other"])
        if ratio is not None:
            return ratio
    return shifted(node, graph)
