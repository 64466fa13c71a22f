"""Rank correlation of maps, by regions."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of each pair of rows; equal values share their mean rank.

    A constant row says nothing: its correlation is 0, and 1 with another constant row.

    Args:
        a: ``(N, K)``.
        b: ``(N, K)``.

    Returns:
        ``(N,)``, float64.
    """
    return torch.stack(
        [_correlation(mean_ranks(x), mean_ranks(y)) for x, y in zip(a, b, strict=True)]
    )


def mean_ranks(values: Tensor) -> Tensor:
    """The rank of each value ``(K,)``, from 0; equal values get their mean rank."""
    _, group, sizes = torch.unique(values, return_inverse=True, return_counts=True)
    ends = sizes.cumsum(0)
    ranks: Tensor = (ends.double() - (sizes + 1) / 2)[group]
    return ranks


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(), b - b.mean()
    sizes = (a @ a, b @ b)
    if not all(sizes):
        return torch.tensor(float(not any(sizes)), dtype=torch.float64, device=a.device)
    return (a @ b) / (sizes[0] * sizes[1]).sqrt()
