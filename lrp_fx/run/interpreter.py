"""Running an LRP graph in parts, and on other tensors than those that it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from lrp_fx.graph import ancestors, in_order


class Runner(fx.Interpreter):
    """Runs an LRP graph on the tensors that its module keeps, or on ``live`` ones.

    On live tensors it uses nothing that was computed from parameters before, so derivatives reach
    them, and whoever else runs the same graph notices nothing.

    Args:
        module: the LRP graph's module, or the one that computes its constants.
        live: every tensor that the graph reads, by path; None for those that the module keeps.
    """

    def __init__(self, module: fx.GraphModule, live: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(module)
        self.live = live

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The tensor of that path."""
        if self.live is None:
            return super().get_attr(target, args, kwargs)
        return self.live[target]


def leading_to(graph: fx.Graph, wanted: Iterable[fx.Node]) -> list[fx.Node]:
    """The nodes that some depend on, these, and all placeholders, whose values come in order."""
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
    """The values of some nodes of a graph; each is dropped after its last use.

    Args:
        interpreter: a new one, for the graph's module.
        nodes: in the graph's order.
        arguments: the values of the placeholders among them, in order.
        known: the values of other nodes, which these read.
        keep: nodes that are to be run_nodes later: what they read is kept, and so is the last value.
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
