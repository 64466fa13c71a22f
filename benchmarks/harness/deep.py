"""A recurrent reader and a residual block, alone in a file: a reading follows what is around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUT, HIDDEN = 64, 128


class Reader(nn.Module):
    """Two recurrent layers of both directions, and a head behind their last step."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layers = getattr(nn, kind)(INPUT, HIDDEN, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.layers(x)[0][:, -1])
        return scores


class Block(nn.Module):
    """``x + B relu(A x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.second(torch.relu(self.first(x)))
        return result
