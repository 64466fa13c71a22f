"""A grey picture that the code copies to three channels has the map of the picture with three."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import assert_close
from tests.helpers.numbers import numbers

MEAN = torch.tensor([0.48, 0.46, 0.41], dtype=torch.float64).view(3, 1, 1)
SCALE = torch.tensor([0.23, 0.22, -0.25], dtype=torch.float64).view(3, 1, 1)
Function = Callable[[Tensor], Tensor]
COPIED: dict[str, Function] = {
    "expand": lambda x: x.expand(-1, 3, -1, -1),
    "expand_as": lambda x: x.expand_as(x.new_zeros(len(x), 3, 6, 6)),
    "broadcast_to": lambda x: torch.broadcast_to(x, (len(x), 3, 6, 6)),
    "repeat": lambda x: x.repeat(1, 3, 1, 1),
    "cat": lambda x: torch.cat([x, x, x], 1),
}
NORMALIZED: dict[str, Function] = {
    "shifted and scaled": lambda x: (x - MEAN) / SCALE,
    "scaled": lambda x: x * SCALE,
    "scaled and shifted": lambda x: x * (1 / SCALE) - MEAN / SCALE,
    "divided": lambda x: x / SCALE,
}


class Network(nn.Module):
    def __init__(self, *steps: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.steps, self.first, self.last = steps, nn.Conv2d(3, 4, 3), nn.Linear(64, 3)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return self.last(self.first(x).relu().flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("composite", ["epsilon_plus", "z_plus", "epsilon_plus_flat"])
@pytest.mark.parametrize("normalized", NORMALIZED)
@pytest.mark.parametrize("copied", COPIED)
def test_grey_pictures(copied: str, normalized: str, composite: str) -> None:
    x, norm = numbers(2, 1, 6, 6), NORMALIZED[normalized]
    colours = LRPFx(Network(norm), composite).attribute(x.repeat(1, 3, 1, 1), 1)
    found = LRPFx(Network(COPIED[copied], norm), composite).attribute(x, 1)
    assert_close(found, colours.sum(1, keepdim=True))
