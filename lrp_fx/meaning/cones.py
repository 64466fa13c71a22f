"""What a value is made of: scalar functions, re-arrangements and reductions of one other value.

A statistic is a reduction *of the other factor* of a product: the two are made of one value, by scalar
functions, re-arrangements and statistics of that value, and only the statistic reduces it. Weights mix
values, so nothing is made of another value through them; nor is one part of a value made of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import fx

from lrp_fx.graph import arguments, as_tuple, equal_calls, literal, name_of, names_where, packet_of
from lrp_fx.relevance import operation_of

REDUCTIONS = names_where(lambda row: row.reduction in ("dims", "running"))
WINDOWS = names_where(lambda row: row.reduction == "windows")
"""Reductions over windows, which leave the batch alone."""
_SEVERAL = names_where(lambda row: row.reduction and row.results)
"""Reductions that return several values: those are taken out as parts."""
SCALAR_FUNCTIONS = names_where(lambda row: row.entrywise and not row.says)
SPLITS = names_where(lambda row: row.results == "pieces") | {"topk"}
PARTS = SPLITS | names_where(lambda row: row.takes_part)
"""What takes a part of a value: another part is another value."""
_MOVES = names_where(lambda row: row.arranges or row.resizes) - PARTS | {"sort"}
_VIEWS = frozenset(
    ["reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "to", "_to_copy"]
)


class Cones:
    """The operations of a graph between a value and what is made of it.

    Args:
        graph: a canonical graph.
        dynamic: whether a value depends on the explained inputs; all others are constants.
    """

    def __init__(self, graph: fx.Graph, dynamic: Callable[[Any], bool]) -> None:
        self._dynamic = dynamic
        self._first = equal_calls(graph)
        self._place = {node: place for place, node in enumerate(graph.nodes)}
        self._made: dict[fx.Node, dict[fx.Node, bool | None]] = {}
        self._functions: dict[fx.Node, dict[fx.Node, bool | None]] = {}
        self._elements: dict[fx.Node, fx.Node] = {}
        self._operands: dict[fx.Node, list[fx.Node]] = {}
        self._readers: dict[fx.Node, set[fx.Node]] = {}
        for node in graph.nodes:
            readers = self._readers.setdefault(self._first[node], set())
            readers.update(self._first[reader] for reader in node.users)
        for node in graph.nodes:
            if dynamic(node) and self._first[node] is node:
                self._elements[node] = self._element(node)

    def is_function(self, value: fx.Node, other: fx.Node) -> bool:
        """Whether ``value`` is a scalar function of ``other`` alone."""
        return self._walk(value, other, self._functions, _is_function) is not None

    def knows(self, node: fx.Node) -> bool:
        """Whether the node was in the graph when the cones were made."""
        return node in self._first

    def first(self, node: fx.Node) -> fx.Node:
        """Of equal calls, which compute one value, the first."""
        return self._first[node]

    def is_read_once(self, node: fx.Node) -> bool:
        """Whether one node reads a value; calls that read equal values equally count as one."""
        return len(self._readers[self._first[node]]) == 1

    def sources(self, node: fx.Node) -> Iterator[fx.Node]:
        """The values that a node is made of, entry by entry: of a part also the whole."""
        source = self._elements[self._first[node]]
        yield source
        while _is_part(source):
            source = self._elements[self._first[source.all_input_nodes[0]]]
            yield source

    def _element(self, node: fx.Node) -> fx.Node:
        """The deepest value of which a node is made, entry by entry, beside statistics of it."""
        if not (_is_function(node) or _is_move(node)):
            return node
        found = list(dict.fromkeys(self._elements[n] for n in self._moving(node)))
        for source in found:
            if all(o is source or self.reduces(o, source) for o in found):
                return source
        return node

    def reduces(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether a value is a statistic of another: made of it alone, and reduced on each way."""
        return bool(self._walk(node, source, self._made, _is_made))

    def _walk(
        self,
        node: fx.Node,
        source: fx.Node,
        memory: dict[fx.Node, dict[fx.Node, bool | None]],
        known_operation: Callable[[fx.Node], bool],
    ) -> bool | None:
        """Whether each way from ``source`` to ``node`` reduces; None where other values come in."""
        source = self._first[source]
        found = memory.setdefault(source, {source: False})
        node = self._first[node]
        waiting = [node]
        while waiting:
            current = waiting[-1]
            if current in found:
                waiting.pop()
                continue
            window = self._window(current) if known_operation is _is_made else None
            operands = [] if window is None else [window]
            if window is None and known_operation(current):
                operands = self._moving(current)
            is_before = any(self._place[o] < self._place[source] for o in operands)
            if not operands or is_before or any(found.get(o, True) is None for o in operands):
                found[current] = None
            elif missing := [o for o in operands if o not in found]:
                waiting.append(missing[0])
                continue
            else:
                reduces = window is not None or _reduces(current)
                found[current] = reduces or all(found[o] for o in operands)
            waiting.pop()
        return found[node]

    def _window(self, node: fx.Node) -> fx.Node | None:
        """The padded value of which a node sums shifted slices: a window, without an operation.

        The slice that is not shifted may be the value before it was padded.
        """
        if name_of(node) not in ("add", "sum", "mean"):
            return None
        slices, others, waiting = set[fx.Node](), set[fx.Node](), list(self._moving(node))
        while waiting:
            current = waiting.pop()
            if name_of(current) in ("add", "stack", "unsqueeze"):
                waiting += self._moving(current)
            elif name_of(current) in ("slice", "narrow") and arguments(current)["dim"] != 0:
                slices.add(current)
            else:
                others.add(current)
        wholes = {self._first[each.all_input_nodes[0]] for each in slices}
        (whole,) = wholes if len(wholes) == 1 else (None,)
        if whole is None or name_of(whole) != "pad" or len(slices) + len(others) < 2:
            return None
        return whole if others <= set(self._moving(whole)) else None

    def _moving(self, node: fx.Node) -> list[fx.Node]:
        """The operands that hold values made of the inputs, not indices, shapes or constants."""
        if node not in self._operands:
            operation = operation_of(node)
            operands = node.all_input_nodes if operation is None else operation.operands(node)
            self._operands[node] = [self._first[o] for o in operands if self._dynamic(o)]
        return self._operands[node]


def _is_function(node: fx.Node) -> bool:
    """Whether each entry of a value is computed from those at the same place."""
    return name_of(node) in SCALAR_FUNCTIONS or name_of(node) in _VIEWS


def _is_move(node: fx.Node) -> bool:
    if name_of(node) == "getitem" and node.all_input_nodes:  # of sort
        return name_of(node.all_input_nodes[0]) == "sort"
    return name_of(node) in _MOVES


def _is_part(node: fx.Node) -> bool:
    if name_of(node) == "getitem" and node.all_input_nodes:
        return name_of(node.all_input_nodes[0]) in SPLITS
    return name_of(node) in PARTS


def _is_made(node: fx.Node) -> bool:
    return _is_function(node) or _is_move(node) or _reduces(node) or _is_result(node)


def _is_result(node: fx.Node) -> bool:
    """Whether a node takes out the values of a reduction that also returns their places."""
    sources = node.all_input_nodes
    return name_of(node) == "getitem" and bool(sources) and name_of(sources[0]) in _SEVERAL


def _reduces(node: fx.Node) -> bool:
    """Whether a node is a reduction over dimensions that are known, and not the batch's."""
    if packet_of(node.target) is None:
        return False
    if name_of(node) in WINDOWS:
        return True
    if name_of(node) not in REDUCTIONS:
        return False
    dims = as_tuple(arguments(node).get("dim"), 1)
    return dims not in ((), (None,)) and all(literal(dim) not in (None, 0) for dim in dims)


__all__ = ["Cones"]
