"""Relevance filters whose share is an input of the program, for exported explainers."""

from __future__ import annotations

import torch
from torch import Tensor

from lrp_fx.relevance.edges.top_k import FilterBy, renormalized
from lrp_fx.relevance.node import EdgeRelevance

PARTS = 10**6
"""A share is read in millionths: 0.29 of 100 values are 29, though the product of floats is less."""


class OpenTopKFilter(EdgeRelevance):
    """``R_in = m ⊙ R`` with ``m`` one at the ``k = max(1, int(share · n))`` largest values of a sample.

    :class:`~lrp_fx.relevance.edges.top_k.TopKFilter` for a share that is known only when the program
    runs. The values are sorted, and a tensor index takes the k-th largest, the threshold. Of values
    equal to it the first ones are kept, so exactly ``k`` in all.

    Args:
        by: which values are the largest, see :class:`~lrp_fx.composites.TopK`.
        renormalize: whether the sum of each sample stays, see there.
    """

    result = "new"
    kind = "filter"

    def __init__(self, by: FilterBy, renormalize: bool) -> None:
        super().__init__()
        self.by = by
        self.renormalize = renormalize

    def propagate(self, relevance: Tensor, input_shape: torch.Size, share: Tensor) -> Tensor:
        """The filtered relevance, of the same shape.

        Args:
            relevance: (N, …), or of a single sample without batch dimension.
            input_shape: the shape of the model's input, (N, …).
            share: what each sample keeps, 0 < share ≤ 1, (N,); it is rounded to millionths.
        """
        if input_shape[0] == 1 and relevance.shape[0] != 1:  # has no batch dimension
            return self.propagate(relevance.unsqueeze(0), input_shape, share).squeeze(0)
        flat = relevance.flatten(1)
        ranked = flat if self.by == "value" else flat.abs()
        size = flat.shape[1]
        parts = (share * PARTS).round().long()
        count = (parts * size // PARTS).clamp(1, size)[:, None]
        ordered = ranked.sort(dim=1, descending=True).values
        threshold = ordered.gather(1, count - 1)
        above, equal = ranked > threshold, ranked == threshold
        missing = count - above.sum(1, keepdim=True)
        kept = torch.where(above | (equal & (equal.cumsum(1) <= missing)), flat, 0)
        kept = kept.reshape(relevance.shape)
        return renormalized(kept, relevance) if self.renormalize else kept
