"""Generated code reads attributes of any name."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx
from tests.helpers.numbers import numbers

NAMES = [
    *("it's", 'say "x"', "back\\slash", "\\", "new\nline", "x\r", "a b", '"""', "'''", "\u2028"),
    *("class", "None", "lambda", "self", "torch", "getattr", "inf", "_", "1", "0a", "{x}", "%s"),
    *("ключ", "\ufb01", "e\u0301", "🙂"),
]
"""Also a ligature and an accent of its own, which Python writes in another way where it reads names."""


class Named(nn.Module):
    """A layer and a parameter of one name, beside others whose names begin alike."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.name = name
        self.kept, self.last = nn.Module(), nn.Linear(6, 3)
        self.layers = nn.ModuleDict()
        self.layers._modules[name] = nn.Linear(4, 6)
        self.layers._modules[f"{name}x"] = nn.Linear(6, 6)
        self.kept._parameters[name] = nn.Parameter(numbers(6).float())
        self._parameters[name] = nn.Parameter(numbers(6).float() + 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers._modules[self.name](x)
        h = self.layers._modules[f"{self.name}x"](h).relu()
        own = self._parameters[self.name]
        return self.last(h * self.kept._parameters[self.name] + own)  # type: ignore[no-any-return]


def assert_same(name: str) -> None:
    plain, model, x = Named("key").eval(), Named(name).eval(), numbers(2, 4).float()
    lrp = LRPFx(model, "epsilon")
    assert torch.equal(lrp.attribute(x, 1), LRPFx(plain, "epsilon").attribute(x, 1))
    with redirect_stdout(io.StringIO()):
        lrp.print_readable()
    layers = [LayerLRPFx(m, f"layers.{m.name}") for m in (plain, model)]
    assert torch.equal(layers[1].attribute(x, 1), layers[0].attribute(x, 1))


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name(name: str) -> None:
    assert_same(name)


@settings(max_examples=6, deadline=None)
@given(st.text(min_size=1, max_size=5).filter(lambda name: "." not in name))
@example("class class")
@example("#")
@example("a#1")
def test_random_names(name: str) -> None:
    if not hasattr(Named("key"), name):
        assert_same(name)
