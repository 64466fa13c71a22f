"""Runs an LRP graph in parts, and on other tensors than those that its module keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from lrp_fx.graph import ancestors, in_order


class Runner(fx.Interpreter):
    """Runs an LRP graph on the tensors that its module keeps, or on ``live`` ones.

    With live tensors, it uses nothing that was computed from parameters before. So derivatives
    reach the parameters, and other threads that run the same graph are not affected.

    Args:
        module: the module of the LRP graph, or the one that computes its constants.
        live: every tensor that the graph reads, by path; None for those that the module keeps.
    """

    def __init__(self, module: fx.GraphModule, live: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(module)
        self.live = live

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The tensor at a path."""
        if self.live is None:
            return super().get_attr(target, args, kwargs)
        return self.live[target]


def leading_to(graph: fx.Graph, wanted: Iterable[fx.Node]) -> list[fx.Node]:
    """In graph order, the wanted nodes, the nodes that they depend on, and all placeholders."""
    placeholders = (node for node in graph.nodes if node.op == "placeholder")
    return in_order(graph, [*ancestors(*wanted), *placeholders])


def run_nodes(
    interpreter: fx.Interpreter,
    nodes: Sequence[fx.Node],
    arguments: Sequence[Any],
    known: Mapping[fx.Node, Any] | None = None,
    *,
    keep: Iterable[fx.Node] = (),
) -> dict[fx.Node, Any]:
    """The values of some nodes of a graph. Each value is dropped after its last use.

    Args:
        interpreter: a new one, for the graph's module.
        nodes: the nodes to run, in graph order.
        arguments: the values of the placeholders among them, in order.
        known: the values of other nodes that these read.
        keep: nodes that will be run later. The values that they read are kept.

    Returns:
        The values that are left: those kept for later, and that of the last node.
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
