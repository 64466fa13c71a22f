"""The last step of rewriting: a draft and its constants become a module."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from lrp_fx.capture import Captured
from lrp_fx.graph import graph_module_of, tensor_at
from lrp_fx.optimize import Draft
from lrp_fx.rewrite.constants import ConstantGraph
from lrp_fx.rewrite.lrp_graph import LRPGraph


def assemble(captured: Captured, draft: Draft, constants: ConstantGraph) -> LRPGraph:
    """Make the modules of a draft and of its constants.

    Args:
        captured: the canonical graph.
        draft: the LRP graph.
        constants: the constants that the LRP graph reads.
    """
    graph, modules = draft.graph, draft.modules
    called = {str(node.target) for node in graph.find_nodes(op="call_module")}
    root: dict[str, Any] = {path: modules[path] for path in modules if path in called}
    root |= _tensors(captured, constants.read)
    root |= {path: torch.empty(0, device="cpu") for path in constants.names}
    module = graph_module_of(root, graph, "LRP")
    module.graph.lint()
    inputs = constants.parameters()
    computing = graph_module_of(_tensors(captured, inputs), constants.graph, "Constants")
    return LRPGraph(
        module,
        draft.start,
        computing,
        constants.names,
        tuple(sorted(constants.read | inputs)),
        captured.constants,
    )


def _tensors(captured: Captured, paths: Collection[str]) -> dict[str, Tensor]:
    return {path: tensor_at(captured.module, path) for path in paths}
