"""Norms and statistics are held, in every spelling."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import QUOTIENTS, assert_close
from tests.helpers.meanings import Function, Model, X, held, relevance, two
from tests.helpers.numbers import numbers


def einsum_norm(v: Tensor) -> Tensor:
    return v / torch.einsum("nd,nd->n", v, v).sqrt().unsqueeze(1)


def bmm_norm(v: Tensor) -> Tensor:
    return v / torch.bmm(v.unsqueeze(1), v.unsqueeze(2)).sqrt().squeeze(2)


def matmul_norm(v: Tensor) -> Tensor:
    return v / torch.matmul(v.unsqueeze(-2), v.unsqueeze(-1)).squeeze(-1).sqrt()


def reshaped_norm(v: Tensor) -> Tensor:
    square = torch.bmm(v.reshape(-1, 1, 5), v.reshape(-1, 1, 5).transpose(1, 2))
    return v * square.reshape(-1, 1).rsqrt()


NORMS: dict[str, Function] = {
    "normalize": lambda v: F.normalize(v, dim=1),
    "norm": lambda v: v / v.norm(dim=1, keepdim=True),
    "vector_norm": lambda v: v / torch.linalg.vector_norm(v, dim=-1, keepdim=True),
    "vecdot": lambda v: v / torch.linalg.vecdot(v, v).sqrt().unsqueeze(-1),
    "pow": lambda v: v / v.pow(2).sum(1, keepdim=True).sqrt(),
    "rsqrt": lambda v: (v * torch.rsqrt((v * v).mean(1, keepdim=True))) / math.sqrt(5),
    "scaled": lambda v: 3 * v / (3 * v).norm(dim=1, keepdim=True),
    "einsum": einsum_norm,
    "einsum by an ellipsis": lambda v: v / torch.einsum("...d,...d->...", v, v).sqrt().unsqueeze(1),
    "power": lambda v: v * (v**2).sum(-1, True).pow(-0.5),
    "bmm": bmm_norm,
    "matmul": matmul_norm,
    "bmm of reshaped": reshaped_norm,
    "bmm, indexed": lambda v: v / torch.bmm(v[:, None], v[..., None])[:, 0].sqrt(),
    "bmm, indexed twice": lambda v: v / torch.bmm(v[:, None], v[..., None])[:, 0, 0, None].sqrt(),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_held(name: str) -> None:
    norm = NORMS[name]
    mine = relevance(lambda m, x: norm(m.a(x)), X)
    expected = held(lambda m, x: m.a(x) / m.a(x).norm(dim=1, keepdim=True).detach(), X)
    assert_close(mine, expected, QUOTIENTS)


def test_norms_of_two_towers() -> None:
    """Each norm is the statistic of its own factor, wherever the quotients are written."""
    sums = [
        two(lambda u, v: (F.normalize(u) * F.normalize(v)).sum(1)),
        two(lambda u, v: (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))),
        two(
            lambda u, v: ((u * v) / u.norm(dim=1, keepdim=True) / v.norm(dim=1, keepdim=True)).sum(
                1
            )
        ),
    ]
    for mine in sums[1:]:
        assert_close(mine[0], sums[0][0], QUOTIENTS)
    assert_close(sums[0][0], sums[0][1], QUOTIENTS)


STATISTICS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "variance": lambda v: (v - v.mean(1, keepdim=True), v.var(1, keepdim=True)),
    "mean of squares": lambda v: (
        v - v.mean(1, keepdim=True),
        (v - v.mean(1, keepdim=True)).square().mean(1, keepdim=True),
    ),
    "std": lambda v: (v, v.std(1, keepdim=True)),
    "largest": lambda v: (v, v.amax(1, keepdim=True)),
    "max of a dim": lambda v: (v, v.max(1, keepdim=True)[0]),
    "logsumexp": lambda v: (v, v.logsumexp(1, keepdim=True)),
    "product": lambda v: (v, v.prod(1, keepdim=True)),
    "running sum": lambda v: (v, v.abs().cumsum(1)),
    "window": lambda v: (v, F.avg_pool1d(v.abs().unsqueeze(1), 3, 1, 1).squeeze(1)),
    "window's maximum": lambda v: (v, F.max_pool1d(v.abs().unsqueeze(1), 3, 1, 1).squeeze(1)),
    "of a part of the value": lambda v: (v[:, :2], v.norm(dim=1, keepdim=True)),
    "of the same part": lambda v: (v[:, 1:3], v[:, 1:3].norm(dim=1, keepdim=True)),
    "of a function": lambda v: (v.relu(), v.tanh().norm(dim=1, keepdim=True)),
    "in parts side by side": lambda v: (v, torch.cat([v, v * 2], 1).norm(dim=1, keepdim=True)),
    "refined": lambda v: (v, v.mean(1, keepdim=True) * v.mean(1, keepdim=True).tanh()),
    "spread": lambda v: (v.unsqueeze(1), F.interpolate(v.amax(1)[:, None, None], size=5)),
}


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("divided", [False, True])
def test_a_statistic_gets_nothing(name: str, divided: bool) -> None:
    pair = STATISTICS[name]

    def model(detached: bool) -> Callable[..., Tensor]:
        def function(m: Model, x: Tensor) -> Tensor:
            value, statistic = pair(m.a(x))
            statistic = statistic.detach() if detached else statistic
            y = value / statistic if divided else value * statistic
            return F.pad(y.flatten(1), (0, 5 - y.flatten(1).shape[1]))

        return function

    x = numbers(3, 4, seed=5)
    assert_close(relevance(model(False), x), held(model(True), x), 1e-8)


NO_STATISTICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean of the other tower": lambda u, v: u.mean(1, keepdim=True) * v,
    "sum": lambda u, v: u.sum(1, keepdim=True) * v,
    "maximum": lambda u, v: u.max(1, keepdim=True)[0] * v,
    "window": lambda u, v: F.avg_pool1d(u.unsqueeze(1), 3, 1, 1).squeeze(1) * v,
    "of both": lambda u, v: (u + v).mean(1, keepdim=True) * v,
    "over the batch": lambda u, v: u.amax(0, keepdim=True) * u.tanh() * v,
    "over everything": lambda u, v: u.abs().sum() * u.tanh() * v,
    "of another part": lambda u, v: u[:, :2].mean(1, keepdim=True) * u[:, 2:],
    "two means": lambda u, v: u.mean(1, keepdim=True) * v.mean(1, keepdim=True),
}


@pytest.mark.parametrize("name", NO_STATISTICS)
def test_what_reduces_another_value_is_a_signal(name: str) -> None:
    """Each factor gets its share; over the batch each of three factors gets a third."""
    function = NO_STATISTICS[name]

    class Towers(nn.Module):
        def forward(self, u: Tensor, v: Tensor) -> Tensor:
            return function(u * 1, v * 1).flatten(1) + 0 * v[:, :1]

    inputs = numbers(2, 5, seed=3), numbers(2, 5, seed=4)
    plan = str(LRPFx(Towers()).plan(*inputs))
    assert "Gate()" not in plan
    assert "Half(" in plan


def test_a_statistic_of_a_gate_and_one_of_another_value() -> None:
    """A pooled value times a gate: the pooled value is the signal."""
    first, second = two(lambda u, v: u.mean(1, keepdim=True) * torch.sigmoid(v))
    assert bool(first.any())
    assert not second.any()


def test_local_response_norm() -> None:
    norm = nn.LocalResponseNorm(3, alpha=0.5, k=2.0)

    def model(m: Model, x: Tensor, hold: bool = False) -> Tensor:
        h = m.a(x).reshape(-1, 5, 1)
        y = norm(h)
        return (h * (y / h).detach() if hold else y).flatten(1)

    assert_close(relevance(model, X), held(lambda m, x: model(m, x, True), X), QUOTIENTS)
