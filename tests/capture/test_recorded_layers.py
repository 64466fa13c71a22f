"""Layers of models that branch on data: what a recording holds means the same as the layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.numbers import numbers

STABILIZED = 1e-6
"""A recording may hold the steps of a layer, which have stabilizers of their own."""


class Grouped(nn.Module):
    """Attention whose queries share keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.others = nn.Linear(4, 8), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.queries(x).unflatten(-1, (4, 2)).transpose(1, 2)
        keys, values = self.others(x).unflatten(-1, (2, 2, 2)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(queries, keys, values, enable_gqa=True)


class Steps(nn.Module):
    """A cell, called for each step."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0] if isinstance(state, tuple) else state


class First(nn.Module):
    """The first result of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]  # type: ignore[no-any-return]


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LSTM": (lambda: First(nn.LSTM(4, 4, batch_first=True)), (3, 4)),
    "GRU cell": (lambda: Steps(nn.GRUCell(4, 4)), (2, 4)),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.InstanceNorm2d(3, affine=True)),
        (2, 4, 4),
    ),
    "grouped queries": (Grouped, (3, 4)),
    "circular padding": (lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5)),
    "log-sigmoid": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LogSigmoid()), (4,)),
    "RReLU": (lambda: nn.Sequential(nn.Linear(4, 4), nn.RReLU()), (4,)),
}


class Branching(nn.Module):
    """A layer and a head; if ``branches``, Python looks at the values."""

    def __init__(self, layer: nn.Module, width: int, branches: bool) -> None:
        super().__init__()
        self.layer, self.head, self.branches = layer, nn.Linear(width, 3), branches

    def forward(self, x: Tensor) -> Tensor:
        if self.branches and float(x.sum()) > 1e6:
            x = -x
        return self.head(self.layer(x).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", LAYERS)
def test_recorded_layers(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, x = make(), numbers(2, *shape)
    width = layer(x.float()).flatten(1).shape[1]
    plain = Branching(layer, width, branches=False).double().eval()
    branching = Branching(layer, width, branches=True).double().eval()
    branching.load_state_dict(plain.state_dict())
    lrp = LRPFx(branching, capture="record")
    relevance = lrp.attribute(x, 1)
    torch.testing.assert_close(relevance, LRPFx(plain).attribute(x, 1), rtol=0, atol=STABILIZED)
    assert lrp.audit(x, 1).closes()
