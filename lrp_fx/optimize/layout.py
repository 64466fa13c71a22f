"""The memory layout that convolutions are fastest in."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lrp_fx.products import HAS_ONEDNN
from lrp_fx.relevance import LinearRelevance

_DTYPES = (torch.float32, torch.bfloat16)
"""Those that oneDNN has kernels for; other dtypes take kernels that know one layout only."""


def preferred_layout(value: Tensor) -> Tensor:
    """An image (N, C, H, W) or a kernel in channels-last layout where the backend prefers that.

    The layout of the input decides that of every activation and of all relevance behind it. On CPU
    oneDNN reads plain layouts only by re-arranging them in each call; elsewhere the layout stays as the
    caller chose it.
    """
    prefers = (
        value.dim() == 4 and value.device.type == "cpu" and value.dtype in _DTYPES and HAS_ONEDNN
    )
    return value.contiguous(memory_format=torch.channels_last) if prefers else value


def lay_out_weights(modules: Iterable[nn.Module]) -> None:
    """Let relevance nodes of convolutions keep their modified weights in the layout of the images."""
    for module in modules:
        if isinstance(module, LinearRelevance) and module.name == "conv2d":
            module.layout = preferred_layout
