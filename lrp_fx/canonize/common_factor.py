"""A factor that several terms of a sum share, before a bracket: ``a i - m i`` as ``(a - m) i``.

So are normalizations written that know their scale before, and residual gates and modulations: of
``y + y g``, ``y`` is multiplied by one factor, ``1 + g``, of which the number is a part, as it is of a
layer that yields this factor at once. A gate stays by itself: ``1 + g`` never closes, and is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, reduce

from torch import fx

from lrp_fx.analysis import dynamic_values
from lrp_fx.aten import arguments, aten, name_of, packet_of
from lrp_fx.canonize.graphs import call_like, replace_by
from lrp_fx.canonize.sums import Sum, Term, is_whole, sum_of, write_sum
from lrp_fx.literals import equal_calls, literal
from lrp_fx.relevance.saturation import ANYTHING, Range, ranges


@dataclass(frozen=True)
class _Factor:
    """A value, or its reciprocal; equal calls have one value."""

    value: fx.Node
    is_divisor: bool = False


@dataclass(frozen=True)
class _Product:
    """A term of a sum: a number times factors."""

    scale: float
    factors: tuple[_Factor, ...]

    def without(self, common: Iterable[_Factor]) -> _Product:
        """What is left where each of these is taken out once."""
        left = list(self.factors)
        for each in common:
            left.remove(each)
        return _Product(self.scale, tuple(left))


def collect_factors(graph: fx.Graph) -> None:
    """Rewrite each sum whose terms share factors, in place."""
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

        @cache
        def found() -> dict[fx.Node, Range]:
            return ranges(graph.nodes, self.dynamic.__contains__)

        self.is_gate: Callable[[fx.Node], bool] = lambda v: found().get(v, ANYTHING).is_gate

    def collect(self, root: fx.Node) -> None:
        """Rewrite one sum, if its terms share factors."""
        whole = sum_of(root)
        products = [self._product(term) for term in whole.terms]
        if not any(len(product.factors) > 1 for product in products):
            return
        with self.graph.inserting_before(root):
            collected = self._behind_brackets(root, self._beside_itself(root, products))
            if len(collected) == len(products):
                return
            terms = tuple(Term(each.scale, self._written(root, each)) for each in collected)
            total = write_sum(self.graph, root, Sum(terms, whole.number))
        replace_by(root, total)

    def _product(self, term: Term) -> _Product:
        """The number and the factors of a product that nobody else reads."""
        scale, found, waiting = term.scale, list[_Factor](), [_Factor(term.value)]
        while waiting:
            factor = waiting.pop()
            node = factor.value
            is_whole_product = len(node.users) > 1 or packet_of(node.target) is None
            if is_whole_product or name_of(node) not in ("mul", "div"):
                found.append(_Factor(self.first.get(node, node), factor.is_divisor))
                continue
            b = arguments(node)
            if b.get("rounding_mode") is not None:
                found.append(factor)
                continue
            for each, divides in ((b["other"], name_of(node) == "div"), (b["self"], False)):
                divides = divides != factor.is_divisor
                number = literal(each)
                if number is None:
                    waiting.append(_Factor(each, divides))
                elif number == 0 and divides:
                    return _Product(term.scale, (_Factor(term.value),))
                else:
                    scale = scale / number if divides else scale * number
        return _Product(scale, tuple(found))

    def _beside_itself(self, root: fx.Node, products: list[_Product]) -> list[_Product]:
        """``y + y g`` as ``y (1 + g)``."""
        rest = list(products)
        for own in products:
            if own not in rest or len(own.factors) != 1 or not self._moves(own):
                continue
            beside = [
                each
                for each in rest
                if each is not own
                and each.factors.count(own.factors[0]) == 1
                and self._is_signal(each.without(own.factors))
            ]
            if beside:
                left = [each.without(own.factors) for each in beside]
                bracket = self._bracket(root, left, own.scale)
                rest = [each for each in rest if each not in beside]
                rest[rest.index(own)] = _Product(1.0, (*own.factors, _Factor(bracket)))
        return rest

    def _behind_brackets(self, root: fx.Node, products: list[_Product]) -> list[_Product]:
        """``a i - m i`` as ``(a - m) i``; a gate weights each of its values by itself."""
        rest = list(products)
        for factor in dict.fromkeys(f for product in products for f in product.factors):
            if factor.value not in self.dynamic or self.is_gate(factor.value):
                continue
            sharing = [
                each
                for each in rest
                if factor in each.factors and self._is_signal(each.without([factor]))
            ]
            if len(sharing) < 2:
                continue
            others = dict.fromkeys(sharing[0].factors)
            common = [f for f in others if all(f in each.factors for each in sharing)]
            left = [each.without(common) for each in sharing]
            if not all(map(self._is_signal, left)):
                common, left = [factor], [each.without([factor]) for each in sharing]
            bracket = self._bracket(root, left, 0.0)
            place = rest.index(sharing[0])
            rest = [each for each in rest if each not in sharing]
            rest.insert(place, _Product(1.0, (_Factor(bracket), *common)))
        return rest

    def _moves(self, product: _Product) -> bool:
        """Whether a product depends on the inputs, by more than its divisors."""
        return any(f.value in self.dynamic and not f.is_divisor for f in product.factors)

    def _is_signal(self, product: _Product) -> bool:
        """Whether it depends on the inputs, and not by gates alone."""
        return self._moves(product) and not all(self.is_gate(f.value) for f in product.factors)

    def _bracket(self, root: fx.Node, products: list[_Product], number: float) -> fx.Node:
        """The sum of some products, and a number."""
        terms = tuple(Term(each.scale, self._written(root, each)) for each in products)
        bracket = write_sum(self.graph, root, Sum(terms, number))
        self.dynamic.add(bracket)
        return bracket

    def _written(self, root: fx.Node, product: _Product) -> fx.Node:
        """The product of the factors, without the number, as nodes; a lone factor is itself."""
        over = [f.value for f in product.factors if not f.is_divisor]
        value = reduce(lambda a, b: call_like(self.graph, root, aten.mul, a, b), over)
        for each in product.factors:
            if each.is_divisor:
                value = call_like(self.graph, root, aten.div, value, each.value)
        return value


__all__ = ["collect_factors"]
