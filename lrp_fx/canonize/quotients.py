"""Quotients by sums of exponentials: sigmoids, softmaxes and ``tanh`` that are written out.

What is summed up before it is divided is divided term by term: ``(exp(z) y + x) / (1 + exp(z))``
becomes ``sigmoid(z) y + sigmoid(-z) x``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from torch import fx

from lrp_fx.canonize.exponentials import (
    Exponentials,
    exponentials_of,
    has_exponential,
    opened,
    unexpanded,
)
from lrp_fx.canonize.numbers import scaled_by, unwound
from lrp_fx.canonize.softmaxes import softmax_ratio, without_safety
from lrp_fx.canonize.sums import Term, sum_of
from lrp_fx.graph import (
    ADDITIONS,
    ancestors,
    aten,
    before_expansion,
    call_like,
    call_with_operand,
    in_order,
    is_call,
    literal,
    operand,
    shapes_of,
)


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
    divisor = _Divisor(graph, node, under, exponentials_of(graph, node, under))
    found = divisor.under(unexpanded(graph, over))
    return None if found is None else _as_large(graph, node, found)


def _as_large(graph: fx.Graph, node: fx.Node, found: fx.Node) -> fx.Node | None:
    """What was computed of values before their expansion, expanded to the shape of a node."""
    shapes = shapes_of(graph.owning_module)
    whole = shapes.shape_of(node)
    if shapes.shape_of(found) == whole:
        return found
    for each in reversed(in_order(graph, ancestors(node))):
        if is_call(each, "expand", "expand_as") and shapes.shape_of(each) == whole:
            expanded = _expanded_like(graph, each, found)
            if shapes.shape_of(expanded) == whole:
                return expanded
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
    if not any(has_exponential(term.value) for term in sum_of(over).terms):
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
        graph, node, total = self.graph, self.node, self.total
        if total is None:
            return self._of_term(over) or self._of_parts(over)
        whole = opened(graph, node, over)
        difference = total.difference(graph, node, whole)
        if difference is not None:
            return difference
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
        return self._added(parts, scales)

    def _of_parts(self, over: Any) -> fx.Node | None:
        """A sum of products with parts of exponentials by the sum of them all."""
        if not is_call(over, *ADDITIONS) or not is_call(without_safety(self.value), "sum"):
            return None
        whole = sum_of(over)
        shares = [self._of_term(term.value) for term in whole.terms]
        if whole.number or None in shares:
            return None
        scales = [term.scale for term in whole.terms]
        return self._added(shares, scales)

    def _added(self, shares: Sequence[fx.Node | None], scales: Sequence[float]) -> fx.Node:
        scaled = [
            scaled_by(self.graph, self.node, *each) for each in zip(shares, scales, strict=True)
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
        """A product with exponentials of the divisor by the divisor; None for any other value."""
        share = self._share(value)
        if share is not None or not is_call(value, "mul"):
            return share
        for factor, rest in itertools.permutations(value.args[:2]):
            if has_exponential(factor):
                share = self.under(factor, needs_share=True)
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
