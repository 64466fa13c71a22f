"""Sparse matrices that a recorded call makes from constants: computed once, and held as constants.

Matrices of compressed rows or columns have no strides, so no recording can hold them. They are pairs of
places and values from the start.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from lrp_fx.graph import tensor_at

COMPRESSED: dict[Any, tuple[str, str]] = {
    torch.sparse_csr_tensor: ("crow_indices", "col_indices"),
    torch.sparse_csc_tensor: ("ccol_indices", "row_indices"),
}
"""Makers of such matrices, with their names for the ends of the rows (columns) and the places there."""


def as_pairs(maker: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The matrix that a maker of :data:`COMPRESSED` makes, as pairs of places and values."""
    names = COMPRESSED[maker]
    given = dict(zip((*names, "values", "size"), args, strict=False)) | kwargs
    ends, others = (torch.as_tensor(given.pop(name)) for name in names)
    count = len(ends) - 1
    lines = torch.arange(count, device=ends.device).repeat_interleave(ends.diff())
    by_rows = maker is torch.sparse_csr_tensor
    size = given.pop("size", None) or (count, int(others.max()) + 1)[:: 1 if by_rows else -1]
    given.pop("layout", None)
    places = torch.stack([lines, others] if by_rows else [others, lines])
    return torch.sparse_coo_tensor(places, size=size, **given).coalesce()


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
