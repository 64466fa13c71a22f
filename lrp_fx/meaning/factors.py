"""Nested products of several activations, read as one product of n factors.

A graph holds products of two operands. A product that only one other product reads belongs to that
product, also through rearrangements, casts, powers and constant factors: ``(x1 x2) x3`` and
``x1 (x2 x3)`` have the same three factors. Statistics of another factor, gates, and scalar
functions of another factor get no relevance. The remaining n factors are the *signals*; each gets
1/n. A product of two operands gives each operand as many nths as there are signals below it.

A gate as an operand of a matrix product gets nothing either. Attention weights are signals wherever
they are used to sum up values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from lrp_fx.graph import ACTIVATIONS, NUMERIC, arguments, literal, name_of, packet_of
from lrp_fx.meaning.attention import is_summed, scores_two, whole_of
from lrp_fx.meaning.dependence import SPLITS, Dependence
from lrp_fx.meaning.shares import is_weighted_sum, is_weighted_sum_of
from lrp_fx.meaning.value_ranges import ANYTHING, ranges
from lrp_fx.relevance import ROUTING, Counts, operation_of

Dynamic = Callable[[Any], bool]


@dataclass(frozen=True)
class _Power:
    """An operand of a product, seen through rearrangements, casts, constant factors and powers.

    ``value`` is the operand itself; it is a rearranged and scaled ``base`` to the power
    ``exponent``. ``alone`` says that nothing else reads the base or any node between base and
    operand.
    """

    base: fx.Node
    exponent: int
    alone: bool
    value: fx.Node


@dataclass(frozen=True)
class _Leaf:
    """A factor of a maximal product, to a power; ``way`` is the product and side that hold it."""

    node: fx.Node
    exponent: int
    way: tuple[fx.Node, int]
    value: fx.Node


def count_factors(graph: fx.Graph, dynamic: Dynamic) -> dict[fx.Node, Counts]:
    """For each product, quotient or matrix product of two activations, the factors of its operands.

    Args:
        graph: a canonical graph.
        dynamic: whether a value depends on the explained inputs; all others are constants.
    """
    products = [
        node for node in graph.nodes if _is_product(node, dynamic) or is_contraction(node, dynamic)
    ]
    if not products:
        return {}
    return _Counter(graph, dynamic, products).counts


def is_contraction(node: fx.Node, dynamic: Dynamic) -> bool:
    """Whether a node is a matrix product of two activations."""
    operation = operation_of(node)
    if operation is None or operation.kind != "bilinear":
        return False
    return len([o for o in operation.operands(node) if dynamic(o)]) == 2


def _is_product(node: fx.Node, dynamic: Dynamic) -> bool:
    if packet_of(node.target) is None or name_of(node) not in ("mul", "div"):
        return False  # products of sizes are not products of tensors
    bound = arguments(node)
    return dynamic(bound["self"]) and dynamic(bound["other"])


class _Counter:
    def __init__(self, graph: fx.Graph, dynamic: Dynamic, products: list[fx.Node]) -> None:
        self.dynamic = dynamic
        self.ranges = ranges(graph.nodes, dynamic)
        self.dependence = Dependence(graph, dynamic)
        self.operands = {
            product: self._operands(product)
            for product in products
            if not is_contraction(product, dynamic)
        }
        self.inner = {
            power.base
            for powers in self.operands.values()
            for power in powers
            if power.alone and power.base in self.operands
        }
        self.counts: dict[fx.Node, Counts] = {}
        self.totals: dict[fx.Node, Counts] = {}
        self.of_two: dict[fx.Node, bool] = {}
        """For each product, whether two of its factors are activations that are not gates."""
        self.attends: dict[fx.Node, bool] = {}
        for product in products:  # in graph order: a factor that is a product is counted first
            if product not in self.operands:
                self._count_contraction(product)
            elif product not in self.inner:
                self._count(product)

    def _operands(self, product: fx.Node) -> tuple[_Power, _Power]:
        bound = arguments(product)
        first, second = bound["self"], bound["other"]
        sign = -1 if name_of(product) == "div" else 1
        squared = first is second
        return self._behind(first, 1, not squared), self._behind(second, sign, not squared)

    def _behind(self, node: fx.Node, exponent: int, alone: bool) -> _Power:
        """Look through rearrangements, casts, constant factors and integer powers."""
        value = node
        while True:
            alone = alone and self.dependence.is_read_once(node)
            if self._is_gate(node, 1):  # a gate is one factor, however it is computed
                return _Power(node, exponent, False, value)
            below = self._step(node)
            if below is None:
                return _Power(node, exponent, alone, value)
            node, power = below
            exponent *= power

    def _step(self, node: fx.Node) -> tuple[fx.Node, int] | None:
        name = name_of(node)
        if node.op != "call_function" or node in getattr(self, "operands", ()):
            return None
        if name == "getitem":
            source = node.all_input_nodes[0]
            return (source, 1) if name_of(source) in SPLITS else None
        if name in ROUTING or name in SPLITS or name == "neg":
            source = node.all_input_nodes[0]
            return (source, 1) if self.dynamic(source) else None
        if name not in ("square", "pow", "reciprocal", "mul", "div"):
            return None
        bound = arguments(node)
        first = bound["self"]
        if name in ("mul", "div"):
            second = bound["other"]
            if self.dynamic(first) and self.dynamic(second):
                return None
            return (first, 1) if self.dynamic(first) else (second, 1 if name == "mul" else -1)
        power = {"square": 2.0, "reciprocal": -1.0}.get(name) or literal(bound["exponent"])
        if power is None or power == 0 or power != int(power) or not self.dynamic(first):
            return None
        return first, int(power)

    def _count(self, root: fx.Node) -> None:
        """Count the factors below each operand of all products that ``root`` consists of."""
        tree, leaves = self._tree(root)
        values = self._signals(leaves)
        weights = self._weights(root, leaves)
        self.of_two[root] = self._is_of_two(leaves, values)
        found = {node: ([0, 0], [0, 0], [0, 0]) for node, _ in tree}
        for leaf, is_value, is_weight in zip(leaves, values, weights, strict=True):
            node, side = leaf.way
            whole = self.totals.get(leaf.node)
            each = (
                (1, 1, 1)
                if whole is None
                else tuple(map(sum, (whole.signals, whole.factors, whole.values)))
            )
            takes = (is_value or is_weight, True, is_value)
            for kind in range(3):
                found[node][kind][side] += abs(leaf.exponent) * each[kind] * takes[kind]
        for node, way in reversed(tree):
            if way is not None:  # factors of a product are factors of the product that reads it
                for kind in range(3):
                    found[way[0]][kind][way[1]] += sum(found[node][kind])
            signals, factors, of_values = (tuple(counts) for counts in found[node])
            # without signals, used only where a rule also gives relevance to other factors
            signals = signals if any(signals) else factors
            self.counts[node] = Counts(signals, factors, of_values if any(of_values) else signals)
        self.totals[root] = self.counts[root]

    def _count_contraction(self, node: fx.Node) -> None:
        """Count the operands of a matrix product. Of a gate and a value, only the value counts."""
        operation = operation_of(node)
        assert operation is not None
        operands = [self._behind(operand, 1, False) for operand in operation.operands(node)]
        gates = [self._is_gate(operand.base, operand.exponent) for operand in operands]
        self.of_two[node] = not any(gates)
        values, signals = [not gate for gate in gates], [True, True]
        if not any(values):
            values = signals
        elif not all(values):
            (weights,) = (o.base for o, gate in zip(operands, gates, strict=True) if gate)
            signals = signals if self._attends(weights) else values
        self.counts[node] = Counts(tuple(map(int, signals)), (1, 1), tuple(map(int, values)))

    def _weights(self, root: fx.Node, leaves: list[_Leaf]) -> list[bool]:
        """Which factors are attention weights, that is, are used to sum up values.

        In ``u · g(u)`` the gate is a scalar function of the value beside it. The product is then an
        activation function that is written out, and no attention.
        """
        gates = [self._is_gate(leaf.node, leaf.exponent) for leaf in leaves]
        if not any(gates) or all(gates):
            return [False for _ in leaves]
        parts = [leaf.node for leaf, gate in zip(leaves, gates, strict=True) if gate]
        wholes = {whole_of(part) for part in parts} - {None}

        def weighs(other: fx.Node) -> bool:
            """Whether another product multiplies by other parts of the same weights."""
            bases = [power.base for power in self.operands.get(other, ())]
            return any(whole_of(base) in wholes and base not in parts for base in bases)

        if not is_summed(root, self.dynamic, weighs):
            return [False for _ in leaves]
        others = {leaf.value for gate, leaf in zip(gates, leaves, strict=True) if not gate}
        return [
            gate
            and self._attends(leaf.node)
            and not any(self._follows(leaf.node, v) for v in others)
            for gate, leaf in zip(gates, leaves, strict=True)
        ]

    def _attends(self, gate: fx.Node) -> bool:
        """Whether a gate's argument is computed from a product of two activations.

        A switch only steps, as a mask, and so it passes nothing in any place.
        """
        if self.ranges.get(gate, ANYTHING).is_switch:
            return False
        if gate not in self.attends:
            self.attends[gate] = scores_two(
                gate, self.dynamic, self.counts, self.of_two, lambda node: self._is_gate(node, 1)
            )
        return self.attends[gate]

    def _is_of_two(self, leaves: list[_Leaf], signals: list[bool]) -> bool:
        """Whether two factors are different activations. The square of a value counts as one."""
        return (
            len(
                {
                    self.dependence.first(leaf.value)
                    for leaf, is_signal in zip(leaves, signals, strict=True)
                    if is_signal and not self._is_gate(leaf.node, leaf.exponent)
                }
            )
            > 1
        )

    def _tree(
        self, root: fx.Node
    ) -> tuple[list[tuple[fx.Node, tuple[fx.Node, int] | None]], list[_Leaf]]:
        """The products that form the maximal product, each before those below it, and its factors."""
        tree: list[tuple[fx.Node, tuple[fx.Node, int] | None]] = []
        leaves: list[_Leaf] = []
        waiting: list[tuple[fx.Node, int, tuple[fx.Node, int] | None]] = [(root, 1, None)]
        while waiting:
            node, exponent, way = waiting.pop()
            tree.append((node, way))
            for side, power in enumerate(self.operands[node]):
                total = exponent * power.exponent
                if power.base in self.inner:
                    waiting.append((power.base, total, (node, side)))
                else:
                    leaves.append(_Leaf(power.base, total, (node, side), power.value))
        return tree, leaves

    def _signals(self, leaves: list[_Leaf]) -> list[bool]:
        """Which factors get relevance. Factors computed by equal calls are one value."""
        values = [self.dependence.first(leaf.node) for leaf in leaves]
        distinct = list(dict.fromkeys(values))
        operands = {(value, leaf.value) for value, leaf in zip(values, leaves, strict=True)}
        made: dict[fx.Node, set[fx.Node]] = {}  # value → the factors that are computed from it
        for base, value in operands:
            for each in (value, *self._summed(base)):
                for source in self.dependence.sources(each):
                    made.setdefault(source, set()).add(base)
        statistics = {
            base
            for base, value in operands
            if any(
                of != {base} and self.dependence.reduces(value, each) for each, of in made.items()
            )
            or (
                is_weighted_sum(value)
                and any(is_weighted_sum_of(value, other) for _, other in operands)
            )
        }
        left = [node for node in distinct if node not in statistics]
        gates = {
            value
            for value, leaf in zip(values, leaves, strict=True)
            if self._is_gate(value, leaf.exponent)
        }
        left = [node for node in left if node not in gates] or left or distinct
        read: dict[fx.Node, set[fx.Node]] = {}  # factor → its rearranged forms
        for base, value in operands:
            read.setdefault(base, {base}).add(value)
        left = [
            node
            for node in left
            if not any(self._follows(node, v) for o in left if o is not node for v in read[o])
        ]
        return [value in left for value in values]

    def _summed(self, node: fx.Node) -> list[fx.Node]:
        """The factors of the products that a value sums up: for ``Σ u v`` these are u and v."""
        operation = operation_of(node)
        if operation is None:
            return []
        if node in self.operands:
            return self._shared(node)
        if operation.kind == "bilinear":
            return [operand for operand in operation.operands(node) if self.dynamic(operand)]
        if name_of(node) not in ("sum", "mean"):
            return []
        below = self._behind(node.all_input_nodes[0], 1, False).base
        return self._shared(below)

    def _shared(self, node: fx.Node) -> list[fx.Node]:
        """The factors of a product that others read as well, so that it counts as one factor here."""
        return [leaf.node for leaf in self._tree(node)[1]] if node in self.operands else []

    def _follows(self, node: fx.Node, other: fx.Node) -> bool:
        """Whether a factor is a scalar function of another one, ``u · g(u)``, and not vice versa.

        Such a product is an activation function that is written out, for example GELU by its tanh.
        The path through ``g`` would lose relevance to the constants in ``g``. Giving everything to
        ``u`` is the only choice that conserves relevance.
        """
        for each in (other, *self._shared(other)):
            if self.dependence.first(each) is node:
                continue
            behind = self.dependence.is_function(node, self._base(each))
            if self.dependence.is_function(node, each):
                return True
            if behind and not self.dependence.is_function(each, self._base(node)):
                return True
        return False

    def _base(self, node: fx.Node) -> fx.Node:
        """The value to which the relevance of a factor passes unchanged."""
        while node.op == "call_function" and name_of(node) in _PASSING:
            moving = [operand for operand in node.all_input_nodes if self.dynamic(operand)]
            if len(moving) != 1:
                break
            (node,) = moving
        return node

    def _is_gate(self, node: fx.Node, exponent: int) -> bool:
        found = self.ranges.get(node, ANYTHING)
        return (found if exponent > 0 else found.reciprocal()).is_gate or found.is_gate


_PASSING = frozenset([*ACTIVATIONS, *NUMERIC, "pow", "mul", "div"])
