"""The last step of rewriting: a draft and its constants become a module."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.capture import Captured
from lrp_fx.graph import tensor_at, with_source
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
