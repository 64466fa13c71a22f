"""Sums of exponentials, however they are written, and the shares of their terms.

``exp(a) / (exp(a) + exp(b))`` is ``sigmoid(a - b)``; among more terms each gets an entry of their
softmax. A number among the terms is an exponential too: ``1 + exp(z)`` contains ``exp(0)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import fx

from lrp_fx.canonize.numbers import MAX_STEPS, are_equal, scaled_by, unwound
from lrp_fx.canonize.softmaxes import SAFETY, moved_like
from lrp_fx.canonize.sums import Sum, Term, stacked, sum_of
from lrp_fx.graph import (
    ADDITIONS,
    arguments,
    aten,
    before_expansion,
    call_like,
    is_call,
    is_same,
    literal,
    operand,
    row_of,
    shapes_of,
)


@dataclass(frozen=True)
class Exponentials:
    """``number + Σ scale · exp(z)`` with positive scales, and a number that is positive or zero."""

    number: float
    terms: tuple[Term, ...]

    def first(self, graph: fx.Graph, node: fx.Node) -> fx.Node | None:
        """Write the share of the number: ``number`` by the sum."""
        if len(self.terms) > 1:
            return self._among_all(graph, node, None) if self.number else None
        odds = self._log_odds(graph, node, self.terms[0], -1.0)
        return None if odds is None else call_like(graph, node, aten.sigmoid, odds)

    def place(self, value: Any) -> tuple[Term, float] | None:
        """The term that a value is a multiple of, and the factor; None if it is none of them."""
        for term in self.terms:
            ratio = _ratio(value, term.value)
            if ratio is not None:
                return term, ratio / term.scale
        return None

    def share(self, graph: fx.Graph, node: fx.Node, value: Any) -> fx.Node | None:
        """Write ``value`` by the sum if it is a multiple of one of the exponentials; else None."""
        found = self.place(value)
        if found is None:
            return None
        mine, factor = found
        if len(self.terms) + (self.number > 0) > 2:
            share = self._among_all(graph, node, mine)
        else:
            odds = self._log_odds(graph, node, mine, 1.0)
            share = None if odds is None else call_like(graph, node, aten.sigmoid, odds)
        return None if share is None else scaled_by(graph, node, share, factor)

    def difference(self, graph: fx.Graph, node: fx.Node, over: Sum) -> fx.Node | None:
        """Write ``(p - q) / (p + q)`` as ``tanh(log(p / q) / 2)``; None for any other value.

        So is ``(exp(z) - exp(-z)) / (exp(z) + exp(-z))``, which is ``tanh(z)``.
        """
        places = [self.place(term.value) for term in over.terms]
        found = [place for place in places if place is not None]
        if len(found) < len(over.terms) or not found or len(self.terms) + (self.number > 0) != 2:
            return None
        scales = [term.scale * factor for term, (_, factor) in zip(over.terms, found, strict=True)]
        if over.number:
            scales.append(over.number / self.number if self.number else math.nan)
        is_pair = len(scales) == 2 and (over.number or found[0][0] is not found[1][0])
        if not is_pair or not are_equal(scales[0], -scales[1]):
            return None
        odds = self._log_odds(graph, node, found[0][0], math.copysign(0.5, scales[0]))
        if odds is None:
            return None
        return scaled_by(graph, node, call_like(graph, node, aten.tanh, odds), abs(scales[0]))

    def _log_odds(
        self, graph: fx.Graph, node: fx.Node, mine: Term, factor: float
    ) -> fx.Node | None:
        """``factor · log(p / q)`` for one of two terms and the other one; None if they are equal."""
        other = next((term for term in self.terms if term is not mine), None)
        own = _exponent(graph, mine.value)
        z = own if other is None else _difference(graph, node, own, _exponent(graph, other.value))
        if z is None:
            return None
        rest = self.number if other is None else other.scale
        return _shifted(graph, node, z, math.log(mine.scale / rest), factor)

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
        stack = call_like(graph, node, aten.stack, values, -1)
        softmax = call_like(graph, node, aten.softmax, stack, -1)
        return call_like(graph, node, aten.select, softmax, -1, places.index(mine))


def opened(graph: fx.Graph, node: fx.Node, value: Any) -> Sum:
    """A value as a flat sum, in which ``cosh``, ``expm1`` and sums of stacks are exponentials.

    Terms that were expanded are the values before.
    """
    if not isinstance(value, fx.Node):
        return Sum((), 0.0)
    whole = sum_of(value)
    number, terms = whole.number, list[Term]()
    for term in whole.terms:
        inner = unexpanded(graph, term.value)
        if inner is not term.value and not _is_exponential(inner):  # ``expand(1 + exp(z))``
            of_inner = opened(graph, node, inner)
        else:
            of_inner = _in_exponentials(graph, node, inner)
        number += term.scale * of_inner.number
        terms += [term.times(each.scale, each.value) for each in of_inner.terms]
    return Sum(tuple(terms), number)


def unexpanded(graph: fx.Graph, value: Any) -> Any:
    """A value before it was expanded, if its shape is known, so that it can be expanded again."""
    inner = before_expansion(value)
    if inner is value or shapes_of(graph.owning_module).shape_of(value) is None:
        return value
    return inner


def _in_exponentials(graph: fx.Graph, node: fx.Node, value: fx.Node) -> Sum:
    """One value as a sum of exponentials, if it is such a sum in other words."""

    def exp(z: Any, scale: float = 1.0) -> fx.Node:
        return call_like(graph, node, aten.exp, scaled_by(graph, node, z, scale))

    if is_call(value, "expm1"):
        return Sum((Term(1.0, exp(operand(value))),), -1.0)
    if is_call(value, "sinh", "cosh"):
        sign = -0.5 if is_call(value, "sinh") else 0.5
        z = operand(value)
        return Sum((Term(0.5, exp(z)), Term(sign, exp(z, -1.0))), 0.0)
    pair: tuple[Any, ...] = value.args[:2] if is_call(value, "mul", "div") else ()
    if pair and not value.kwargs and is_call(pair[0], "exp") and is_call(pair[1], "exp"):
        packet = aten.add if is_call(value, "mul") else aten.sub
        whole = call_like(graph, node, packet, operand(pair[0]), operand(pair[1]))
        return Sum((Term(1.0, exp(whole)),), 0.0)
    listed = _stacked_exponents(value)
    if not listed:
        return Sum((Term(1.0, value),), 0.0)
    numbers = [number for z in listed if (number := literal(z)) is not None]
    terms = tuple(Term(1.0, exp(z)) for z in listed if literal(z) is None)
    return Sum(terms, math.fsum(map(math.exp, numbers)))


def _stacked_exponents(value: fx.Node) -> list[fx.Node] | None:
    """The values of a short stack whose exponentials are added up; None for any other value."""
    summed: Any = arguments(value)["self"] if is_call(value, "sum") else None
    return stacked(value, operand(summed)) if is_call(summed, "exp") else None


def exponentials_of(graph: fx.Graph, node: fx.Node, value: Any) -> Exponentials | None:
    """``number + Σ scale · exp(z)`` for positive numbers; None for any other value."""
    whole = opened(graph, node, value)
    number = 0.0 if len(whole.terms) > 1 and 0 <= whole.number <= SAFETY else whole.number
    are_positive = all(t.scale > 0 and _is_exponential(t.value) for t in whole.terms)
    if number < 0 or not are_positive or len(whole.terms) + (number > 0) < 2:
        return None
    return Exponentials(number, whole.terms)


def has_exponential(value: Any, depth: int = MAX_STEPS) -> bool:
    """Whether a value is an exponential, or a short sum or product with one and no other reader."""
    if _is_exponential(value) or is_call(value, "expm1", "sinh", "cosh"):
        return True
    if not depth or not isinstance(value, fx.Node) or len(value.users) != 1:
        return False
    if not is_call(value, "mul", "expand", "expand_as", *ADDITIONS):
        return False
    return any(has_exponential(each, depth - 1) for each in value.all_input_nodes)


def _ratio(first: Any, second: fx.Node) -> float | None:
    """The number ``exp(z) / exp(w)`` if ``z`` and ``w`` differ by a number; else None."""
    if is_same(first, second):
        return 1.0
    if not (is_call(first, "exp") and is_call(second, "exp")):
        return None
    rest = _less(_flat(operand(first)), _flat(operand(second)))
    return None if rest.terms else math.exp(rest.number)


def _flat(value: fx.Node) -> Sum:
    """A value as a flat sum; numbers around it are read also where others read the value too."""
    scale, shift, inner = unwound(value)
    whole = sum_of(inner)
    terms = tuple(term.times(scale, term.value) for term in whole.terms)
    return Sum(terms, shift + scale * whole.number)


def _less(first: Sum, second: Sum) -> Sum:
    """A difference of sums without terms that cancel."""
    terms = list[Term]()
    for term in (*first.terms, *(each.times(-1.0, each.value) for each in second.terms)):
        place = next((k for k, t in enumerate(terms) if is_same(t.value, term.value)), None)
        if place is None:
            terms.append(term)
        else:
            terms[place] = Term(terms[place].scale + term.scale, term.value)
    kept = tuple(term for term in terms if not are_equal(term.scale + 1, 1))
    return Sum(kept, first.number - second.number)


def _is_exponential(value: Any) -> bool:
    """Whether a value is ``exp(z)``, possibly with its entries arranged in another way, or a part."""
    while is_call(value, "getitem") or (row_of(value).arranges and len(value.all_input_nodes) == 1):
        value = value.args[0]
    return is_call(value, "exp")


def _exponent(graph: fx.Graph, value: fx.Node) -> fx.Node:
    """``z`` of ``exp(z)``, arranged as the exponentials are."""
    if is_call(value, "exp"):
        return operand(value)
    return moved_like(graph, value, _exponent(graph, operand(value)))


def _shifted(graph: fx.Graph, node: fx.Node, z: fx.Node, shift: float, factor: float) -> fx.Node:
    """``factor · (z + shift)``; ``-z`` may be in the graph already."""
    if not shift and factor == 1:
        return z
    scale, own, inner = unwound(z)
    z = scaled_by(graph, node, inner, factor * scale)
    number = factor * (own + shift)
    return call_like(graph, node, aten.add, z, number) if number else z


def _difference(graph: fx.Graph, node: fx.Node, a: fx.Node, b: fx.Node) -> fx.Node | None:
    """``a - b``, without terms that both have; None if they differ by a number only."""
    own, other = _flat(a), _flat(b)
    rest = _less(own, other)
    if not rest.terms:
        return None
    if len(rest.terms) == len(own.terms) + len(other.terms):
        return call_like(graph, node, aten.sub, a, b)
    (first, *others), number = rest.terms, rest.number
    value = scaled_by(graph, node, first.value, first.scale)
    for term in others:
        packet = aten.add if term.scale > 0 else aten.sub
        more = scaled_by(graph, node, term.value, abs(term.scale))
        value = call_like(graph, node, packet, value, more)
    return call_like(graph, node, aten.add, value, number) if number else value
