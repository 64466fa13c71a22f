"""Models whose right answers can be computed by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONTRIBUTIONS = torch.tensor([1.0, 4.0, 2.0, 3.0])
ONES = torch.ones(1, 4)
FIRST = torch.zeros(1, dtype=torch.long)


def linear(x: Tensor) -> Tensor:
    """Logits (N, 2): the sum of the contributions of (N, 4), and zero."""
    sums = x @ CONTRIBUTIONS.to(x)
    return torch.stack([sums, torch.zeros_like(sums)], 1)


def by_contribution(x: Tensor, target: Tensor) -> Tensor:
    """The exact explanation of :func:`linear`."""
    return x * CONTRIBUTIONS.to(x)


def small_network() -> nn.Sequential:
    """From images (N, 2, 12, 12) to four logits; weights of a fixed seed."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(256, 4)).eval()


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 2, 12, 12, generator=torch.Generator().manual_seed(1))
