"""Factors out what several terms of a sum share: ``a i - m i`` becomes ``(a - m) i``.

This recovers normalizations that were expanded, and residual gates and modulations. In ``y + y g``,
``y`` is multiplied by the one factor ``1 + g``, as if a layer had returned that factor. A gate
``g`` is not factored in like this, because ``1 + g`` never closes and is not a gate. A blend by a gate
gets two factors: ``n + z (h - n)`` becomes ``(1 - z) n + z h``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, reduce
from typing import Any

from torch import fx

from lrp_fx.canonize.masks import is_mask
from lrp_fx.canonize.signs import complement_of, is_opposite, signed
from lrp_fx.canonize.sums import Sum, Term, is_whole, sum_of, write_sum
from lrp_fx.graph import (
    affine,
    arguments,
    aten,
    call_like,
    equal_calls,
    is_call,
    literal,
    name_of,
    replace_by,
)
from lrp_fx.meaning import ANYTHING, Dependence, Range, dynamic_values, ranges

_MAX_FACTORS = 12
"""Longer products are recurrences and stay as they are: every step would be written again."""


@dataclass(frozen=True)
class _Factor:
    """A value, or its reciprocal. Equal calls count as one value."""

    value: fx.Node
    is_divisor: bool = False


@dataclass(frozen=True)
class _Product:
    """A term of a sum: a number times factors."""

    scale: float
    factors: tuple[_Factor, ...]

    def without(self, common: Iterable[_Factor]) -> _Product:
        """The product without each of these factors, each removed once."""
        left = list(self.factors)
        for each in common:
            left.remove(each)
        return _Product(self.scale, tuple(left))


def collect_factors(graph: fx.Graph) -> None:
    """Factor each sum of the graph whose terms share factors, in place."""
    nodes = [node for node in graph.nodes if is_whole(node)]
    if nodes:
        collector = _Collector(graph)
        for node in nodes:
            collector.collect(node)


class _Collector:
    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.first = equal_calls(graph)
        inputs = (node for node in graph.nodes if node.op == "placeholder")
        self.dynamic = dynamic_values(graph, inputs)

        self.dependence: Callable[[], Dependence] = cache(
            lambda: Dependence(graph, self.dynamic.__contains__)
        )

        @cache
        def found() -> dict[fx.Node, Range]:
            return ranges(graph.nodes, self.dynamic.__contains__)

        self.closings = set[fx.Node]()
        """The gates ``1 - z`` that were written."""
        self.is_gate: Callable[[fx.Node], bool] = lambda v: (
            v in self.closings or found().get(v, ANYTHING).is_gate
        )

    def collect(self, root: fx.Node) -> None:
        """Rewrite the sum that ends in ``root``, if its terms share factors."""
        whole = sum_of(root)
        products = [self._product(term) for term in whole.terms]
        if not any(len(product.factors) > 1 for product in products):
            return
        with self.graph.inserting_before(root):
            blended = self._closed(root, self._blended(root, products))
            collected = self._before_brackets(root, _merged(blended))
            if collected == products:
                return
            terms = tuple(Term(each.scale, self._written(root, each)) for each in collected)
            total = write_sum(self.graph, root, Sum(terms, whole.number))
        replace_by(root, total)

    def _product(self, term: Term) -> _Product:
        """The number and the factors of a term, through products that nothing else reads."""
        scale, found, waiting = term.scale, list[_Factor](), [_Factor(term.value)]
        while waiting:
            factor = waiting.pop()
            node = factor.value
            form = affine(node)
            if form is not None and form.shift == 0 and form.scale != 0:
                scale = scale / form.scale if factor.is_divisor else scale * form.scale
                waiting.append(_Factor(form.operand, factor.is_divisor))
                continue
            power = _power(node)
            if power is not None:
                base, exponent = power
                waiting += [_Factor(base, factor.is_divisor)] * exponent
                continue
            b: dict[str, Any] = arguments(node) if is_call(node, "mul", "div") else {}
            if not b or b.get("rounding_mode") is not None:
                found.append(self._factor(node, factor.is_divisor))
                continue
            first, second = b["self"], b["other"]
            for each, other, divides in (
                (second, first, name_of(node) == "div"),
                (first, second, False),
            ):
                divides = divides != factor.is_divisor
                if self._is_normed(each, other):  # the statistic belongs to the whole value
                    found.append(self._factor(each, divides))
                    continue
                number = literal(each)
                if number is None:
                    waiting.append(_Factor(each, divides))
                elif number == 0:
                    return _Product(term.scale, (_Factor(term.value),))
                else:
                    scale = scale / number if divides else scale * number
            if len(found) + len(waiting) > _MAX_FACTORS:
                return _Product(term.scale, (_Factor(term.value),))
        return _Product(scale, tuple(found))

    def _blended(self, root: fx.Node, products: list[_Product]) -> list[_Product]:
        """Write ``n + z (h - n)`` as ``(1 - z) n + z h`` for a gate or a mask ``z``."""
        rest = list(products)
        for product in products:
            gates = tuple(f for f in product.factors if self._selects(f.value))
            others = [f for f in product.factors if f not in gates]
            if not gates or len(others) != 1 or others[0].is_divisor:
                continue
            inside = sum_of(others[0].value)
            for own in rest:
                met = [met for t in inside.terms if (met := self._as_in(own, t)) is not None]
                if len(inside.terms) < 2 or len(met) != 1 or inside.number != 0:
                    continue
                scale = product.scale * met[0].scale
                if own.scale + scale != 0:
                    continue
                gate = self._written(root, _Product(1.0, gates))
                closing = complement_of(self.graph, root, gate) if own.scale == 1 else None
                if closing is None:
                    closing = write_sum(self.graph, root, Sum((Term(scale, gate),), own.scale))
                left = tuple(t for t in inside.terms if self._as_in(own, t) is None)
                sign = -1.0 if all(term.scale < 0 for term in left) else 1.0
                left = tuple(replace(term, scale=sign * term.scale) for term in left)
                kept = write_sum(self.graph, root, Sum(left, 0.0))
                if any(each.value in self.dynamic for each in gates):
                    self.dynamic.add(closing)
                    self.closings.add(closing)
                rest[rest.index(own)] = _Product(1.0, (*own.factors, _Factor(closing)))
                scale = sign * product.scale
                other = signed(root, self.graph, scale, kept)
                kept, scale = (kept, scale) if other is None else (other, 1.0)
                rest[rest.index(product)] = _Product(scale, (*gates, _Factor(kept)))
                break
        return rest

    def _selects(self, value: fx.Node) -> bool:
        """Whether a value is a gate, a mask, or a sigmoid of constants."""
        is_sigmoid = is_call(value, "sigmoid", "hardsigmoid")
        return self.is_gate(value) or is_mask(value) or is_sigmoid

    def _as_in(self, own: _Product, term: Term) -> Term | None:
        """A multiple of ``own`` as the number times its factors, also of its negative; else None."""
        inner = self._product(term)
        if Counter(inner.factors) == Counter(own.factors):
            return replace(term, scale=inner.scale)
        if len(own.factors) != 1 or own.factors[0].is_divisor:
            return None
        is_negative = is_opposite(term.value, own.factors[0].value)
        return replace(term, scale=-term.scale) if is_negative else None

    def _closed(self, root: fx.Node, products: list[_Product]) -> list[_Product]:
        """Write ``k - k z`` as ``k (1 - z)`` for a gate ``z`` and a constant ``k``."""
        rest = list(products)
        constant = [p for p in products if not any(f.value in self.dynamic for f in p.factors)]
        for product in products if constant else ():
            gates = tuple(f for f in product.factors if self.is_gate(f.value))
            others = Counter(f for f in product.factors if f not in gates)
            if not gates:
                continue
            for own in constant:
                if own.scale + product.scale != 0 or Counter(own.factors) != others:
                    continue
                if own not in rest:  # already used for another gate
                    continue
                gate = self._written(root, _Product(1.0, gates))
                closing = complement_of(self.graph, root, gate)
                if closing is None:
                    closing = write_sum(self.graph, root, Sum((Term(-1.0, gate),), 1.0))
                self.dynamic.add(closing)
                self.closings.add(closing)
                closed = _Product(own.scale, (*own.factors, _Factor(closing)))
                rest[rest.index(product)] = closed
                rest.remove(own)
                break
        return rest

    def _factor(self, value: fx.Node, is_divisor: bool = False) -> _Factor:
        return _Factor(self.first.get(value, value), is_divisor)

    def _before_brackets(self, root: fx.Node, products: list[_Product]) -> list[_Product]:
        """Factor shared values out: ``y + y g`` as ``y (1 + g)``.

        Gates are factored out only where one of them multiplies a constant: ``g k + g y`` is
        ``g (k + y)``, in which ``g`` is no signal. In ``y + g k - g y`` it stays: this is a blend.
        """
        rest = list(products)
        counts = Counter(f for product in products for f in dict.fromkeys(product.factors))
        for factor, _ in counts.most_common():
            if factor.value not in self.dynamic:
                continue
            sharing = [
                each
                for each in rest
                if factor in each.factors and self._may_be_inside(each.without([factor]))
            ]
            common = _shared(sharing)
            left = [each.without(common) for each in sharing]
            if not all(map(self._may_be_inside, left)):
                common, left = (factor,), [each.without([factor]) for each in sharing]
            if not any(map(self._is_signal, left)) or self._takes_norm_apart(common, left):
                continue
            alone = [Counter(each.factors) for each in rest]
            is_blend = any(Counter(each.factors) in alone for each in left)
            if self.is_gate(factor.value) and (is_blend or all(map(self._moves, left))):
                continue
            bracket = self._bracket(root, left)
            place = rest.index(sharing[0])
            rest = [each for each in rest if each not in sharing]
            rest.insert(place, _Product(1.0, (_Factor(bracket), *common)))
        return rest

    def _is_normed(self, value: Any, other: Any) -> bool:
        """Whether the second operand of a product is a statistic of the first."""
        if not isinstance(other, fx.Node):
            return False
        return self._is_statistic(_Factor(other), _Factor(value))

    def _takes_norm_apart(self, common: Iterable[_Factor], left: Iterable[_Product]) -> bool:
        """Whether factoring would separate a value from its statistic.

        This is so if one of them stands before the bracket and the other inside. Only a mean that a
        norm subtracts may be inside, together with the value: ``(a - m) i``.
        """
        for product in left:
            moving = [f for f in product.factors if f.value in self.dynamic]
            for inside in moving:
                for outside in common:
                    if self._is_statistic(inside, outside):
                        return True
                    if len(moving) > 1 and self._is_statistic(outside, inside):
                        return True
        return False

    def _is_statistic(self, factor: _Factor, other: _Factor) -> bool:
        """Whether ``factor`` is a statistic of ``other``."""
        dependence, value, source = self.dependence(), factor.value, other.value
        return (
            dependence.knows(value)
            and dependence.knows(source)
            and dependence.reduces(value, source)
        )

    def _may_be_inside(self, product: _Product) -> bool:
        """Whether a product may stand inside a bracket: it is a constant or a signal."""
        is_constant = not any(f.value in self.dynamic for f in product.factors)
        return is_constant or self._is_signal(product)

    def _moves(self, product: _Product) -> bool:
        """Whether a product depends on the inputs, not only through its divisors."""
        return any(f.value in self.dynamic and not f.is_divisor for f in product.factors)

    def _is_signal(self, product: _Product) -> bool:
        """Whether a product depends on the inputs, not only through gates."""
        return self._moves(product) and not all(self.is_gate(f.value) for f in product.factors)

    def _bracket(self, root: fx.Node, products: list[_Product]) -> fx.Node:
        """The sum of some products; of a product without factors the number remains."""
        terms = tuple(Term(p.scale, self._written(root, p)) for p in products if p.factors)
        number = math.fsum(p.scale for p in products if not p.factors)
        bracket = write_sum(self.graph, root, Sum(terms, number))
        self.dynamic.add(bracket)
        return bracket

    def _written(self, root: fx.Node, product: _Product) -> fx.Node:
        """The nodes of the product of the factors, without the number."""
        over = [f.value for f in product.factors if not f.is_divisor]
        under = [f.value for f in product.factors if f.is_divisor]
        if not over:
            over = [call_like(self.graph, root, aten.reciprocal, under.pop(0))]
        value = reduce(lambda a, b: call_like(self.graph, root, aten.mul, a, b), over)
        return reduce(lambda a, b: call_like(self.graph, root, aten.div, a, b), under, value)


def _power(node: fx.Node) -> tuple[fx.Node, int] | None:
    """The base and the exponent of a square, cube or fourth power; else None."""
    if not is_call(node, "square", "pow"):
        return None
    b = arguments(node)
    exponent = 2.0 if is_call(node, "square") else literal(b["exponent"])
    base: object = b["self"]
    if exponent not in (2.0, 3.0, 4.0) or not isinstance(base, fx.Node):
        return None
    return base, int(exponent)


def _merged(products: list[_Product]) -> list[_Product]:
    """Merge products of the same factors, and drop those that cancel."""
    scales: dict[frozenset[tuple[_Factor, int]], float] = {}
    first: dict[frozenset[tuple[_Factor, int]], _Product] = {}
    for each in products:
        key = frozenset(Counter(each.factors).items())
        scales[key] = scales.get(key, 0.0) + each.scale
        first.setdefault(key, each)
    found = [replace(first[key], scale=scale) for key, scale in scales.items() if scale != 0]
    return found or products


def _shared(products: list[_Product]) -> tuple[_Factor, ...]:
    """The factors that all products share, each as often as in all of them."""
    counts = [Counter(each.factors) for each in products]
    common = reduce(lambda a, b: a & b, counts) if counts else Counter[_Factor]()
    return tuple(common.elements())
