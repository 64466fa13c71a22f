"""Recurrent readers and a residual block, alone in a file: a reading follows what is around them."""

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


class Loop(nn.Module):
    """A loop of Python over the cells of torch, ``LSTMCell``, ``GRUCell`` or ``RNNCell``."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cell, self.head = getattr(nn, kind)(INPUT, HIDDEN), nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), HIDDEN)
        for step in x.unbind(1):
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(step, (h, c))
            else:
                h = self.cell(step, h)
        scores: Tensor = self.head(h)
        return scores


class Formulas(nn.Module):
    """A loop of Python over a cell that is written out: an LSTM or a GRU."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        gates = {"LSTM": 4, "GRU": 3}[kind]
        self.kind, self.head = kind, nn.Linear(HIDDEN, 3)
        self.of_input, self.of_state = (nn.Linear(n, gates * HIDDEN) for n in (INPUT, HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), HIDDEN)
        for step in x.unbind(1):
            if self.kind == "LSTM":
                i, f, g, o = (self.of_input(step) + self.of_state(h)).chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                (r, z, n), (s, u, m) = (
                    self.of_input(step).chunk(3, -1),
                    self.of_state(h).chunk(3, -1),
                )
                z = torch.sigmoid(z + u)
                h = (1 - z) * torch.tanh(n + torch.sigmoid(r + s) * m) + z * h
        scores: Tensor = self.head(h)
        return scores


class Block(nn.Module):
    """``x + B relu(A x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.second(torch.relu(self.first(x)))
        return result
