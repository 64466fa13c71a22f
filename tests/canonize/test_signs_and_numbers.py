"""Numbers that do nothing are gone, and a sign belongs to the product, not to one of its factors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, composites
from tests.helpers.canonical import canonical, operations
from tests.helpers.captures import both_ways
from tests.helpers.closeness import ROUNDING, assert_close
from tests.helpers.meanings import Function, Model
from tests.helpers.numbers import numbers
from tests.helpers.rewrites import sharp

X = numbers(3, 4)
Pairwise = Callable[[Tensor, Tensor], Tensor]


class Between(nn.Module):
    """A function between a rectifier and a sigmoid, in a graph without other numbers."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.function(x.relu()))


IDENTITIES: dict[str, Function] = {
    "x + 0": lambda x: x + 0,
    "3 x / 3": lambda x: x * 3 / 3,
    "-(-x)": lambda x: -x.neg(),
    "x + 1 - 1": lambda x: x + 1 - 1,
    "x / 2 + x / 2": lambda x: x / 2 + x / 2,
    "x + y - y": lambda x: x + x.exp() - x.exp(),
    "-(0 - x)": lambda x: -(0 - x),
}


@both_ways
@pytest.mark.parametrize("name", IDENTITIES)
def test_numbers_that_do_nothing_are_gone(name: str, way: str) -> None:
    assert operations(canonical(Between(IDENTITIES[name]), X, way)) == ["relu", "sigmoid"]


KEPT: dict[str, tuple[Function, list[str]]] = {
    "0 x": (lambda x: x * 0, ["relu", "mul", "sigmoid"]),
    "2 x / 3": (lambda x: x * 2 / 3, ["relu", "mul", "div", "sigmoid"]),
    "-x": (lambda x: -x, ["relu", "neg", "sigmoid"]),
}


@pytest.mark.parametrize("name", KEPT)
def test_numbers_that_do_something_stay(name: str) -> None:
    function, expected = KEPT[name]
    assert operations(canonical(Between(function), X)) == expected


def test_the_shape_and_the_dtype_stay() -> None:
    def wider(x: Tensor) -> Tensor:
        return x[:, :1] + torch.zeros(4, dtype=torch.double)

    assert canonical(Between(wider), X).module(X)[0].shape == X.shape


def test_a_sum_that_was_written_again_is_a_term_of_others() -> None:
    """Of two sums that share terms, the first one is rewritten while others still refer to it."""

    def function(m: Model, x: Tensor) -> Tensor:
        y = m.a(x)
        u = y + (y * y + m.b(x) - y)
        return u + m.c(x) * m.c(x) + torch.relu(u)

    model = Model(function).double()
    graph = canonical(model, X)
    assert_close(graph.module(X)[0], model(X), ROUNDING)


SIGNS: dict[str, dict[str, Pairwise]] = {
    "product": {
        "-(a b)": lambda a, b: -(a * b),
        "(-a) b": lambda a, b: -a * b,
        "a (-b)": lambda a, b: a * -b,
        "a (0 - b)": lambda a, b: a * (0 - b),
        "behind a view": lambda a, b: a * (-b.unsqueeze(1)).squeeze(1),
    },
    "three factors": {
        "a b tanh(a)": lambda a, b: a * b * a.tanh(),
        "two signs": lambda a, b: -(a * b) * -a.tanh(),
        "in a function": lambda a, b: -a * b * (-a).tanh(),
    },
    "quotient": {
        "-(a / c)": lambda a, b: -(a / (b * b + 1)),
        "a / -c": lambda a, b: a / -(b * b + 1),
    },
    "gated": {
        "-(g b)": lambda a, b: -(a.sigmoid() * b),
        "g (-b)": lambda a, b: a.sigmoid() * -b,
        "(-g) b": lambda a, b: -a.sigmoid() * b,
    },
    "matrix product": {
        "-(A B)": lambda a, b: -(a @ b.mT @ b),
        "(-A) B": lambda a, b: -a @ b.mT @ b,
        "A (-B)": lambda a, b: a @ (-b).mT @ b,
        "einsum": lambda a, b: torch.einsum("ij,kj->ik", -a, b) @ b,
    },
    "square": {
        "b b": lambda a, b: b * b + a,
        "(-b) (-b)": lambda a, b: (-b) * (-b) + a,
        "both factors": lambda a, b: (lambda n: n * n)(-b) + a,
    },
    "minimum": {
        "minimum": torch.minimum,
        "-maximum": lambda a, b: -torch.maximum(-a, -b),
    },
}


@pytest.mark.parametrize("name", SIGNS)
def test_a_sign_belongs_to_the_product(name: str) -> None:
    """z⁺ tells a layer from its negative."""
    maps = []
    for function in SIGNS[name].values():
        model = Model(lambda m, x, f=function: f(m.a(x), m.b(x))).double()
        maps.append(LRPFx(model, sharp(composites.ZPlus())).attribute(X, target=1))
    assert bool(maps[0].any())
    for other in maps[1:]:
        assert_close(other, maps[0], ROUNDING)


def test_a_sign_that_others_read_stays() -> None:
    def function(m: Model, x: Tensor) -> Tensor:
        negative = -m.b(x)
        return m.a(x) * negative + negative.relu()

    names = operations(canonical(Model(function).double(), X))
    assert "neg" not in names  # it is folded into the layer
