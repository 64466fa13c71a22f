"""The last step of the rewriting: a written graph and its parts become a module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrp_fx.canonize.graphs import tensor_at
from lrp_fx.capture import Captured
from lrp_fx.graph.walks import needed_by
from lrp_fx.optimize import (
    lay_out_weights,
    overwrite_relevance,
    preferred_layout,
    take_differences,
    take_kernels,
)
from lrp_fx.relevance import LinearRelevance
from lrp_fx.sources import with_source


@dataclass(frozen=True)
class LRPGraph:
    """The result of the rewriting.

    Args:
        module: called with the model's input tensors, the target and the channels of each mask of the
            plan; returns (the relevance of each
            source, the explained output, the relevance that was started with).
        start: the node of it that the relevance starts with.
        constants: computes, from parameters alone, what the LRP graph reads under ``constants.*``
            (folded weights, tables); its outputs are in the order of ``constant_names``.
        constant_names: the attributes of ``module`` that hold them.
        parameters: the attributes of both that are tensors, the model's own and those of ``made``.
        made: tensors that the model's code made or hides, which have no path in the model.
        prepared: relevance nodes with modified weights, and the attribute that holds the weight.
    """

    module: fx.GraphModule
    start: fx.Node
    constants: fx.GraphModule
    constant_names: tuple[str, ...]
    parameters: tuple[str, ...]
    made: Mapping[str, Tensor]
    prepared: Mapping[str, str]


def assembled(
    captured: Captured,
    graph: fx.Graph,
    modules: Mapping[str, nn.Module],
    constants: Mapping[fx.Node, str],
    start: fx.Node,
    *,
    in_place: bool,
    kernels: bool,
    channels_last: bool,
    prepares: bool,
) -> LRPGraph:
    """Make the module of a written graph.

    Args:
        captured: the canonical graph.
        graph: the LRP graph.
        modules: the relevance nodes that were written, by path.
        constants: the canonical nodes that depend on parameters alone, and the paths that they are read
            under.
        start: the node of the LRP graph that the relevance starts with.
        in_place: relevance is overwritten where nobody reads it again.
        kernels: dense layers and 1×1 convolutions take the fastest kernels.
        channels_last: weights that are computed are kept in the layout of the images.
        prepares: modified weights are kept.
    """
    if in_place:
        take_differences(graph, modules)
    if kernels:
        take_kernels(graph, modules.values())
    if channels_last:
        lay_out_weights(modules.values())
    called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    read = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    used = {node: path for node, path in constants.items() if path in read}
    computed = {node: path for node, path in used.items() if node.op != "get_attr"}
    parameters = {path for node, path in used.items() if node.op == "get_attr"}
    root: dict[str, Any] = {path: modules[path] for path in modules if path in called}
    root.update({path: tensor_at(captured.module, path) for path in parameters})
    root.update({path: torch.empty(0, device="cpu") for path in computed.values()})
    module = with_source(fx.GraphModule(root, graph, class_name="LRP"))
    module.graph.lint()
    if in_place:
        overwrite_relevance(module)
    computing = _module_of(captured, computed, channels_last)
    inputs = {str(n.target) for n in computing.graph.nodes if n.op == "get_attr"}
    return LRPGraph(
        module,
        start,
        computing,
        tuple(computed.values()),
        tuple(sorted(parameters | inputs)),
        captured.constants,
        _prepared(graph, modules) if prepares else {},
    )


def _module_of(
    captured: Captured, wanted: Iterable[fx.Node], channels_last: bool
) -> fx.GraphModule:
    """What computes these nodes, which depend on parameters alone."""
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in needed_by(captured.module.graph, wanted):
        copies[node] = graph.node_copy(node, lambda n: copies[n])
    results = [copies[node] for node in wanted]
    if channels_last:
        results = [graph.call_function(preferred_layout, (each,)) for each in results]
    graph.output(tuple(results))
    tensors = {
        str(node.target): tensor_at(captured.module, str(node.target))
        for node in graph.nodes
        if node.op == "get_attr"
    }
    return with_source(fx.GraphModule(tensors, graph, class_name="Constants"))


def _prepared(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """The relevance nodes whose weight is a constant, and where that is."""
    prepared = {}
    for node in graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, LinearRelevance) and module.parts:
            weight = node.args[3]
            if isinstance(weight, fx.Node) and weight.op == "get_attr":
                prepared[str(node.target)] = str(weight.target)
    return prepared
