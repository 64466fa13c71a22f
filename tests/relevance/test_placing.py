"""Entries that are written, placed and chosen: relevance goes back to where each came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import QUOTIENTS, STABILIZED, assert_close
from tests.helpers.models import Applied
from tests.helpers.numbers import numbers

PAIRS = torch.tensor([0, 0, 1, 2])


def by_mask(y: Tensor) -> Tensor:
    y = y.clone()
    y[y < 0] = 0
    return y


def other(y: Tensor) -> Tensor:
    return y.flip(1) * 0.5


PLACED: dict[str, Callable[[Tensor], Tensor]] = {
    "by a mask": by_mask,
    "index_put": lambda y: y.index_put((torch.arange(3)[:, None], PAIRS[1:]), other(y)[:, 1:]),
    "scatter": lambda y: y.scatter(1, PAIRS[1:].expand(3, 3), other(y)[:, 1:]),
    "scatter of a number": lambda y: y.scatter(1, PAIRS[1:].expand(3, 3), 0.5),
    "masked_scatter": lambda y: y.masked_scatter(torch.eye(3, 4) > 0, other(y)),
    "index_copy": lambda y: y.index_copy(1, PAIRS[1:], other(y)[:, 1:]),
    "index_fill": lambda y: y.index_fill(1, PAIRS, 0.5),
    "diagonal_scatter": lambda y: y.diagonal_scatter(other(y)[:, 0]),
    "tril": lambda y: y.tril(),
    "diag_embed": lambda y: y.diag_embed().flatten(1),
    "windows by strides": lambda y: y.as_strided((3, 3, 2), (4, 1, 1)).flatten(1),
    "windows of blocks": lambda y: (
        y.reshape(3, 2, 2, 1).expand(3, 2, 2, 2).contiguous().as_strided((3, 3, 2, 2), (8, 2, 2, 1))
    ).flatten(1),
    "rot90": lambda y: y.rot90(2).flip(0),
    "broadcast_tensors": lambda y: torch.cat(torch.broadcast_tensors(y, y[:, :1]), 1),
    "meshgrid": lambda y: torch.stack(torch.meshgrid(y[:, 0], y[0], indexing="ij")).sum(0),
    "take": lambda y: y.take(torch.arange(12).flip(0).view(3, 4)),
    "take_along_dim": lambda y: y.take_along_dim(y.argsort(1), 1),
    "minimum": lambda y: torch.minimum(y, other(y)),
    "maximum": lambda y: torch.maximum(y, torch.zeros(())),
    "scatter_add": lambda y: y.scatter_add(1, PAIRS.expand(3, 4), other(y)),
    "index_add": lambda y: y.index_add(1, PAIRS, other(y), alpha=2),
    "reduced by scatter": lambda y: y.scatter_reduce(1, PAIRS.expand(3, 4), other(y), "amax"),
    "segments": lambda y: (
        torch.segment_reduce(y.T.contiguous(), "mean", lengths=torch.tensor([1, 3]), unsafe=True).T
    ),
    "mean of groups": lambda y: y.scatter_reduce(
        1, PAIRS.expand(3, 4), other(y), "mean", include_self=False
    ),
    "index_reduce": lambda y: y.index_reduce(1, PAIRS, other(y), "amin"),
    "added by index_put": lambda y: y.index_put((torch.arange(3),), other(y), accumulate=True),
}


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.function = nn.Linear(5, 4, bias=False), function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(self.dense(x))
        return y * torch.linspace(1, 2, y.shape[1]).to(y)


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("name", PLACED)
@pytest.mark.parametrize("engine", ["direct", "gradient"])
def test_entries_go_back_to_where_they_came_from(name: str, engine: Any) -> None:
    """Under the zero rule that is input × gradient, by autograd; the ledger closes."""
    net, x = Net(PLACED[name]).double().eval(), numbers(3, 5)
    lrp = LRPFx(net, "zero", propagation=engine, start=lambda y: y)
    leaf = x.clone().requires_grad_()
    y = net(leaf)
    (gradient,) = torch.autograd.grad(y.sum(), leaf)
    expected = (leaf * gradient).detach()
    mine = lrp.attribute(x)
    assert_close(mine, expected, STABILIZED)
    assert lrp.audit(x).closes()
    assert lrp.attribute(x, create_graph=True).requires_grad


def test_a_recorded_call_knows_how_many_places_values_choose() -> None:
    def windows(y: Tensor) -> Tensor:
        chosen = y[:, (y[0] > -10).nonzero()[:, 0]]  # all of them
        return chosen.as_strided((3, 3, 2), (4, 1, 1)).flatten(1)

    net, x = Net(windows).double().eval(), numbers(3, 5)
    plain = Net(PLACED["windows by strides"]).double().eval()
    lrp, other = (LRPFx(m, "zero", start=lambda y: y, capture="record") for m in (net, plain))
    assert_close(lrp.attribute(x), other.attribute(x), STABILIZED)


@pytest.mark.filterwarnings("ignore:The reduce argument")
@pytest.mark.filterwarnings("ignore:The function 'scatter_reduce")
def test_a_product_of_groups_gives_each_factor_the_same() -> None:
    """Each target entry that is named once is a product of two factors."""

    def product(y: Tensor) -> Tensor:
        return torch.ones_like(y).scatter(1, PAIRS[1:].expand(3, 3), y[:, 1:], reduce="multiply")

    net, x = Net(product).double().eval(), numbers(3, 5)
    lrp = LRPFx(net, "zero", start=lambda y: y)
    named = net(x)[:, :3]
    assert_close(lrp.attribute(x).sum(1), named.sum(1) / 2, STABILIZED)
    assert lrp.audit(x).closes()


class Accumulating(nn.Module):
    """Adds up columns by writing to the same place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        places = (torch.tensor([0, 0, 1, 2]),)
        zeros = torch.zeros(4, len(x), dtype=x.dtype)
        return self.last(zeros.index_put(places, self.first(x).T, accumulate=True).T)  # type: ignore[no-any-return]


def test_what_is_added_by_writing_has_the_rule_of_sums() -> None:
    """Under zero it has no ε, and so all relevance arrives."""
    torch.manual_seed(0)
    model, x = Accumulating().double(), torch.randn(3, 4, dtype=torch.float64)
    lrp = LRPFx(model, "zero")
    assert (lrp.attribute(x, 1).sum(1) - model(x)[:, 1]).abs().max() <= 1e-12


REPEATS = torch.tensor([1, 2, 0, 1, 1, 1])


def _transposed(y: Tensor) -> Tensor:
    return y[:, :, None].permute(2, 1, 0).T[:, :, 0]


@pytest.mark.filterwarnings("ignore:The use of `x.T` on tensors of dimension other than 2")
@pytest.mark.parametrize("way", ["auto", "export", "record"])
@pytest.mark.parametrize(
    "function",
    [
        _transposed,
        lambda y: y.repeat_interleave(REPEATS, 1),
    ],
    ids=["T", "repeat_interleave"],
)
def test_routing_in_odd_forms(function: Callable[[Tensor], Tensor], way: str) -> None:
    """Without biases ε → 0 gives input times gradient."""
    torch.manual_seed(0)
    model = Applied(function).double().eval()
    x = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    found = LRPFx(model, "zero", capture=way).attribute(x.detach(), 1)
    assert (found - x.detach() * gradient).abs().max() <= QUOTIENTS
