"""The memory layout that convolutions are fastest in."""

from __future__ import annotations

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.bfloat16)
"""Those that oneDNN has kernels for; other dtypes take kernels that know one layout only."""
_HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def preferred_layout(image: Tensor) -> Tensor:
    """An image (N, C, H, W) in channels-last layout where the backend's convolutions prefer that.

    The layout of the input decides that of every activation and of all relevance behind it. On CPU
    oneDNN reads plain layouts only by re-arranging them in each call; elsewhere the layout stays as the
    caller chose it.
    """
    prefers = (
        image.dim() == 4 and image.device.type == "cpu" and image.dtype in _DTYPES and _HAS_ONEDNN
    )
    return image.contiguous(memory_format=torch.channels_last) if prefers else image
