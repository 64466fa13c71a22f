"""Walks through a graph: which nodes a value depends on, and which nodes depend on it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx


def ancestors(*nodes: fx.Node) -> set[fx.Node]:
    """All nodes on which the given nodes depend, themselves included."""
    found, waiting = set(nodes), list(nodes)
    while waiting:
        more = set(waiting.pop().all_input_nodes) - found
        found |= more
        waiting.extend(more)
    return found


def in_order(graph: fx.Graph, nodes: Iterable[fx.Node]) -> list[fx.Node]:
    """The given nodes, in the order of the graph."""
    members = set(nodes)
    return [node for node in graph.nodes if node in members]


def needed_by(graph: fx.Graph, wanted: Iterable[fx.Node]) -> list[fx.Node]:
    """All nodes on which the wanted nodes depend, themselves included, in the order of the graph."""
    return in_order(graph, ancestors(*wanted))


def split_by_dependence(
    graph: fx.Graph, sources: Iterable[fx.Node]
) -> tuple[list[fx.Node], list[fx.Node]]:
    """Split the nodes into those that depend on no source and the rest, both in the graph's order.

    The sources belong to the rest.
    """
    free: list[fx.Node] = []
    bound = dict.fromkeys(sources)
    for node in graph.nodes:
        if node not in bound and bound.keys().isdisjoint(node.all_input_nodes):
            free.append(node)
        else:
            bound[node] = None
    return free, in_order(graph, bound)


def descendants(graph: fx.Graph, sources: Iterable[fx.Node]) -> set[fx.Node]:
    """All nodes that depend on a source, and the sources themselves."""
    return set(split_by_dependence(graph, sources)[1])


def depends_on_inputs(node: fx.Node) -> bool:
    """Whether a value depends on an input of the model, rather than on parameters alone.

    The walk ends at the first input. It follows first operands first, since data come before weights.
    """
    seen: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each.op == "placeholder":
            return True
        if each not in seen:
            seen.add(each)
            waiting.extend(reversed(each.all_input_nodes))
    return False
