"""What a value is computed from, by scalar functions, rearrangements and reductions.

A factor of a product is a *statistic* of another factor if both are computed from the same value,
by scalar functions, rearrangements and statistics of it, and only the statistic reduces that value.
Weights mix values, so a value is never computed "from another value" through a layer. One part of a
value is not computed from another part either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import fx

from lrp_fx.graph import arguments, as_tuple, equal_calls, literal, name_of, names_where, packet_of
from lrp_fx.relevance import operation_of

REDUCTIONS = names_where(lambda row: row.reduction in ("dims", "running"))
WINDOWS = names_where(lambda row: row.reduction == "windows")
"""Reductions over windows. They never reduce the batch dimension."""
_SEVERAL = names_where(lambda row: row.reduction and row.results)
"""Reductions that return several values, which ``getitem`` nodes then take out."""
SCALAR_FUNCTIONS = names_where(lambda row: row.entrywise and not row.says)
SPLITS = names_where(lambda row: row.results == "pieces") | {"topk"}
PARTS = SPLITS | names_where(lambda row: row.takes_part)
"""Operations that take a part of a value. Two different parts are two different values."""
_MOVES = names_where(lambda row: row.arranges or row.resizes) - PARTS | {"sort"}
_VIEWS = names_where(lambda row: row.keeps_order) | {"expand"}


class Dependence:
    """Answers which values of a graph are computed from which others, and how.

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
        """Whether the node was in the graph when this object was made."""
        return node in self._first

    def first(self, node: fx.Node) -> fx.Node:
        """The first of all equal calls, which compute the same value."""
        return self._first[node]

    def is_read_once(self, node: fx.Node) -> bool:
        """Whether only one node reads a value. Equal calls on equal values count as one reader."""
        return len(self._readers[self._first[node]]) == 1

    def sources(self, node: fx.Node) -> Iterator[fx.Node]:
        """The values that a node is computed from entry by entry; for a part, also the whole value."""
        source = self._elements[self._first[node]]
        yield source
        while _is_part(source) and (wholes := self._moving(source)):
            source = self._elements[wholes[0]]
            yield source

    def _element(self, node: fx.Node) -> fx.Node:
        """The earliest value from which, and from whose statistics, a node is computed entrywise."""
        if not (_is_function(node) or _is_move(node)):
            return node
        found = list(dict.fromkeys(self._elements[n] for n in self._moving(node)))
        for source in found:
            if all(o is source or self.reduces(o, source) for o in found):
                return source
        return node

    def reduces(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether ``node`` is computed from ``source`` alone, and reduces it on each path."""
        return bool(self._walk(node, source, self._made, _is_made))

    def _walk(
        self,
        node: fx.Node,
        source: fx.Node,
        memory: dict[fx.Node, dict[fx.Node, bool | None]],
        known_operation: Callable[[fx.Node], bool],
    ) -> bool | None:
        """Whether each path from ``source`` to ``node`` reduces; None if other values take part."""
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
        """The padded value whose shifted slices a node sums up, as a window would; None otherwise.

        The slice that is not shifted may be taken from the value before the padding.
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
        """The operands with values computed from the inputs: no indices, shapes or constants."""
        if node not in self._operands:
            operation = operation_of(node)
            operands = node.all_input_nodes if operation is None else operation.operands(node)
            self._operands[node] = [self._first[o] for o in operands if self._dynamic(o)]
        return self._operands[node]


def _is_function(node: fx.Node) -> bool:
    """Whether each entry of a value is computed from the entry at the same position."""
    return name_of(node) in SCALAR_FUNCTIONS or name_of(node) in _VIEWS


def _is_move(node: fx.Node) -> bool:
    if name_of(node) == "getitem" and node.all_input_nodes:  # the values of a sort
        return name_of(node.all_input_nodes[0]) == "sort"
    return name_of(node) in _MOVES


def _is_part(node: fx.Node) -> bool:
    if name_of(node) == "getitem" and node.all_input_nodes:
        return name_of(node.all_input_nodes[0]) in SPLITS
    return name_of(node) in PARTS


def _is_made(node: fx.Node) -> bool:
    return _is_function(node) or _is_move(node) or _reduces(node) or _is_result(node)


def _is_result(node: fx.Node) -> bool:
    """Whether a node takes the values out of a reduction that also returns positions."""
    sources = node.all_input_nodes
    return name_of(node) == "getitem" and bool(sources) and name_of(sources[0]) in _SEVERAL


def _reduces(node: fx.Node) -> bool:
    """Whether a node is a reduction over known dimensions other than the batch dimension."""
    if packet_of(node.target) is None:
        return False
    if name_of(node) in WINDOWS:
        return True
    if name_of(node) not in REDUCTIONS:
        return False
    dims = as_tuple(arguments(node).get("dim"), 1)
    return dims not in ((), (None,)) and all(literal(dim) not in (None, 0) for dim in dims)
