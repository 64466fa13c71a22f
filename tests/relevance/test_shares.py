"""Statistics share relevance out by their terms: as when they are written by sums, and as x ∂y/∂x."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import STABILIZED, assert_close
from tests.helpers.numbers import numbers
from tests.helpers.versions import not_with_2_6

Function = Callable[[Tensor], Tensor]

HOMOGENEOUS: dict[str, Function] = {
    "norm": lambda y: y.norm(dim=1),
    "norm of order 3": lambda y: torch.linalg.vector_norm(y, 3, -1, True),
    "sum of sizes": lambda y: torch.linalg.vector_norm(y, 1, (1, 2)),
    "largest size": lambda y: torch.linalg.vector_norm(y, float("inf"), -1),
    "std": lambda y: y.std((1, 2)),
    "hypot": lambda y: torch.hypot(y, y.flip(1) + 1),
    "cdist": lambda y: torch.cdist(y[:, :2], y[:, 2:]),
    "pairwise distance": lambda y: F.pairwise_distance(y[:, 0], y[:, 1], p=3, eps=0),
    "amin and amax": lambda y: torch.cat(torch.aminmax(y, dim=-1), 1),
}
"""Of degree one: the contributions x ∂y/∂x add up to the value."""

SPELLINGS: dict[str, tuple[Function, Function]] = {
    "std": (lambda y: y.std(-1), lambda y: y.var(-1).sqrt()),
    "var": (
        lambda y: y.var(-1, correction=0),
        lambda y: (y - y.mean(-1, keepdim=True)).square().mean(-1),
    ),
    "logsumexp": (lambda y: y.logsumexp(-1), lambda y: y.exp().sum(-1).log()),
    "logaddexp": (
        lambda y: torch.logaddexp(y[:, 0], y[:, 1]),
        lambda y: (y[:, 0].exp() + y[:, 1].exp()).log(),
    ),
    "logcumsumexp": (lambda y: y.logcumsumexp(-1), lambda y: y.exp().cumsum(-1).log()),
    "log-softmax": (
        lambda y: F.log_softmax(y, -1) * 1.5,
        lambda y: (y - y.exp().sum(-1, keepdim=True).log()) * 1.5,
    ),
    "prod": (lambda y: y.prod(-1), lambda y: y[..., 0] * y[..., 1] * y[..., 2]),
    "norm": (lambda y: y.norm(dim=-1), lambda y: y.square().sum(-1).sqrt()),
    "outer product": (
        lambda y: torch.linalg.cross(y[:, :2], y[:, 2:]),
        lambda y: (
            y[:, :2].roll(-1, -1) * y[:, 2:].roll(-2, -1)
            - y[:, :2].roll(-2, -1) * y[:, 2:].roll(-1, -1)
        ),
    ),
}


class Net(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.function = nn.Linear(5, 12, bias=False), function

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self.dense(x).reshape(-1, 4, 3)).reshape(len(x), -1)
        return y * torch.linspace(1, 2, y.shape[1]).to(y)


def explained(function: Function, x: Tensor, **options: Any) -> Tensor:
    lrp = LRPFx(Net(function).double().eval(), "zero", start=lambda y: y, **options)
    assert lrp.audit(x).closes()
    return lrp.attribute(x)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=not_with_2_6("has no derivative of aminmax to compare with"))
        if name == "amin and amax"
        else name
        for name in HOMOGENEOUS
    ],
)
def test_homogeneous_statistics_share_by_contributions(name: str) -> None:
    """Under the zero rule that is input × gradient, by autograd."""
    x = numbers(3, 5)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Net(HOMOGENEOUS[name]).double()(leaf).sum(), leaf)
    assert_close(explained(HOMOGENEOUS[name], x), (leaf * gradient).detach(), STABILIZED)


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("way", ["auto", "record"])
def test_statistics_mean_what_they_are_written_with(name: str, way: str) -> None:
    one, other = SPELLINGS[name]
    x = numbers(3, 5)
    assert_close(explained(one, x, capture=way), explained(other, x, capture=way), STABILIZED)


def test_equal_values_have_no_spread_to_share() -> None:
    """The ε rule stays finite; the relevance of zero is zero."""
    net = Net(lambda y: y[:, :, :1].expand(-1, -1, 3).std(-1) + y[:, :, 0]).double().eval()
    assert LRPFx(net, "epsilon").attribute(numbers(3, 5), 1).isfinite().all()
