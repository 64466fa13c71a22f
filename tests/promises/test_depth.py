"""Deep models and long loops: no recursion that grows with them, and work in line with their nodes."""

from __future__ import annotations

import cProfile
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from lrp_fx import LRPFx
from lrp_fx.graph import depends_on_inputs
from tests.helpers.closeness import CLOSES, assert_close
from tests.helpers.models import seeded
from tests.helpers.numbers import numbers

DEEP = 200
"""Modules inside each other; torch itself runs 230 or so."""


def test_modules_nested_deeply() -> None:
    """A reading needs as many frames of Python for each of them as the model itself."""
    model: nn.Module = seeded(lambda: nn.Linear(4, 4))
    weight = next(iter(model.parameters())).detach()
    bias = list(model.parameters())[1].detach()
    for _ in range(DEEP):
        model = nn.Sequential(model)
    x = numbers(1, 4)
    found: list[Tensor] = []

    def explain() -> None:
        found.append(LRPFx(model, "zero").attribute(x, 1))

    thread = threading.Thread(target=explain)  # the stack of the test runner is left behind
    thread.start()
    thread.join()
    z = weight[1] @ x[0] + bias[1]
    assert_close(found[0], weight[1] * x * (z / z), CLOSES)


class Chain(nn.Module):
    """600 products in a row, by a number or by a gate."""

    def __init__(self, is_gated: bool) -> None:
        super().__init__()
        self.first, self.is_gated = nn.Linear(4, 4), is_gated

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        gate = torch.sigmoid(y) if self.is_gated else 1.0001
        for _ in range(600):
            y = y * gate
        return y


@pytest.mark.parametrize("is_gated", [pytest.param(False, marks=pytest.mark.slow), True])
def test_products_in_a_row(is_gated: bool) -> None:
    model = seeded(lambda: Chain(is_gated))
    x = numbers(1, 4)
    expected = LRPFx(nn.Sequential(model.first), "zero").attribute(x, 1)
    with torch.no_grad():
        expected = expected * (model(x)[0, 1] / model.first(x)[0, 1])
    assert_close(LRPFx(model, "zero").attribute(x, 1), expected, CLOSES)


# Work


class Residual(nn.Module):
    """Blocks of two linear layers around a ReLU, four nodes each."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.pairs = nn.ModuleList(
            nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for first, second in self.pairs:
            x = x + second(torch.relu(first(x)))
        return x


class Gated(nn.Module):
    """An element-wise recurrence, ``c ← f c + i v``."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.f, self.i, self.v = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        f, i, v = torch.sigmoid(self.f(x)), torch.sigmoid(self.i(x)), torch.tanh(self.v(x))
        c = v
        for _ in range(self.steps):
            c = c * f + i * v
        return c


class WithMemory(nn.Module):
    """The same with a state that also enters the gates; the first state is a constant."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(2, 2), nn.Linear(2, 2)
        self.register_buffer("start", torch.zeros(2))
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        c = self.start
        for _ in range(self.steps):
            f = torch.sigmoid(self.x(x) + self.h(c))
            c = f * c + (1 - f) * torch.tanh(x)
        return c


def test_a_value_is_seen_to_depend_on_an_input_at_once() -> None:
    """The walk through a recurrence ends at the input of the last step, not at the first state."""
    graph = fx.Graph()
    x, c = graph.placeholder("x"), graph.get_attr("start")
    for _ in range(1000):
        gate = graph.call_function(torch.sigmoid, (x,))
        kept = graph.call_function(torch.mul, (gate, c))
        c = graph.call_function(torch.add, (kept, gate))
    profile = cProfile.Profile()
    assert profile.runcall(depends_on_inputs, c)
    assert sum(entry.callcount for entry in profile.getstats()) < 100


def work(model: nn.Module) -> int:
    """Calls of functions for the first map."""
    profile = cProfile.Profile()
    lrp, x = LRPFx(model.eval(), "epsilon"), torch.ones(1, 2)
    profile.enable()
    lrp.attribute(x, 1)
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats())


SLACK = 1.15
"""Of the work for one more node; a walk over all nodes for each node would double it."""


def check_work(make: Callable[[int], nn.Module], sizes: tuple[int, int, int]) -> None:
    work(make(2))  # what is imported and cached once
    small, middle, large = (work(make(size)) for size in sizes)
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert (large - middle) / second <= SLACK * (middle - small) / first


@pytest.mark.parametrize("make", [Residual, Gated, WithMemory])
def test_work_grows_with_the_nodes(make: Callable[[int], nn.Module]) -> None:
    """The next blocks cost no more than the first."""
    check_work(make, (6, 12, 24))


@pytest.mark.slow
@pytest.mark.parametrize("make", [Residual, Gated, WithMemory])
def test_work_of_four_thousand_nodes(make: Callable[[int], nn.Module]) -> None:
    check_work(make, (50, 100, 1000))
