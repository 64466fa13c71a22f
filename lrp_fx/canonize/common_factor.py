"""A value that is added to its own products: ``y + y g`` as ``y (1 + g)``.

Residual gates and modulations are written in both ways. What multiplies ``y`` is one factor, of which the
number is a part, as it is of a layer that yields this factor at once. A gate stays by itself: ``1 + g``
never closes, and is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce

from torch import fx

from lrp_fx.analysis import dynamic_values
from lrp_fx.aten import arguments, aten, name_of, packet_of
from lrp_fx.canonize.graphs import call_like, depends_on_inputs, replace_by
from lrp_fx.literals import affine, is_same, literal
from lrp_fx.relevance.saturation import ANYTHING, Range, ranges

_SUMS = ("add", "sub", "rsub")


@dataclass(frozen=True)
class _Term:
    """``scale · value`` in a sum."""

    scale: float
    value: fx.Node


def collect_factors(graph: fx.Graph) -> None:
    """Rewrite each sum in which a value stands beside its products, in place."""

    @cache
    def found() -> dict[fx.Node, Range]:
        inputs = (node for node in graph.nodes if node.op == "placeholder")
        return ranges(graph.nodes, dynamic_values(graph, inputs).__contains__)

    def is_gate(value: fx.Node) -> bool:
        return found().get(value, ANYTHING).is_gate

    for node in list(graph.nodes):
        if _is_sum(node) and not (len(node.users) == 1 and _is_sum(next(iter(node.users)))):
            terms = _terms(node)
            if terms is not None and any(name_of(term.value) == "mul" for term in terms):
                _collect(graph, node, terms, is_gate)


def _is_sum(node: fx.Node) -> bool:
    return packet_of(node.target) is not None and name_of(node) in _SUMS


def _terms(root: fx.Node) -> list[_Term] | None:
    """The terms of a sum, whatever its bracketing; None where one of them is a number."""
    found: list[_Term] = []
    waiting = [_Term(1.0, root)]
    while waiting:
        term = waiting.pop()
        node = term.value
        inside = node is root or len(node.users) == 1
        form = affine(node) if inside and node.op == "call_function" else None
        if form is not None and form.shift == 0 and form.scale != 0:
            waiting.append(_Term(term.scale * form.scale, form.operand))
        elif inside and _is_sum(node):
            b = arguments(node)
            alpha = literal(b.get("alpha", 1))
            pair = b["self"], b["other"]
            if alpha is None or not all(isinstance(each, fx.Node) for each in pair):
                if node is root:
                    return None
                found.append(term)
                continue
            first, second = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[
                name_of(node)
            ]
            waiting.append(_Term(term.scale * second, pair[1]))
            waiting.append(_Term(term.scale * first, pair[0]))
        else:
            found.append(term)
    return found


def _factors(term: _Term) -> tuple[float, list[fx.Node]]:
    """The number and the factors of a product that nobody else reads."""
    scale, found, waiting = term.scale, list[fx.Node](), [term.value]
    while waiting:
        node = waiting.pop()
        is_product = name_of(node) == "mul" and packet_of(node.target) is not None
        if is_product and len(node.users) == 1:
            for each in (arguments(node)["other"], arguments(node)["self"]):
                number = literal(each)
                if number is not None:
                    scale *= number
                else:
                    waiting.append(each)
        else:
            found.append(node)
    return scale, found


def _collect(
    graph: fx.Graph, root: fx.Node, terms: list[_Term], is_gate: Callable[[fx.Node], bool]
) -> None:
    products = {term: _factors(term) for term in terms if name_of(term.value) == "mul"}
    rest = list(terms)
    with graph.inserting_before(root):
        for own in terms:
            if own not in rest or not depends_on_inputs(own.value):
                continue
            beside = {
                term: others
                for term in rest
                if term is not own
                and term in products
                and (others := _without(products[term][1], own.value))
                and not all(map(is_gate, others))
            }
            if not beside:
                continue
            factor: fx.Node | None = None
            for term, others in beside.items():
                product = reduce(lambda a, b: call_like(graph, root, aten.mul, a, b), others)
                scaled = _scaled(graph, root, products[term][0], product)
                factor = (
                    scaled if factor is None else call_like(graph, root, aten.add, factor, scaled)
                )
                rest.remove(term)
            one = call_like(graph, root, aten.add, factor, own.scale)
            value = call_like(graph, root, aten.mul, own.value, one)
            rest[rest.index(own)] = _Term(1.0, value)
        if len(rest) == len(terms):
            return
        parts = [_scaled(graph, root, term.scale, term.value) for term in rest]
        total = reduce(lambda a, b: call_like(graph, root, aten.add, a, b), parts)
    replace_by(root, total)


def _without(factors: list[fx.Node], value: fx.Node) -> list[fx.Node] | None:
    """What is left of the factors without one value; None where that is nothing, or holds it again."""
    left = [factor for factor in factors if not is_same(factor, value)]
    is_once = len(left) == len(factors) - 1
    return left if is_once and any(map(depends_on_inputs, left)) else None


def _scaled(graph: fx.Graph, origin: fx.Node, scale: float, value: fx.Node) -> fx.Node:
    return value if scale == 1 else call_like(graph, origin, aten.mul, value, scale)
