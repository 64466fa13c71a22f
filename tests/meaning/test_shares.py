"""Shares of groups: a softmax over the edges of a graph has the map of one over a dense matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from lrp_fx import LRPFx
from lrp_fx.graph import aten
from tests.helpers.closeness import QUOTIENTS, assert_close
from tests.helpers.numbers import numbers
from tests.meaning.test_value_ranges import UNIT, Values, found

NODES = 5
SOURCE = torch.tensor([0, 1, 2, 3, 4, 0, 2, 4])
GOAL = torch.tensor([1, 2, 3, 4, 0, 2, 2, 1])


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def dense(z: Tensor, h: Tensor) -> Tensor:
    places = torch.zeros(NODES, NODES, dtype=torch.bool)
    places[GOAL, SOURCE] = True
    scores = zeros(NODES, NODES).index_put((GOAL, SOURCE), z)
    return scores.masked_fill(~places, -torch.inf).softmax(-1) @ h


def weighted(weights: Tensor, h: Tensor) -> Tensor:
    return zeros(NODES, 6).index_add(0, GOAL, weights[:, None] * h[SOURCE])


def added(z: Tensor, h: Tensor) -> Tensor:
    e = z.exp()
    return weighted(e / zeros(NODES).index_add(0, GOAL, e)[GOAL], h)


def shifted(z: Tensor, h: Tensor) -> Tensor:
    """As PyTorch Geometric writes it."""
    e = (z - (zeros(NODES) - 1e30).scatter_reduce(0, GOAL, z.detach(), "amax")[GOAL]).exp()
    total = zeros(NODES).scatter_add(0, GOAL, e) + 1e-16
    return weighted(e / total.index_select(0, GOAL), h)


def reduced(z: Tensor, h: Tensor) -> Tensor:
    e = z.exp()[:, None]
    total = zeros(NODES, 1).scatter_reduce(0, GOAL[:, None], e, "sum")
    return weighted((e / total.gather(0, GOAL[:, None])).squeeze(1), h)


def put(z: Tensor, h: Tensor) -> Tensor:
    e = z.exp()
    return weighted(e / zeros(NODES).index_put((GOAL,), e, accumulate=True)[GOAL], h)


class Network(nn.Module):
    """A layer of graph attention."""

    def __init__(self, form: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.value, self.score, self.last = nn.Linear(4, 6), nn.Linear(12, 1), nn.Linear(6, 3)
        self.form = form
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        h = self.value(x)
        z = self.score(torch.cat([h[SOURCE], h[GOAL]], 1)).squeeze(1)
        return self.last(self.form(z, h).relu())  # type: ignore[no-any-return]


X = numbers(NODES, 4)


@pytest.mark.parametrize("composite", ["zero", "z_plus"])
@pytest.mark.parametrize("form", [added, shifted, reduced, put])
def test_a_softmax_over_edges(form: Callable[[Tensor, Tensor], Tensor], composite: str) -> None:
    expected = LRPFx(Network(dense), composite).attribute(X, 1)
    assert_close(LRPFx(Network(form), composite).attribute(X, 1), expected, QUOTIENTS)


def by_sum(v: Values, start: Any = 0.0, value: fx.Node | None = None, alpha: int = 1) -> fx.Node:
    """``exp(x)`` divided by the sums of a value over groups."""
    value = v.exp(v.x) if value is None else value
    return by(v, v.index_add(start, 0, v.index, value, alpha=alpha))


def by(v: Values, total: fx.Node, index: fx.Node | None = None) -> fx.Node:
    return v.div(v.exp(v.x), v.index_select(total, 0, v.index if index is None else index))


def sums(v: Values) -> fx.Node:
    return v.index_add(0.0, 0, v.index, v.exp(v.x))


SHARES: dict[str, Callable[[Values], fx.Node]] = {
    "share": by_sum,
    "more in the sum": lambda v: by_sum(v, 1.0),
    "safe": lambda v: by(v, v.clamp_min(v.add(v.unsqueeze(sums(v), 1), 1e-9), 1e-9)),
    "scattered": lambda v: by(v, v.scatter(0.0, 0, v.index, v.exp(v.x), reduce="add")),
    "expanded index": lambda v: by(
        v, v.scatter_add(0.0, 0, v.expand(v.unsqueeze(v.index, 1), [3, 2]), v.exp(v.x))
    ),
}
OTHERS: dict[str, Callable[[Values], fx.Node]] = {
    "less in the sum": lambda v: by_sum(v, -1.0),
    "anything in the sum": lambda v: by_sum(v, v.x),
    "subtracted": lambda v: by_sum(v, alpha=-1),
    "sum of others": lambda v: by_sum(v, value=v.exp(v.neg(v.x))),
    "less than the sum": lambda v: by(v, v.sub(sums(v), 1)),
    "a multiple of the sum": lambda v: by(v, v.mul(sums(v), 0.5)),
    "not read": lambda v: v.div(v.exp(v.x), sums(v)),
    "read elsewhere": lambda v: by(v, sums(v), v.m),
    "read at two places": lambda v: v.div(
        v.exp(v.x), v.graph.call_function(aten.index, (sums(v), [v.index, v.m]))
    ),
    "read from anything": lambda v: by(v, v.x),
    "not added": lambda v: by(v, v.index_put(0.0, [v.index], v.exp(v.x))),
    "maxima": lambda v: by(v, v.scatter_reduce(0.0, 0, v.index, v.exp(v.x), "amax")),
    "signed": lambda v: v.div(
        v.tanh(v.x), v.index_select(v.index_add(0.0, 0, v.index, v.tanh(v.x)), 0, v.index)
    ),
}


@pytest.mark.parametrize("name", SHARES)
def test_shares_are_gates(name: str) -> None:
    assert found(SHARES[name]) == UNIT


@pytest.mark.parametrize("name", OTHERS)
def test_other_quotients_are_not(name: str) -> None:
    assert found(OTHERS[name]) is None
