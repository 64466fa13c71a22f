"""Small networks that every optimization has something to do in, in float32 too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

FLOAT64 = 1e-11
"""Of max |R|: sums of some hundred terms in another order (1e-16 each), through ten layers."""

FLOAT32 = 2e-4
"""The same in float32 (6e-8 each), where ε rules divide by sums that cancelled to a hundredth."""


class Residual(nn.Module):
    """Skips, both poolings, an unused branch output, ReLU as module, function and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.down = nn.Conv2d(8, 6, 1, stride=2)
        self.head = nn.Linear(6 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        y = torch.relu_(self.conv(x) + x)
        y = nn.functional.max_pool2d(y, 3, 2, 1) + nn.functional.avg_pool2d(x, 2)
        y = self.down(y).relu()
        return self.head(nn.functional.adaptive_avg_pool2d(y, 4).flatten(1))


class Signed(nn.Module):
    """A linear bottleneck with ReLU6, a gate, and a concatenation: inputs of either sign."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.gate = nn.Linear(12, 12)
        self.project = nn.Conv2d(12, 4, 1)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self.depthwise(nn.functional.silu(self.expand(x))))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        y = torch.cat([self.project(y), x], 1)
        return self.head(torch.relu(y).mean((2, 3)))


class Transposed(nn.Module):
    """Up and down again, with a transposed convolution of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.up(torch.relu(self.down(x)))).amax((2, 3)))


MODELS: list[Callable[[], nn.Module]] = [Residual, Signed, Transposed]


def model_of(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 8, 8))
    return model.eval().to(dtype)


def images(dtype: torch.dtype, count: int = 2) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


def assert_same(mine: Tensor, plain: Tensor) -> None:
    tolerance = FLOAT64 if plain.dtype == torch.float64 else FLOAT32
    assert float((mine - plain).abs().max()) <= tolerance * float(plain.abs().max())
