"""Sparse matrices that a recorded call makes from constants: computed once, and held as constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from lrp_fx.graph import tensor_at


def hold_sparse_values(module: fx.GraphModule) -> None:
    """Replace each call that reads or makes sparse constants by its result, in place.

    So the graph reads sparse matrices, and never how they were made. What depends on an input stays.
    """
    graph = module.graph
    if not any(_makes_sparse(node) for node in graph.nodes):
        return
    known: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            value = tensor_at(module, str(node.target))
            if not isinstance(value, nn.Parameter):
                known[node] = value
        elif node.op == "call_function" and all(n in known for n in node.all_input_nodes):
            function: Any = node.target
            args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            with torch.no_grad():
                known[node] = function(*args, **kwargs)
    held = [node for node in known if node.op == "call_function"]
    for place, node in enumerate(held):
        if isinstance(known[node], Tensor):
            module.register_buffer(f"sparse_{place}", known[node])
            with module.graph.inserting_before(node):
                node.replace_all_uses_with(module.graph.get_attr(f"sparse_{place}"))
    for node in reversed(held):
        if not node.users:
            module.graph.erase_node(node)


def _makes_sparse(node: fx.Node) -> bool:
    """Whether a call makes a sparse matrix from its entries."""
    return (
        node.op == "call_function" and "sparse" in str(node.target) and "tensor" in str(node.target)
    )
