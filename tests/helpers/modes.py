"""A network of many kinds of layers, which is explained in every mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.numbers import numbers

COMPOSITES = ["zero", "epsilon", "epsilon_plus", "epsilon_alpha2_beta1_flat"]
engines = pytest.mark.parametrize("engine", ["direct", "gradient"])
composites = pytest.mark.parametrize("composite", COMPOSITES)


class Net(nn.Module):
    """Folded batch norm, a leftover one, a skip connection, both poolings, a computed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.a, self.b = (nn.Parameter(torch.randn(*s) / 4) for s in ((6, 3), (3, 4)))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm((x + self.branch(x)).relu())
        x = self.pool(x).mean((2, 3))
        return self.head(nn.functional.linear(x, self.a @ self.b).relu())


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    model = Net()
    model(images(8, seed=3))
    return model.eval().to(dtype)


def images(count: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return numbers(count, 2, 8, 8, seed=seed, dtype=torch.float32).to(dtype)
