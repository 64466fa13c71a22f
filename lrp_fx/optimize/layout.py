"""The memory layout in which convolutions are fastest."""

from __future__ import annotations

import torch
from torch import Tensor

from lrp_fx.graph import name_of
from lrp_fx.optimize.draft import Draft
from lrp_fx.optimize.onednn import HAS_ONEDNN

_DTYPES = (torch.float32, torch.bfloat16)
"""The dtypes that oneDNN has kernels for. Kernels of other dtypes support only one layout."""


def preferred_layout(value: Tensor) -> Tensor:
    """An image (N, C, H, W) or a kernel, in channels-last layout if the backend prefers it.

    The layout of the input determines that of all activations and all relevance after it. On CPU,
    oneDNN rearranges plain layouts in every call. On other devices the caller's layout stays.
    """
    prefers = (
        value.dim() == 4 and value.device.type == "cpu" and value.dtype in _DTYPES and HAS_ONEDNN
    )
    return value.contiguous(memory_format=torch.channels_last) if prefers else value


def prefer_layout(draft: Draft) -> None:
    """Bring inputs and computed weights into this layout, if the graph has 2d convolutions."""
    graph = draft.graph
    if not any(name_of(node) in ("conv2d", "conv_transpose2d") for node in graph.nodes):
        return
    placeholders = graph.find_nodes(op="placeholder")
    for node in placeholders[: placeholders.index(draft.target)]:
        readers = list(node.users)
        with graph.inserting_after(placeholders[-1]):
            laid_out = graph.call_function(preferred_layout, (node,))
        for reader in readers:
            reader.replace_input_with(node, laid_out)
    (result,) = draft.constants.find_nodes(op="output")
    with draft.constants.inserting_before(result):
        values = [draft.constants.call_function(preferred_layout, (v,)) for v in result.args[0]]
    result.args = (tuple(values),)
