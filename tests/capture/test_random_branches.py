"""A number that is drawn while a graph is made is no constant of the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import CaptureError
from tests.helpers.numbers import numbers


class Drawing(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Linear(4, 6), nn.Linear(6, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]


X = numbers(2, 4).float()
RANDOM: dict[str, Callable[[Tensor], Tensor]] = {
    "branch": lambda h: h.relu() if torch.rand(1) > 0.5 else h,
    "order of two": lambda h: h[torch.randperm(2)],
    "rarely": lambda h: h * (torch.rand(1) > 0.3),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", RANDOM)
def test_two_runs_that_agree_by_chance_prove_nothing(name: str, seed: int) -> None:
    model = Drawing(RANDOM[name]).eval()
    torch.manual_seed(seed)
    with pytest.raises(CaptureError, match="random in eval mode"):
        LRPFx(model, "epsilon").attribute(X, 1)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: (torch.rand([]), h.relu())[1],  # a layer drop that only training reads
        lambda h: F.dropout(h, 0.0).relu(),
        lambda h: F.dropout1d(h, 0.0, True).relu(),
    ],
)
def test_what_no_output_depends_on_is_allowed(function: Callable[[Tensor], Tensor]) -> None:
    found = LRPFx(Drawing(function).eval(), "epsilon").attribute(X, 1)
    expected = LRPFx(Drawing(torch.relu).eval(), "epsilon").attribute(X, 1)
    assert torch.equal(found, expected)
