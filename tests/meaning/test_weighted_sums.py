"""Gates that weight values get nothing, weights of attention half, in every spelling."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import QUOTIENTS, STABILIZED


class Pooled(nn.Module):
    """Values (N, T, D) weighted by what ``pool(module, values)`` makes of them."""

    def __init__(self, pool: Callable[[Pooled, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.value, self.key = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.queries = nn.Parameter(torch.randn(2, 4))
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self, self.value(x)).flatten(1)


X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)


def relevance(pool: Callable[[Pooled, Tensor], Tensor], composite: str = "zero") -> Tensor:
    return LRPFx(Pooled(pool).double().eval(), composite).attribute(X, 1)


def weights(m: Pooled, h: Tensor) -> Tensor:
    return (m.queries @ m.key(h).mT / 2).softmax(-1)


CONSTANT_QUERIES: dict[str, Callable[[Pooled, Tensor], Tensor]] = {
    "fused": lambda m, h: F.scaled_dot_product_attention(
        m.queries.expand(h.shape[0], -1, -1), m.key(h), h
    ),
    "matmul": lambda m, h: weights(m, h) @ h,
    "scores by a layer": lambda m, h: (F.linear(m.key(h), m.queries) / 2).softmax(1).mT @ h,
    "added up": lambda m, h: (weights(m, h).unsqueeze(-1) * h.unsqueeze(1)).sum(2),
    "einsum": lambda m, h: torch.einsum(
        "nqt,ntd->nqd", (torch.einsum("qd,ntd->nqt", m.queries, m.key(h)) / 2).softmax(-1), h
    ),
}


@pytest.mark.parametrize("name", CONSTANT_QUERIES)
@pytest.mark.parametrize("composite", ["zero", "attn_lrp", "cp_lrp"])
def test_weights_by_constant_queries_get_nothing(name: str, composite: str) -> None:
    """They are gates of a layer's scores, fused or written out."""
    x = X.clone().requires_grad_()
    model = Pooled(lambda m, h: weights(m, h).detach() @ h).double()
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    mine = relevance(CONSTANT_QUERIES[name], composite)
    near = QUOTIENTS if composite == "zero" else STABILIZED
    assert (mine - X * gradient).abs().max() <= near * mine.abs().max()


@pytest.mark.parametrize(
    "scores",
    [
        lambda m, h: h @ m.key(h).mT,
        lambda m, h: 5 * torch.tanh(h @ m.key(h).mT / 5),
        lambda m, h: (h.unsqueeze(2) * m.key(h).unsqueeze(1)).sum(-1) / math.sqrt(2) + 1,
        lambda m, h: F.linear(h.unsqueeze(2) * m.key(h).unsqueeze(1), m.queries[:1]).squeeze(-1),
    ],
)
def test_weights_of_two_activations_get_half(scores: Callable[[Pooled, Tensor], Tensor]) -> None:
    """In both spellings; with the weights held, the map is another one."""
    x = X.clone().requires_grad_()
    model = Pooled(lambda m, h: scores(m, h).softmax(-1).detach() @ h).double()
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    both = [
        relevance(lambda m, h: scores(m, h).softmax(-1) @ h),
        relevance(lambda m, h: (scores(m, h).softmax(-1).unsqueeze(-1) * h.unsqueeze(1)).sum(2)),
    ]
    assert (both[0] - both[1]).abs().max() <= QUOTIENTS * both[0].abs().max()
    assert (both[0] - X * gradient).abs().max() > 0.01 * both[0].abs().max()


class Fused(nn.Module):
    """Two branches of a convolutional network, weighted by a softmax of their pooled sum."""

    def __init__(self, by_matrix: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.score, self.head, self.by_matrix = nn.Linear(4, 2), nn.Linear(4, 2), by_matrix

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.one(x).relu(), self.two(x).relu()
        w = self.score((a + b).mean((2, 3))).softmax(1)
        both = torch.stack([a, b], 1)
        if self.by_matrix:
            y = (w.unsqueeze(1) @ both.flatten(2)).view_as(a)
        else:
            y = (w[..., None, None, None] * both).sum(1)
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("by_matrix", [False, True])
def test_branches_weighted_by_a_softmax_are_no_attention(by_matrix: bool) -> None:
    lrp = LRPFx(Fused(by_matrix).eval())
    assert "composite: EpsilonGamma" in str(lrp.plan(torch.randn(1, 3, 6, 6)))
