"""Left-over norms, final softmaxes, bounds and signs that are known before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import rules
from lrp_fx.composites import Composite, Uniform, operation
from lrp_fx.errors import CompositeError
from lrp_fx.rules import Stabilizer
from tests.helpers import twins
from tests.helpers.closeness import assert_close
from tests.helpers.models import Apply, seeded
from tests.helpers.numbers import numbers
from tests.helpers.twins import EPS, captures, explain, ways


@ways
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_leftover_batch_norm(dims: int, options: dict[str, Any]) -> None:
    """After a ReLU it cannot be folded: ε on its affine map, the shift absorbs."""
    norm = seeded(lambda: (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](3))
    with torch.no_grad():
        norm.running_mean.copy_(numbers(3, seed=2))
        norm.running_var.copy_(numbers(3, seed=3).square() + 0.1)
        norm.weight.copy_(numbers(3, seed=4))
        norm.bias.copy_(numbers(3, seed=5))
    x = numbers(2, 3, *[2] * dims)
    upper = numbers(*x.shape, seed=1)
    composite = Composite([(operation("normalization"), rules.Epsilon(EPS))])
    mine = explain(nn.Sequential(nn.ReLU(), norm), x, upper, composite, **options)
    assert_close(mine, twins.averaged(norm, x.relu(), upper, EPS))


@pytest.mark.parametrize(
    "last",
    [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), nn.Sequential(nn.Sigmoid(), nn.Softmax(1))],
    ids=str,
)
@captures
def test_final_softmax_is_explained_at_its_input(last: nn.Module, capture: str) -> None:
    model = seeded(lambda: nn.Linear(4, 3))
    x, upper = numbers(2, 4), numbers(2, 3, seed=1)
    expected = explain(model, x, upper, "epsilon")
    mine = explain(nn.Sequential(model, last), x, upper, "epsilon", capture=capture)
    assert torch.equal(mine, expected)


MEAN = torch.tensor([0.4, 0.1], dtype=torch.float64)[:, None, None]
SCALE = torch.tensor([-2.0, 0.5], dtype=torch.float64)[:, None, None]


def normalized_with_negative_scale(x: Tensor) -> Tensor:
    return (x - MEAN) / SCALE


def padded_with_a_value(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 0, 1), value=0.3)


def padded_then_normalized(x: Tensor) -> Tensor:
    return (F.pad(x, (1, 0, 1, 1)) - MEAN) * SCALE


def reflected(x: Tensor) -> Tensor:
    return F.pad(1 - x, (1, 1, 1, 1), mode="reflect")


def channel_by_channel(x: Tensor) -> Tensor:
    first = (x[:, 0:1] - 0.4) / -2.0
    second = x[:, 1:2] * 2 + 0.1
    return torch.cat([first, second], 1)


def channels_swapped(x: Tensor) -> Tensor:
    pieces = x.split(1, 1)
    return torch.cat([pieces[1], -pieces[0]], 1)


BEFORE: dict[str, twins.Function] = {
    "nothing": lambda x: x * 1,
    "normalized, negative scale": normalized_with_negative_scale,
    "negated": lambda x: -x,
    "subtracted from": lambda x: 1 - x,
    "padded": lambda x: F.pad(x, (1, 1, 2, 0)),
    "padded with a value": padded_with_a_value,
    "padded, then normalized": padded_then_normalized,
    "reflected": reflected,
    "channel by channel": channel_by_channel,
    "channels swapped": channels_swapped,
    "rearranged": lambda x: x.transpose(2, 3).flip(3),
}


@captures
@pytest.mark.parametrize("name", BEFORE)
def test_bounds_are_carried_to_the_first_layer(name: str, capture: str) -> None:
    """ZBox's bounds are those of the model's input, wherever the first layer stands.

    The twin: bounds that went through the same steps, each entry ordered (a negative factor swaps
    them), then the rule on the layer, then the relevance moved back by the steps' moves.
    """
    before = BEFORE[name]
    layer = seeded(lambda: nn.Conv2d(2, 3, 2, padding=1))
    x = numbers(2, 2, 4, 3).sigmoid()
    low, high = -0.25, torch.tensor([1.0, 1.5], dtype=torch.float64)[:, None, None]
    h = before(x)
    ends = [before(torch.zeros_like(x[:1]) + bound) for bound in (low, high)]
    box = twins.z_box(torch.minimum(*ends).flatten(), torch.maximum(*ends).flatten())
    shape = h.shape[1:]
    weight, bias = twins.matrix(twins.without_bias(layer), shape)[0], twins.matrix(layer, shape)[1]
    upper = numbers(*layer(h).shape, seed=1)
    at_layer = twins.linear_twin(box, weight, bias, h, upper, eps=EPS)
    moves, _ = twins.matrix(before, x.shape[1:])
    expected = (at_layer.flatten(1) @ (moves != 0).double()).reshape(x.shape)

    rule = rules.ZBox(low, high, stabilizer=Stabilizer(EPS))
    model = nn.Sequential(Apply(before), layer)
    assert_close(explain(model, x, upper, Uniform(rule), capture=capture), expected)


def test_bounds_end_at_an_activation() -> None:
    """Behind a ReLU the input's bounds say nothing that the rule could use: an error."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(3, 2)).double()
    with pytest.raises(CompositeError, match="ZBox is for first layers"):
        explain(model, numbers(1, 3), None, Uniform(rules.ZBox(0.0, 1.0)))


# Signs that are known before anything runs

MASK = torch.tensor([True, False, True])
MAYBE_NEGATIVE: dict[str, twins.Function] = {
    "where else a number": lambda x: torch.where(MASK, x.relu(), -1.0),
    "masked_fill": lambda x: x.relu().masked_fill(MASK, -1.0),
    "pad with a value": lambda x: F.pad(x.relu(), (0, 1), value=-2.0)[:, :, 1:],
    "add a negative number": lambda x: torch.cat(  # else it is part of the layer
        [x.relu()[:, :1] - 0.5, x.relu()[:, 1:] - 0.5], 1
    ),
    "add with a negative factor": lambda x: torch.add(x.relu(), x.sigmoid(), alpha=-1),
    "times a negative number": lambda x: x.relu() * -1,
    "divided by a negative number": lambda x: x.relu() / -2,
    "cat with a parameter": lambda x: torch.cat([x.relu()[:, :1], -x.relu()[:, 1:]], 1),
    "bicubic": lambda x: F.interpolate(
        F.pad(x.relu()[:, :1, :1], (2, 1, 1, 1))[:, None], (5, 3), mode="bicubic"
    )[:, 0],
    "hardtanh": lambda x: F.hardtanh(x),
    "clamp from above": lambda x: x.clamp(max=1.0),
    "gelu": lambda x: F.gelu(x),
    "leaky": lambda x: F.leaky_relu(x),
    "maximum of a window": lambda x: F.max_pool1d(x, 1),
    "odd power": lambda x: x.pow(3),
}


@pytest.mark.parametrize("name", MAYBE_NEGATIVE)
def test_negative_values_are_never_taken_for_nonnegative(name: str) -> None:
    """The branch in x⁻ must stay wherever a value can be negative: z⁺ differs where it is left out."""
    before = MAYBE_NEGATIVE[name]
    layer = seeded(lambda: nn.Linear(3, 4))
    x = numbers(2, 2, 3)
    h = before(x)
    assert float(h.min()) < 0
    upper = numbers(*layer(h).shape, seed=1)
    whole = explain(nn.Sequential(Apply(before), layer), x, upper, Uniform(rules.ZPlus()))
    at_layer = explain(layer, h, upper, Uniform(rules.ZPlus()))
    assert_close(whole, explain(before, x, at_layer))
