"""Values of an LRP graph that depend only on parameters, and the graph that computes them."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

from lrp_fx.graph import needed_by
from lrp_fx.rules import Part, part_of


def write_part(graph: fx.Graph, weight: fx.Node, part: Part, name: str | None = None) -> fx.Node:
    """Write the node of a part of a weight, such as W⁺."""
    form = (part.positive, part.negative, part.power)
    return graph.create_node("call_function", part_of, (weight, *form), name=name)


class ConstantGraph:
    """The values of an LRP graph that depend only on parameters, and the graph that computes them.

    Args:
        source: the canonical graph.
        path: the prefix of the paths of computed constants.
    """

    def __init__(self, source: fx.Graph, path: str) -> None:
        self.source, self.path = source, path
        self.graph = fx.Graph()
        self.names: tuple[str, ...] = ()
        """The paths of the computed constants, in the order of the graph's results."""
        self.read: set[str] = set()
        """The paths of the parameters that the LRP graph reads directly."""
        self._wanted: dict[str, tuple[fx.Node, Part | None]] = {}

    def path_of(self, node: fx.Node) -> str:
        """The path of a node's value: that of the parameter itself, or of a computed constant."""
        path = str(node.target) if node.op == "get_attr" else f"{self.path}.{node.name}"
        self._wanted[path] = (node, None)
        return path

    def path_of_part(self, weight: fx.Node, part: Part, name: str) -> str:
        """The path of a part of a weight."""
        path = f"{self.path}.{name}"
        while path in self._wanted:  # the same part with another γ
            path += "_"
        self._wanted[path] = (weight, part)
        return path

    def keep(self, read: Collection[str]) -> None:
        """Write the graph that computes the constants among these paths."""
        used = {path: wanted for path, wanted in self._wanted.items() if path in read}
        computed = {
            path: (node, part)
            for path, (node, part) in used.items()
            if part is not None or node.op != "get_attr"
        }
        self.names, self.read = tuple(computed), used.keys() - computed.keys()
        copies = dict[fx.Node, fx.Node]()
        for node in needed_by(self.source, (node for node, _ in computed.values())):
            copies[node] = self.graph.node_copy(node, lambda n: copies[n])
        results = [
            copies[node] if part is None else write_part(self.graph, copies[node], part)
            for node, part in computed.values()
        ]
        self.graph.output(tuple(results))

    def parameters(self) -> set[str]:
        """The paths of the parameters that the graph reads."""
        return {str(node.target) for node in self.graph.find_nodes(op="get_attr")}
