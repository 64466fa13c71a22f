"""A recording that is the same graph as the last one is explained by the same program."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.attribution import cache as explainers

X = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x)) if x.sum() > 0 else torch.tanh(self.first(x))
        logits: Tensor = self.second(y)
        return logits


class Scaled(Branching):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(x.max())


@pytest.fixture
def rewrites() -> Iterator[mock.Mock]:
    """Counts the programs that are made."""
    with mock.patch.object(explainers, "rewrite", wraps=explainers.rewrite) as counted:
        yield counted


def _made(kind: type[nn.Module] = Branching) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


def test_the_same_branch_needs_no_new_program(rewrites: mock.Mock) -> None:
    model = _made()
    lrp = LRPFx(model)
    for new, x in ((1, X), (0, 2 * X), (1, -X), (0, -2 * X), (1, X), (1, X[:1])):
        before = rewrites.call_count
        found = lrp.attribute(x, target=0)
        assert rewrites.call_count == before + new
        assert torch.equal(found, LRPFx(model).attribute(x, target=0))


def test_other_numbers_and_weights_count(rewrites: mock.Mock) -> None:
    model = _made(Scaled)
    lrp = LRPFx(model)
    for x in (X, 2 * X, X):
        assert torch.equal(
            lrp.attribute(x, target=0), LRPFx(model, capture="record").attribute(x, target=0)
        )
    with torch.no_grad():
        model.get_parameter("first.weight").mul_(2)
    expected = LRPFx(model, capture="record").attribute(X, target=0)
    assert torch.equal(lrp.attribute(X, target=0), expected)


def test_a_changed_model_is_rewritten(rewrites: mock.Mock) -> None:
    model = _made()
    lrp = LRPFx(model)
    lrp.attribute(X, target=0)
    model.second = nn.Linear(4, 5)
    assert torch.equal(lrp.attribute(X, target=4), LRPFx(model).attribute(X, target=4))
    lrp.refresh()
    before = rewrites.call_count
    lrp.attribute(X, target=4)
    assert rewrites.call_count == before + 1
