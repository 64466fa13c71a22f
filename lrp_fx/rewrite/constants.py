"""What an LRP graph reads that depends on parameters alone, and the graph that computes it."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

from lrp_fx.graph import needed_by
from lrp_fx.rules import Part, part_of


def write_part(graph: fx.Graph, weight: fx.Node, part: Part, name: str | None = None) -> fx.Node:
    """The node of a part of a weight."""
    form = (part.positive, part.negative, part.power)
    return graph.create_node("call_function", part_of, (weight, *form), name=name)


class ConstantGraph:
    """What an LRP graph reads that depends on parameters alone, and the graph that computes it.

    Args:
        source: the canonical graph.
        path: the name under which computed constants are kept.
    """

    def __init__(self, source: fx.Graph, path: str) -> None:
        self.source, self.path = source, path
        self.graph = fx.Graph()
        self.names: tuple[str, ...] = ()
        """The paths of what the graph computes, in the order of its results."""
        self.read: set[str] = set()
        """The paths of parameters that the LRP graph reads itself."""
        self._wanted: dict[str, tuple[fx.Node, Part | None]] = {}

    def path_of(self, node: fx.Node) -> str:
        """The path of a canonical node's value: the parameter's own, or that of a computed constant."""
        path = str(node.target) if node.op == "get_attr" else f"{self.path}.{node.name}"
        self._wanted[path] = (node, None)
        return path

    def path_of_part(self, weight: fx.Node, part: Part, name: str) -> str:
        """The path of a part of a weight."""
        path = f"{self.path}.{name}"
        while path in self._wanted:  # another γ
            path += "_"
        self._wanted[path] = (weight, part)
        return path

    def keep(self, read: Collection[str]) -> None:
        """Write the graph that computes those of these paths that are computed."""
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
