"""Quotients by sums of exponentials: sigmoids, softmaxes and ``tanh`` that are written out.

``exp(a) / (exp(a) + exp(b))`` is ``sigmoid(a - b)``; among more terms each gets an entry of their
softmax. A number among the terms is an exponential too: ``1 + exp(z)`` contains ``exp(0)``. What is
summed up before it is divided is divided term by term: ``(exp(z) y + x) / (1 + exp(z))`` becomes
``sigmoid(z) y + sigmoid(-z) x``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import fx

from lrp_fx.canonize.numbers import MAX_STEPS, are_equal, scaled_by, unwound
from lrp_fx.canonize.softmaxes import SAFETY, softmax_ratio
from lrp_fx.canonize.sums import Sum, Term, sum_of
from lrp_fx.graph import (
    aten,
    before_expansion,
    call_like,
    call_like_getitem,
    call_with_operand,
    index_of,
    is_call,
    is_same,
    literal,
    operand,
    row_of,
    shapes_of,
)

_broadcast: Callable[..., torch.Size] = torch.broadcast_shapes


@dataclass(frozen=True)
class Exponentials:
    """``number + Σ scale · exp(z)`` with positive scales, and a number that is positive or zero."""

    number: float
    terms: tuple[Term, ...]

    def first(self, graph: fx.Graph, node: fx.Node) -> fx.Node | None:
        """Write the share of the number: ``number`` by the sum."""
        if len(self.terms) > 1:
            return self._among_all(graph, node, None) if self.number else None
        (term,) = self.terms
        z = _shifted(
            graph, node, _exponent(graph, term.value), math.log(term.scale / self.number), -1.0
        )
        return call_like(graph, node, aten.sigmoid, z)

    def share(self, graph: fx.Graph, node: fx.Node, value: Any) -> fx.Node | None:
        """Write ``value`` by the sum if it is one of the exponentials; else None."""
        found = [(t, ratio) for t in self.terms if (ratio := _ratio(value, t.value)) is not None]
        if not found:
            return None
        mine, ratio = found[0]
        others = [term for term in self.terms if term is not mine]
        if len(others) + (self.number > 0) > 1:
            share = self._among_all(graph, node, mine)
        else:
            other = others[0] if others else None
            rest = self.number if other is None else other.scale
            z = _exponent(graph, mine.value)
            if other is not None:
                difference = _difference(graph, node, z, _exponent(graph, other.value))
                if difference is None:
                    return None
                z = difference
            z = _shifted(graph, node, z, math.log(mine.scale / rest), 1.0)
            share = call_like(graph, node, aten.sigmoid, z)
        return None if share is None else scaled_by(graph, node, share, ratio / mine.scale)

    def _among_all(self, graph: fx.Graph, node: fx.Node, mine: Term | None) -> fx.Node | None:
        """An entry of the softmax of all terms, which must have one shape; of the number for None."""
        shapes = shapes_of(graph.owning_module)
        known = [shapes.shape_of(term.value) for term in self.terms]
        if None in known or any(each != known[0] for each in known):
            return None
        places: list[Term | None] = [*self.terms]
        values = [
            _shifted(graph, node, _exponent(graph, t.value), math.log(t.scale), 1.0)
            for t in self.terms
        ]
        if self.number:
            zero = call_like(graph, node, aten.zeros_like, values[0])
            places.append(None)
            values.append(_shifted(graph, node, zero, math.log(self.number), 1.0))
        stacked = call_like(graph, node, aten.stack, values, -1)
        softmax = call_like(graph, node, aten.softmax, stacked, -1)
        return call_like(graph, node, aten.select, softmax, -1, places.index(mine))


def _exponentials_of(value: Any) -> Exponentials | None:
    """``number + Σ scale · exp(z)`` for positive numbers; None for any other value."""
    if not isinstance(value, fx.Node):
        return None
    whole = sum_of(value)
    number = 0.0 if len(whole.terms) > 1 and 0 <= whole.number <= SAFETY else whole.number
    are_positive = all(t.scale > 0 and _is_exponential(t.value) for t in whole.terms)
    if number < 0 or not are_positive or len(whole.terms) + (number > 0) < 2:
        return None
    return Exponentials(number, whole.terms)


def _inverted(node: fx.Node, graph: fx.Graph, power: Any, number: float) -> fx.Node | None:
    """``number / exp(z)`` as ``number exp(-z)``; None for any other quotient."""
    if not is_call(power, "exp"):
        return None
    negated = scaled_by(graph, node, operand(power), -1.0)
    return scaled_by(graph, node, call_like(graph, node, aten.exp, negated), number)


def quotient(node: fx.Node, graph: fx.Graph, over: Any, under: Any) -> fx.Node | None:
    """A quotient by an exponential, or by a sum of exponentials; None for any other."""
    if not isinstance(under, fx.Node):
        return None
    number = literal(over)
    if number is not None and is_call(under, "exp"):
        return _inverted(node, graph, under, number)
    inner = before_expansion(over)
    divisor = _Divisor(graph, node, under, _exponentials_of(before_expansion(under)))
    hyperbolic = divisor.hyperbolic(inner)
    found = divisor.under(inner) if hyperbolic is None else hyperbolic
    return None if found is None else _expanded_again(graph, found, over, under)


def _expanded_again(graph: fx.Graph, found: fx.Node, *operands: Any) -> fx.Node | None:
    """What was computed of operands before their expansion, in the shape of the operands."""
    shapes = shapes_of(graph.owning_module)

    def size(value: Any) -> torch.Size | None:
        return shapes.shape_of(value) if isinstance(value, fx.Node) else torch.Size()

    if not any(is_call(value, "expand", "expand_as") for value in operands):
        return found
    inner, outer = [size(before_expansion(value)) for value in operands], [*map(size, operands)]
    if None in inner or None in outer:
        return None
    whole = _broadcast(*outer)
    if _broadcast(*inner) == whole:
        return found
    for value, own in zip(operands, outer, strict=True):
        if own == whole:
            return _expanded_like(graph, value, found)
    return None


def _expanded_like(graph: fx.Graph, value: Any, found: fx.Node) -> fx.Node:
    """``found`` after the expansions of another value."""
    if before_expansion(value) is value:
        return found
    below = value.args[0]
    return call_with_operand(graph, value, below, _expanded_like(graph, below, found))


def times_sigmoid(node: fx.Node, graph: fx.Graph, over: Any, gate: Any) -> fx.Node | None:
    """``exp(z) · sigmoid(-z)`` as ``sigmoid(z)``: a quotient by ``1 + exp(z)``; None for others."""
    scale, shift, gate = unwound(gate)
    if shift != 0 or not is_call(gate, "sigmoid") or not isinstance(over, fx.Node):
        return None
    if not any(_is_exponential_product(term.value) for term in sum_of(over).terms):
        return None
    power = call_like(graph, node, aten.exp, scaled_by(graph, node, operand(gate), -1.0))
    total = Exponentials(1.0, (Term(1.0, power),))
    found = _Divisor(graph, node, power, total).under(over, needs_share=True)
    return None if found is None else scaled_by(graph, node, found, scale)


@dataclass(frozen=True)
class _Divisor:
    """What a value is divided by; ``total`` if it adds exponentials one by one."""

    graph: fx.Graph
    node: fx.Node
    value: fx.Node
    total: Exponentials | None

    def under(self, over: Any, *, needs_share: bool = False) -> fx.Node | None:
        """The quotient of a value by the divisor; of a sum, term by term where that is needed.

        Args:
            over: the value.
            needs_share: return None if no exponential of the divisor is in the value.
        """
        total = self.total
        if total is None:
            return self._of_term(over)
        whole = sum_of(over) if literal(over) is None else Sum((), 0.0)
        shares = [self._of_term(term.value) for term in whole.terms]
        if not any(shares):
            return None if needs_share else self._of_other(total, over)
        parts = [
            share or self._of_other(total, t.value)
            for t, share in zip(whole.terms, shares, strict=True)
        ]
        scales = [term.scale for term in whole.terms]
        if whole.number:
            parts, scales = [*parts, self._of_other(total, whole.number)], [*scales, 1.0]
        if None in parts:
            return None
        scaled = [
            scaled_by(self.graph, self.node, *each) for each in zip(parts, scales, strict=True)
        ]
        return reduce(lambda a, b: call_like(self.graph, self.node, aten.add, a, b), scaled)

    def _of_other(self, total: Exponentials, over: Any) -> fx.Node | None:
        """A value without exponentials by the divisor: a product with the share of its number."""
        share = total.first(self.graph, self.node)
        if share is None:
            return None
        number = literal(over)
        factor = (1.0 if number is None else number) / total.number
        gate = scaled_by(self.graph, self.node, share, factor)
        return gate if number is not None else self._times(gate, over)

    def _of_term(self, value: Any) -> fx.Node | None:
        """A product with one of the exponentials by the divisor; None for any other value."""
        share = self._share(value)
        if share is not None or not is_call(value, "mul"):
            return share
        for factor, rest in itertools.permutations(value.args[:2]):
            share = self._of_term(factor) if _is_exponential_product(factor) else None
            if share is not None:
                return self._times(share, rest)
        return None

    def _share(self, value: Any) -> fx.Node | None:
        """A multiple of an exponential by the divisor; None for any other value."""
        scale, shift, inner = unwound(value)
        if self.total is not None:
            share = self.total.share(self.graph, self.node, inner) if shift == 0 else None
            return None if share is None else scaled_by(self.graph, self.node, share, scale)
        scale, shift, summed = unwound(before_expansion(self.value))
        if shift != 0 or scale in (0, 1):
            return softmax_ratio(self.node, self.graph, value, self.value)
        share = softmax_ratio(self.node, self.graph, value, summed)
        return None if share is None else scaled_by(self.graph, self.node, share, 1 / scale)

    def _times(self, share: fx.Node, other: Any) -> fx.Node:
        return call_like(self.graph, self.node, aten.mul, share, other)

    def hyperbolic(self, over: Any) -> fx.Node | None:
        """``(exp(z) - exp(-z)) / (exp(z) + exp(-z))`` as ``tanh(z)``, also with numbers.

        So is ``(exp(z) - 1) / (exp(z) + 1)``, which is ``tanh(z / 2)``.
        """
        if self.total is None:
            return None
        if is_call(over, "mul"):
            for factor, rest in itertools.permutations(over.args[:2]):
                ratio = self.hyperbolic(factor)
                if ratio is not None:
                    return self._times(ratio, rest)
        own = self.total
        scale, shift, inner = unwound(over)
        if shift == 0 and is_call(inner, "expm1") and len(own.terms) == 1:
            (term,) = own.terms
            z = operand(term.value)
            if not is_same(z, operand(inner)) or term.scale != own.number:
                return None
            half = scaled_by(self.graph, self.node, operand(inner), math.copysign(0.5, scale))
            tanh = call_like(self.graph, self.node, aten.tanh, half)
            return scaled_by(self.graph, self.node, tanh, abs(scale) / own.number)
        sine = sum_of(over) if isinstance(over, fx.Node) else Sum((), 0.0)
        if sine.number or own.number or len(sine.terms) != 2:
            return None
        (first, second), pair = sine.terms, list(own.terms)
        if not is_same(first.value, pair[0].value):
            pair.reverse()
        if not is_same([first.value, second.value], [term.value for term in pair]):
            return None
        are_opposite = are_equal(first.scale, -second.scale)
        if not (are_opposite and are_equal(pair[0].scale, pair[1].scale)):
            return None
        if not all(is_call(term.value, "exp") for term in sine.terms):
            return None
        scales = [unwound(operand(term.value)) for term in sine.terms]
        (rising, number, z), (falling, more, w) = scales
        if not (is_same(z, w) and are_equal(rising, -falling) and are_equal(number, -more)):
            return None
        rises = first if rising > 0 else second
        tanh = call_like(self.graph, self.node, aten.tanh, operand(rises.value))
        return scaled_by(self.graph, self.node, tanh, rises.scale / pair[0].scale)


def _is_exponential_product(value: Any, depth: int = MAX_STEPS) -> bool:
    """Whether a value is an exponential, or a short product with one that has no other reader."""
    if depth and is_call(value, "mul") and len(value.users) == 1:
        return any(_is_exponential_product(each, depth - 1) for each in value.args[:2])
    return _is_exponential(value)


def _ratio(first: Any, second: fx.Node) -> float | None:
    """The number ``exp(z) / exp(w)`` if ``z`` and ``w`` differ by a number; else None."""
    if is_same(first, second):
        return 1.0
    if not (is_call(first, "exp") and is_call(second, "exp")):
        return None
    (scale, shift, z), (other, more, w) = unwound(operand(first)), unwound(operand(second))
    return math.exp(shift - more) if are_equal(scale, other) and is_same(z, w) else None


def _is_exponential(value: Any) -> bool:
    """Whether a value is ``exp(z)``, possibly with its entries arranged in another way, or a part."""
    while is_call(value, "getitem") or (row_of(value).arranges and len(value.all_input_nodes) == 1):
        value = value.args[0]
    return is_call(value, "exp")


def _exponent(graph: fx.Graph, value: fx.Node) -> fx.Node:
    """``z`` of ``exp(z)``, arranged as the exponentials are."""
    if is_call(value, "exp"):
        return operand(value)
    below = _exponent(graph, operand(value))
    if is_call(value, "getitem"):
        return call_like_getitem(graph, below, index_of(value))
    return call_with_operand(graph, value, value.args[0], below)


def _shifted(graph: fx.Graph, node: fx.Node, z: fx.Node, shift: float, sign: float) -> fx.Node:
    """``± (z + shift)``; ``-z`` may be in the graph already."""
    if not shift:
        return scaled_by(graph, node, z, sign)
    scale, own, inner = unwound(z)
    z = scaled_by(graph, node, inner, sign * scale)
    return call_like(graph, node, aten.add, z, sign * (own + shift))


def _difference(graph: fx.Graph, node: fx.Node, a: fx.Node, b: fx.Node) -> fx.Node | None:
    """``a - b``, also of two multiples of one value; None if they are equal."""
    (scale, number, z), (other, more, w) = unwound(a), unwound(b)
    if not is_same(z, w):
        return call_like(graph, node, aten.sub, a, b)
    if scale == other:
        return None
    value = scaled_by(graph, node, z, scale - other)
    return call_like(graph, node, aten.add, value, number - more) if number != more else value
