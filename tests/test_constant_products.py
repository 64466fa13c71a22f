"""Products with a constant, in every spelling, have the map of the linear layer that they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from twins import assert_close, numbers, seeded

from lrp_fx import LRPFx, rules
from lrp_fx.composites import Composite, Uniform, dense, first
from lrp_fx.errors import UnsupportedOperationError

CLOSES = 1e-9
"""Of Σ |terms|: the ledger's own promise in float64."""
COMPOSITES: dict[str, Any] = {
    "zero": "zero",
    "epsilon": "epsilon",
    "z_plus": "z_plus",
    "epsilon_plus_flat": "epsilon_plus_flat",
    "alpha-beta": Uniform(rules.AlphaBeta(2, 1)),
    "generalized gamma": Uniform(rules.GeneralizedGamma(0.25)),
    "w²": Uniform(rules.WSquare()),
    "second layer": Composite([(first(), rules.Epsilon(0.1)), (dense, rules.ZPlus())]),
}
Product = Callable[[Tensor, Tensor, Tensor], Tensor]


class Net(nn.Module):
    """A layer, a product with a constant with a bias or without, and a layer."""

    def __init__(self, form: Product) -> None:
        super().__init__()
        self.a, self.h = nn.Linear(6, 8), nn.Linear(7, 4)
        self.w, self.b = nn.Parameter(torch.randn(7, 8)), nn.Parameter(torch.randn(7))
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.h(torch.relu(self.form(torch.tanh(self.a(x)), self.w, self.b)))


def check(form: Product, twin: Product, composite: Any, **options: Any) -> None:
    """One map, under both engines, batch or single, and a closed ledger."""
    x = numbers(3, 6)
    model, other = seeded(lambda: Net(form)), seeded(lambda: Net(twin))
    expected = LRPFx(other, composite).attribute(x, 1)
    lrp = LRPFx(model, composite, **options)
    found = lrp.attribute(x, 1)
    assert_close(found, expected)
    assert_close(LRPFx(model, composite, propagation="gradient").attribute(x, 1), expected)
    assert_close(torch.cat([lrp.attribute(each[None], 1) for each in x]), expected)
    assert lrp.audit(x, 1).closes(CLOSES)


def plain(y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(y, w)


def biased(y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(y, w, b)


PLAIN: dict[str, Product] = {
    "y @ W.T": lambda y, w, b: y @ w.T,
    "einsum": lambda y, w, b: torch.einsum("bi,oi->bo", y, w),
    "einsum, W first": lambda y, w, b: torch.einsum("oi,bi->bo", w, y),
    "einsum, implicit": lambda y, w, b: torch.einsum("ai,bi", y, w),
    "einsum, upper case": lambda y, w, b: torch.einsum("B i, O i -> B O", y, w),
    "einsum, ellipsis": lambda y, w, b: torch.einsum("...i,oi->...o", y, w),
    "einsum, ellipsis of both": lambda y, w, b: torch.einsum("...i,...oi->...o", y, w),
    "einsum, output first": lambda y, w, b: torch.einsum("bi,oi->ob", y, w).T,
    "einsum, sublists": lambda y, w, b: torch.einsum(y, [0, 1], w, [2, 1], [0, 2]),
    "(W @ y.T).T": lambda y, w, b: (w @ y.t()).t(),
    "W @ y[..., None]": lambda y, w, b: (w @ y.unsqueeze(-1)).squeeze(-1),
    "mm": lambda y, w, b: torch.mm(y, w.t()),
    "bmm": lambda y, w, b: torch.bmm(y[:, None], w.t().expand(len(y), 8, 7))[:, 0],
    "bmm, W first": lambda y, w, b: torch.bmm(w.expand(len(y), 7, 8), y[:, :, None])[:, :, 0],
    "y @ w_i": lambda y, w, b: torch.stack([y @ w[i] for i in range(7)], 1),
    "mv": lambda y, w, b: torch.stack([torch.mv(y, w[i]) for i in range(7)], 1),
    "inner": lambda y, w, b: torch.inner(y, w),
    "inner, W first": lambda y, w, b: torch.inner(w, y).T,
    "tensordot": lambda y, w, b: torch.tensordot(y, w, dims=([1], [1])),
    "tensordot, W first": lambda y, w, b: torch.tensordot(w, y, dims=([1], [1])).T,
    "addmm of zeros": lambda y, w, b: torch.addmm(torch.zeros_like(b), y, w.t()),
    "two constants": lambda y, w, b: torch.einsum("bi,ij,oj->bo", y, torch.eye(8).to(y), w),
    "heads": lambda y, w, b: torch.einsum(
        "bhi,hio->bo", y.reshape(-1, 2, 4), w.T.reshape(2, 4, 7)
    ),
}
BIASED: dict[str, Product] = {
    "y @ W.T + b": lambda y, w, b: y @ w.T + b,
    "b + y @ W.T": lambda y, w, b: b + y @ w.T,
    "a bias of each sample's shape": lambda y, w, b: y @ w.T + b[None],
    "W @ y": lambda y, w, b: (w @ y.t() + b[:, None]).t(),
    "W @ y[..., None]": lambda y, w, b: (w @ y.unsqueeze(-1) + b[:, None]).squeeze(-1),
    "einsum": lambda y, w, b: torch.einsum("...i,oi->...o", y, w) + b,
    "einsum, output first": lambda y, w, b: (torch.einsum("bi,oi->ob", y, w) + b[:, None]).T,
    "addmm": lambda y, w, b: torch.addmm(b, y, w.t()),
    "minus": lambda y, w, b: y @ w.T - (-b),
    "subtracted": lambda y, w, b: b - y @ (-w.T),
    "negated": lambda y, w, b: -(y @ -w.T) + b,
    "scaled": lambda y, w, b: (y @ (w.T / b.exp())) * b.exp() + b,
    "scaled by numbers": lambda y, w, b: (y @ w.T / -2 + b / -2) * -2 + 2 * b - b * 2,
    "divided": lambda y, w, b: (y @ (w.T * b.exp()) + b * b.exp()) / b.exp(),
    "W @ y, scaled": lambda y, w, b: ((w / b[:, None]) @ y.T * b[:, None] + b[:, None]).T,
    "einsum, scaled": lambda y, w, b: (
        torch.einsum("bi,oi->ob", y, w / b[:, None]) * b[:, None] + b[:, None]
    ).T,
}


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("form", PLAIN)
def test_spellings(form: str, composite: str) -> None:
    check(PLAIN[form], plain, COMPOSITES[composite])


@pytest.mark.parametrize("composite", ["zero", "z_plus", "generalized gamma", "w²"])
@pytest.mark.parametrize("form", BIASED)
def test_spellings_with_a_bias(form: str, composite: str) -> None:
    check(BIASED[form], biased, COMPOSITES[composite])
