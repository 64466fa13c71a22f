"""Relevance filters: of the relevance that enters a node, only the largest part goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from lrp_fx.errors import OptionError
from lrp_fx.relevance import EdgeRelevance


def relevance_filter(relevance: Tensor, top_k: float) -> Tensor:
    """Keep the ``k = max(1, int(top_k · n))`` largest signed values of each sample, zero the rest.

    The filter of the blog post of 2021. Exactly ``k`` are kept, also among equal values.

    Args:
        relevance: (N, …) of any number of dimensions, ``n`` values per sample.
        top_k: the fraction to keep, ``0 < top_k <= 1``.

    Returns:
        A tensor of the same shape; ``relevance`` itself for ``top_k = 1``.

    Raises:
        OptionError: if ``top_k`` is out of range or ``relevance`` has no batch dimension.
    """
    check_top_k(top_k)
    if not isinstance(relevance, Tensor) or not relevance.is_floating_point():
        raise OptionError("relevance_filter needs a floating point tensor")
    if relevance.dim() == 0:
        raise OptionError("relevance_filter needs a batch dimension: (N, ...)")
    if top_k == 1 or relevance.numel() == 0:
        return relevance
    flat = relevance.reshape(relevance.shape[0], -1)
    k = max(1, int(top_k * flat.shape[1]))
    kept = flat.topk(k, dim=1, sorted=False)
    return torch.zeros_like(flat).scatter(1, kept.indices, kept.values).reshape(relevance.shape)


def check_top_k(top_k: float) -> None:
    """Raise an ``OptionError`` unless ``0 < top_k <= 1``."""
    if isinstance(top_k, bool) or not isinstance(top_k, (int, float)) or not 0 < top_k <= 1:
        raise OptionError(
            f"top_k is the fraction of relevance values to keep: 0 < top_k <= 1, got {top_k!r}"
        )


class TopKFilter(EdgeRelevance):
    """:func:`relevance_filter` as a node of the LRP graph."""

    kind = "filter"

    def __init__(self, top_k: float) -> None:
        super().__init__()
        check_top_k(top_k)
        self.top_k = top_k

    def extra_repr(self) -> str:
        """The fraction that is kept."""
        return f"top_k={self.top_k}"

    def propagate(self, relevance: Tensor) -> Tensor:
        """The filtered relevance, of the same shape."""
        return relevance_filter(relevance, self.top_k)
