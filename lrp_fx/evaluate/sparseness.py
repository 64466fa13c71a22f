"""Sparseness: how few entries hold the relevance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lrp_fx.evaluate.metric import Explain, Forward, relevance_of


@dataclass(frozen=True, kw_only=True)
class Sparseness:
    """The Gini index of |R| (Chalasani et al. 2020).

    0 if all entries have the same |R|, nearly 1 if one has all. The channels of images are summed
    first. It says nothing about whether the right pixels are chosen.
    """

    higher_is_better: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """``sparseness``."""
        return "sparseness"

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        relevance = relevance_of(explain, inputs, targets)
        if relevance.ndim == 4:
            relevance = relevance.sum(1)
        return gini(relevance.flatten(1))


def gini(values: Tensor) -> Tensor:
    """``Σ_k (2k − K − 1) |r|_k / (K Σ |r|)`` with ``|r|_1 ≤ … ≤ |r|_K``; 0 if all are zero.

    Args:
        values: ``(N, K)``.

    Returns:
        ``(N,)``, float64.
    """
    sizes = values.double().abs().sort(1).values
    count = sizes.shape[1]
    weights = 2 * torch.arange(1, count + 1, device=values.device) - count - 1
    total = sizes.sum(1)
    return torch.where(total > 0, (sizes * weights).sum(1) / (count * total), total)
