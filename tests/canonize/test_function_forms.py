"""Functions are told apart by their values: every spelling of a function is the same known one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lrp_fx.canonize.function_forms import recognized

Function = Callable[[Tensor], Tensor]
SAME = 1e-9
"""Of two spellings of a function, of values up to ten: they cancel differently."""


def zeros(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def gate(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


SPELLINGS: dict[str, list[Function]] = {
    "relu": [
        F.relu,
        lambda x: -(-x).clamp(max=0),
        lambda x: x + F.relu(-x),
        lambda x: (x + x.abs()) / 2,
        lambda x: x * torch.heaviside(x, x.new_zeros(())),
        lambda x: x - torch.minimum(x, zeros(x)),
        lambda x: x * (1 + x.sign()) / 2,
        lambda x: F.relu(x).abs(),
    ],
    "clamp_max": [
        lambda x: -F.relu(-x),
        lambda x: x.clamp(max=0),
        lambda x: x - F.relu(x),
        lambda x: (x - x.abs()) / 2,
        lambda x: x * (x < 0),
    ],
    "abs": [
        torch.abs,
        lambda x: (-x).abs(),
        lambda x: F.relu(x) + F.relu(-x),
        lambda x: torch.maximum(x, -x),
        lambda x: x * x.sign(),
        lambda x: x.square().sqrt(),
    ],
    "softplus": [
        F.softplus,
        lambda x: -F.logsigmoid(-x),
        lambda x: torch.log1p(x.exp()),
        lambda x: torch.log(1 + x.exp()),
        lambda x: torch.logaddexp(x, zeros(x)),
        lambda x: F.relu(x) + torch.log1p(torch.exp(-x.abs())),
        lambda x: x - F.logsigmoid(x),
        lambda x: -torch.log(1 - torch.sigmoid(x)),
    ],
    "log_sigmoid": [
        F.logsigmoid,
        lambda x: -F.softplus(-x),
        lambda x: torch.log(torch.sigmoid(x)),
        lambda x: x.clamp(max=0) - torch.log1p(torch.exp(-x.abs())),
    ],
    "silu": [
        F.silu,
        lambda x: x * torch.sigmoid(x),
        lambda x: x / (1 + torch.exp(-x)),
        lambda x: x * (1 + torch.tanh(x / 2)) / 2,
        lambda x: x - x * torch.sigmoid(-x),
    ],
    "sigmoid": [
        torch.sigmoid,
        lambda x: 1 / (1 + torch.exp(-x)),
        lambda x: 0.5 + 0.5 * torch.tanh(x / 2),
        lambda x: (1 + torch.exp(-x)).rsqrt().square(),
        lambda x: torch.exp(-F.softplus(-x)),
    ],
    "tanh": [
        torch.tanh,
        lambda x: torch.sinh(x) / torch.cosh(x),
        lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
        lambda x: 1 - 2 / (torch.exp(2 * x) + 1),
        lambda x: torch.sigmoid(2 * x) - torch.sigmoid(-2 * x),
    ],
    "gelu": [
        F.gelu,
        lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
        lambda x: 0.5 * x * torch.erfc(-x / math.sqrt(2)),
        lambda x: x * torch.special.ndtr(x),
        lambda x: x + F.gelu(-x),
    ],
    "special_ndtr": [
        torch.special.ndtr,
        lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        lambda x: torch.erfc(-x / math.sqrt(2)) / 2,
    ],
    "mish": [F.mish, lambda x: x * torch.tanh(F.softplus(x))],
    "hardsigmoid": [
        F.hardsigmoid,
        gate,
        lambda x: (x / 6 + 0.5).clamp(0, 1),
        lambda x: (x / 6 + 0.5).clamp(min=0).clamp(max=1),
        lambda x: F.relu(1 - F.relu(0.5 - x / 6)),
        lambda x: (F.relu(x + 3) - F.relu(x - 3)) / 6,
        lambda x: (F.hardtanh(x / 3) + 1) / 2,
        lambda x: where(x < -3, zeros(x), where(x > 3, torch.ones_like(x), x / 6 + 0.5)),
    ],
    "hardswish": [
        F.hardswish,
        lambda x: x * gate(x),
        lambda x: where(x <= -3, zeros(x), where(x >= 3, x, x * (x + 3) / 6)),
    ],
    "hardtanh": [
        F.hardtanh,
        lambda x: -F.hardtanh(-x),
        lambda x: ((x + 1).abs() - (x - 1).abs()) / 2,
        lambda x: F.relu(x + 1) - F.relu(x - 1) - 1,
        lambda x: torch.maximum(torch.minimum(x, torch.ones_like(x)), -torch.ones_like(x)),
    ],
    "leaky_relu": [
        lambda x: F.leaky_relu(x, 0.1),
        lambda x: torch.maximum(x, 0.1 * x),
        lambda x: F.relu(x) - 0.1 * F.relu(-x),
        lambda x: 0.55 * x + 0.45 * x.abs(),
    ],
    "elu": [
        F.elu,
        lambda x: where(x > 0, x, x.exp() - 1),
        lambda x: F.relu(x) - F.relu(1 - x.exp()),
    ],
    "softshrink": [
        F.softshrink,
        lambda x: x.sign() * F.relu(x.abs() - 0.5),
        lambda x: x - x.clamp(-0.5, 0.5),
        lambda x: F.relu(x - 0.5) - F.relu(-x - 0.5),
    ],
    "hardshrink": [F.hardshrink, lambda x: x * (x.abs() > 0.5)],
    "threshold": [lambda x: F.threshold(x, 0.5, 0.2), lambda x: x.masked_fill(x <= 0.5, 0.2)],
}
NUMBERS = (0.5, -0.5, 0.2)
"""Those in the formulas of the thresholds."""


@pytest.mark.parametrize("name", SPELLINGS)
def test_each_spelling_is_the_same_known_function(name: str) -> None:
    found = [recognized(each, NUMBERS) for each in SPELLINGS[name]]
    packets = {None if each is None else str(each.packet.__name__) for each in found}
    assert packets == {name}
    x = torch.linspace(-9.9, 9.9, 301, dtype=torch.float64)
    for known, each in zip(found, SPELLINGS[name], strict=True):
        assert known is not None
        assert known.is_plain
        torch.testing.assert_close(known(x), each(x), rtol=SAME, atol=SAME)


def test_the_identity() -> None:
    known = recognized(lambda x: F.relu(x) - F.relu(-x), ())
    assert known is not None
    assert known.packet is None
    assert known.is_plain


STRANGERS: dict[str, Function] = {
    "a dead zone": lambda x: where(x > 1e-3, x, zeros(x)),
    "a step": lambda x: (x > 0).double(),
    "a far end": lambda x: F.relu(x).clamp(max=14) + 0.1 * F.relu(x - 20),
    "almost GELU": lambda x: x * torch.sigmoid(1.702 * x),
    "a step at a number beyond the grid": lambda x: where(x > 2000, zeros(x), F.relu(x)),
    "a step at the quotient of two numbers": lambda x: where(x * 0.01 > 0.5, zeros(x), F.relu(x)),
    "a step at the sum of two numbers": lambda x: where(x - 20 > 14, zeros(x), F.relu(x)),
    "a large end": lambda x: x.clamp(-3e5, 3e5),
    "a far bend": lambda x: F.relu(x) + 0.01 * F.relu(x - 20),
    "a hole at zero": lambda x: where(x == 0, torch.ones_like(x), F.relu(x)),
    "a square": torch.square,
    "infinite": lambda x: 1 / x,
    "an odd clamp": lambda x: (2 * x + 1).clamp(-1, 3).square(),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_other_functions_are_not_taken_for_known_ones(name: str) -> None:
    assert recognized(STRANGERS[name], (14, 20)) is None


SIZES = st.floats(0.05, 4.0)


@settings(max_examples=30, derandomize=True, deadline=None, database=None)
@given(slope=SIZES, scale=SIZES, low=SIZES, high=SIZES, shift=st.floats(-3, 3))
def test_parameters_are_found(
    slope: float, scale: float, low: float, high: float, shift: float
) -> None:
    """Whatever the numbers: what is recognized has the values of the function, also elsewhere."""
    functions: list[Function] = [
        lambda x: F.relu(scale * x) - slope * F.relu(-x),
        lambda x: where(x > 0, scale * x, slope * torch.expm1(x)) + shift,
        lambda x: torch.log1p(torch.exp(slope * x)) / slope,
        lambda x: (slope * x).clamp(-low, high),
        lambda x: torch.minimum(F.relu(slope * x + high / 2), x.new_tensor(high)),
        lambda x: high - F.relu(high - x),
        lambda x: x - x.clamp(-low, low),
    ]
    x = torch.linspace(-7.77, 7.77, 501, dtype=torch.float64)
    for each in functions:
        known = recognized(each, (low, high))
        assert known is not None
        torch.testing.assert_close(known(x), each(x), rtol=SAME, atol=SAME)
