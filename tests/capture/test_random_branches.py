"""A number that is drawn while a graph is made is no constant of the model."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
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


def by_half(h: Tensor, number: float) -> Tensor:
    """Another branch in half of the calls, so that two calls often agree."""
    return h.relu() if number > 0.5 else h


OWN: dict[str, tuple[Callable[[], Any], Callable[[Any, Tensor], Tensor]]] = {
    "torch": (torch.Generator, lambda g, h: h * torch.rand(6, generator=g)),
    "torch, a branch": (
        torch.Generator,
        lambda g, h: by_half(h, float(torch.rand(1, generator=g))),
    ),
    "numpy": (np.random.default_rng, lambda g, h: by_half(h, g.random())),
    "bits of numpy": (np.random.PCG64, lambda g, h: by_half(h, g.random_raw() / 2**64)),
    "old numpy": (np.random.RandomState, lambda g, h: by_half(h, g.rand())),
    "python": (random.Random, lambda g, h: by_half(h, g.random())),
    "a method": (lambda: random.Random(0).random, lambda g, h: by_half(h, g())),
    "in a list": (lambda: [random.Random(0)], lambda g, h: by_half(h, g[0].random())),
}


class Holding(Drawing):
    """A model with a random generator of its own."""

    def __init__(self, held: Any, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__(lambda h: function(self.held, h))
        self.held = held


@pytest.mark.parametrize("name", OWN)
def test_a_generator_of_its_own_makes_a_model_random(name: str) -> None:
    make, function = OWN[name]
    with pytest.raises(CaptureError, match="random in eval mode"):
        LRPFx(Holding(make(), function).eval(), "epsilon").attribute(X, 1)


@pytest.mark.parametrize(
    ("held", "function"),
    [
        (torch.Generator(), lambda g, h: h * torch.ones(6).normal_(generator=g.manual_seed(1))),
        (random.Random(0), lambda g, h: h * (g.seed(1) or g.random())),
        (np.random.RandomState(0), lambda g, h: h * (g.seed(1) or g.rand())),
        (random.Random(0), lambda g, h: h.relu()),
    ],
    ids=["torch", "python", "numpy", "not used"],
)
def test_a_generator_that_is_seeded_in_each_call_does_not(
    held: Any, function: Callable[[Any, Tensor], Tensor]
) -> None:
    model = Holding(held, function).eval()
    lrp = LRPFx(model, "epsilon")
    expected = model(X).detach()
    torch.testing.assert_close(lrp.explained_output(X), expected)
    lrp.attribute(X, 1)


def test_the_users_generator_is_left_alone() -> None:
    for held in (torch.Generator(), random.Random(0)):
        model = Holding(held, OWN["torch" if isinstance(held, torch.Generator) else "python"][1])
        read = held.get_state if isinstance(held, torch.Generator) else held.getstate
        before = read()
        with pytest.raises(CaptureError):
            LRPFx(model.eval(), "epsilon").attribute(X, 1)
        assert torch.equal(before, read()) if isinstance(before, Tensor) else before == read()
