"""Outputs with structure, arguments of all kinds, several inputs."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import OptionError
from tests.helpers.captures import after, both_ways, signal
from tests.helpers.closeness import ROUNDING, STABILIZED_SUMS, distance
from tests.helpers.models import TwoInputs
from tests.helpers.numbers import numbers


class Named(NamedTuple):
    """A model output with names."""

    scores: Tensor
    features: Tensor


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], int | str]] = {
    "dict": (lambda y: {"features": y, "scores": y.mean((2, 3))}, "scores"),
    "ordered dict": (
        lambda y: collections.OrderedDict(scores=y.mean((2, 3)), features=y),
        "scores",
    ),
    "tuple": (lambda y: (y, y.mean((2, 3))), 1),
    "list": (lambda y: [y, 3, y.mean((2, 3))], -1),
    "named tuple": (lambda y: Named(y.mean((2, 3)), y), 0),
    "one of a tuple": (lambda y: (y.mean((2, 3)), "remark", None), 0),
    "nested": (lambda y: {"a": (y, y), "b": y.mean((2, 3))}, "b"),
}


@both_ways
@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_with_structure(name: str, way: str) -> None:
    """``output=`` chooses; the map is that of a model which returns that one alone."""
    function, key = OUTPUTS[name]
    model, alone = after(function), after(lambda y: y.mean((2, 3)))
    x = signal(model)
    found = LRPFx(model, output=key, capture=way).attribute(x, target=1)
    assert distance(found, LRPFx(alone).attribute(x, target=1)) <= ROUNDING


@both_ways
def test_an_output_that_is_not_there_is_an_error(way: str) -> None:
    """The error lists what there is."""
    model = after(OUTPUTS["dict"][0])
    with pytest.raises(OptionError, match="'features', 'scores'"):
        LRPFx(model, capture=way, output="logits").attribute(signal(model), target=0)


class Optional(nn.Module):
    """Arguments of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(
        self,
        x: Tensor,
        scale: float,
        mode: str,
        others: list[Tensor],
        settings: dict[str, Any],
        nothing: None = None,
    ) -> Tensor:
        y = self.dense(x * scale) + others[0]
        if mode == "negative":
            y = -y
        return y * others[1] if settings["second"] else y


@both_ways
def test_additional_arguments(way: str) -> None:
    """Numbers, strings, lists and dicts of tensors go to the model; another value is another reading."""
    torch.manual_seed(0)
    model, x = Optional().double(), numbers(2, 4)
    others = [numbers(2, 3, seed=1), numbers(3, seed=2)]
    lrp = LRPFx(model, "epsilon", capture=way)
    for scale, mode, second in ((1.0, "positive", True), (2.0, "negative", False), (1.0, "", True)):
        additional = (scale, mode, others, {"second": second})
        found, delta = lrp.attribute(x, 1, additional, return_convergence_delta=True)
        sign = -1 if mode == "negative" else 1
        factor = others[1][1] if second else 1.0
        weight = model.dense.weight[1]
        assert distance(found, (x * scale * weight * sign * factor).detach()) <= STABILIZED_SUMS
        rest = sign * factor * (others[0][:, 1] + model.dense.bias[1])
        assert distance(delta, rest.detach()) <= STABILIZED_SUMS


def test_arguments_are_told_apart_by_all_their_values() -> None:
    """The text of a large numpy array leaves most of it out."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(4, 3)

        def forward(self, x: Tensor, weights: Any) -> Tensor:
            return self.dense(x) * float(weights.sum())

    lrp, x = LRPFx(Weighted().double(), "zero"), numbers(2, 4)
    weights = numpy.ones(5000)
    once = lrp.attribute(x, 0, (weights,))
    weights[2500] = 5001
    assert distance(lrp.attribute(x, 0, (weights,)), 2 * once) <= ROUNDING


@both_ways
def test_two_inputs(way: str) -> None:
    """Each input has its map; what is passed as an additional argument has none and absorbs."""
    torch.manual_seed(0)
    model = TwoInputs().double()
    image, vector = numbers(2, 3, 7, 7), numbers(2, 5)
    lrp = LRPFx(model, "epsilon", capture=way)
    first, second = lrp.attribute((image, vector), target=1)
    alone = lrp.attribute(image, 1, (vector,))
    assert first.shape == image.shape
    assert second.shape == vector.shape
    assert distance(alone, first) <= ROUNDING
