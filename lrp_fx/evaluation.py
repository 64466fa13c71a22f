"""Running an LRP graph in parts, so that what several runs share is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import fx


def divided(graph: fx.Graph, *nodes: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """The nodes that depend on none of ``nodes``, and the others, themselves among them; in order."""
    free: list[fx.Node] = []
    bound: dict[fx.Node, None] = {}
    for each in graph.nodes:
        if each in nodes or not bound.keys().isdisjoint(each.all_input_nodes):
            bound[each] = None
        else:
            free.append(each)
    return free, list(bound)


def evaluated(
    interpreter: fx.Interpreter,
    nodes: Sequence[fx.Node],
    arguments: Sequence[Any],
    known: Mapping[fx.Node, Any] | None = None,
    *,
    keep: Iterable[fx.Node] = (),
) -> dict[fx.Node, Any]:
    """The values of some nodes of a graph; each is dropped after its last use.

    Args:
        interpreter: a new one, for the graph's module.
        nodes: in the graph's order.
        arguments: the values of the placeholders among them, in order.
        known: the values of other nodes, which these read.
        keep: nodes that are to be evaluated later: what they read is kept, and so is the last value.
    """
    interpreter.args_iter = iter(arguments)
    interpreter.env = values = dict(known or {})
    wanted = {source for node in keep for source in node.all_input_nodes} | {nodes[-1]}
    last_reader: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        for source in node.all_input_nodes:
            last_reader[source] = node
    for node in nodes:
        values[node] = interpreter.run_node(node)
        for source in node.all_input_nodes:
            if last_reader[source] is node and source not in wanted:
                values.pop(source, None)
    return values
