"""The last step of the rewriting: a written graph and its parts become a module."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.capture import Captured
from lrp_fx.graph import needed_by, tensor_at, with_source
from lrp_fx.optimize import Draft
from lrp_fx.rewrite.lrp_graph import LRPGraph
from lrp_fx.rules import Part, part_of


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
            copies[node]
            if part is None
            else self.graph.call_function(
                part_of, (copies[node], part.positive, part.negative, part.power)
            )
            for node, part in computed.values()
        ]
        self.graph.output(tuple(results))

    def parameters(self) -> set[str]:
        """The paths of the parameters that the graph reads."""
        return {str(node.target) for node in self.graph.find_nodes(op="get_attr")}


def assembled(captured: Captured, draft: Draft, constants: ConstantGraph) -> LRPGraph:
    """Make the modules of a written graph and of its constants.

    Args:
        captured: the canonical graph.
        draft: the LRP graph.
        constants: what it reads that depends on parameters alone.
    """
    graph, modules = draft.graph, draft.modules
    called = {str(node.target) for node in graph.find_nodes(op="call_module")}
    root: dict[str, Any] = {path: modules[path] for path in modules if path in called}
    root |= _tensors(captured, constants.read)
    root |= {path: torch.empty(0, device="cpu") for path in constants.names}
    module = with_source(fx.GraphModule(root, graph, class_name="LRP"))
    module.graph.lint()
    inputs = constants.parameters()
    computing = fx.GraphModule(_tensors(captured, inputs), constants.graph, class_name="Constants")
    return LRPGraph(
        module,
        draft.start,
        with_source(computing),
        constants.names,
        tuple(sorted(constants.read | inputs)),
        captured.constants,
    )


def _tensors(captured: Captured, paths: Collection[str]) -> dict[str, Tensor]:
    return {path: tensor_at(captured.module, path) for path in paths}
