"""Models that read numbers from values: each is a constant of its call, and the next call has its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lrp_fx import LRPFx
from tests.helpers.closeness import ROUNDING, assert_close
from tests.helpers.meanings import Function, Model
from tests.helpers.numbers import numbers


def caught(h: Tensor) -> float:
    try:
        return h.max().item()
    except RuntimeError:
        return 0.0


NUMBERS: dict[str, Callable[[Tensor], float]] = {
    "item": lambda h: h.max().item(),
    "float": lambda h: float(h.min()),
    "int": lambda h: int((h > 0).sum()),
    "tolist": lambda h: h.tolist()[0][0],
    "rounded": lambda h: round(h.max().item(), 1),
    "in words": lambda h: float(f"{h.max():.2f}"),
    "array": lambda h: np.asarray(h.detach()).min(),
    "caught": caught,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_read_is_a_constant_of_the_call(name: str) -> None:
    """Under a rule that tells signs apart, and behind a number that is added."""
    read = NUMBERS[name]

    def function(m: Model, x: Tensor) -> Tensor:
        h = m.a(x)
        return h * read(h) + m.b(x) + read(h)

    model = Model(function).double()
    lrp = LRPFx(model, "z_plus")
    for seed in range(2):
        x = numbers(2, 4, seed=seed)
        number = float(read(model.a(x).detach()))
        held = Model(lambda m, x, n=number: m.a(x) * n + m.b(x) + n).double()
        expected = LRPFx(held, "z_plus").attribute(x, target=1)
        assert_close(lrp.attribute(x, target=1), expected, ROUNDING)


TENSORS: dict[str, Function] = {
    "tensor": lambda h: torch.tensor([h.max(), 1.0, 1, 2, h.min()]),
    "as_tensor": lambda h: torch.as_tensor([[h.max(), 1.0, 1, 2, h.min()]]),
    "new_tensor": lambda h: h.new_tensor([h.max(), 1, 1, 2, h.min()]),
    "floats": lambda h: torch.tensor([float(h.max()), 1.0, 1, 2, 3], dtype=h.dtype),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_of_numbers_that_are_read(name: str) -> None:
    make = TENSORS[name]
    lrp = LRPFx(Model(lambda m, x: m.a(x) * make(m.a(x))).double(), "zero")
    for seed in range(2):
        x = numbers(2, 4, seed=seed)
        made = make(Model(make).double().a(x).detach())
        held = Model(lambda m, x, made=made: m.a(x) * made).double()
        expected = LRPFx(held, "zero").attribute(x, target=1)
        assert_close(lrp.attribute(x, target=1), expected, ROUNDING)


FAILING: dict[str, Function] = {
    "product of other sizes": lambda h: h @ torch.ones(3, 3, dtype=h.dtype),
    "view of another size": lambda h: h.view(7, 7),
    "joined": lambda h: torch.cat([h, h.mT], 1),
    "a part that is not there": lambda h: h * h[:, 9:10].expand(-1, 5),
    "an index too large": lambda h: h * h[:, 9],
    "another dtype": lambda h: h @ torch.ones(5, 5, dtype=torch.int64),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_call_that_fails_is_not_computed_again(name: str) -> None:
    """The model's code goes on without it."""
    fails = FAILING[name]

    def function(m: Model, x: Tensor) -> Tensor:
        h = m.a(x)
        try:
            return fails(h)
        except (RuntimeError, IndexError):
            return h * 2

    mine = LRPFx(Model(function).double(), "zero")
    plain = LRPFx(Model(lambda m, x: m.a(x) * 2).double(), "zero")
    for seed in range(2):
        x = numbers(2, 4, seed=seed)
        assert_close(mine.attribute(x, target=1), plain.attribute(x, target=1), ROUNDING)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.a(x) * np.float64(2) / np.sqrt(x.shape[1]),
        lambda m, x: torch.nn.functional.leaky_relu(m.a(x), np.float32(0.5)),
        lambda m, x: m.a(x).softmax(np.int64(1)),
    ],
)
def test_numbers_of_numpy_are_read_symbolically(function: Function) -> None:
    """Generated code knows no NumPy, so they become numbers of Python."""
    model, x = Model(function).double(), numbers(2, 4)
    found = LRPFx(model, "epsilon", capture="symbolic").attribute(x, target=1)
    expected = LRPFx(model, "epsilon", capture="record").attribute(x, target=1)
    assert_close(found, expected, ROUNDING)
