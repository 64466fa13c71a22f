"""Targets of all forms, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import (
    LRPError,
    TargetError,
)
from tests.helpers.closeness import ROUNDING, assert_close
from tests.helpers.models import PerPixel, normed_cnn
from tests.helpers.numbers import numbers

CLASSES = [1, 3, 0]


@pytest.mark.parametrize(
    "target",
    [
        CLASSES,
        torch.tensor(CLASSES),
        torch.tensor(CLASSES, dtype=torch.int32),
        [(index,) for index in CLASSES],
        [index - 4 for index in CLASSES],
        [torch.tensor(index) for index in CLASSES],
    ],
    ids=["list", "1-d", "int32", "tuples", "negative", "0-d list"],
)
def test_targets_of_each_sample(target: Any) -> None:
    """One target per sample: each sample gets the explanation it gets alone."""
    lrp, x = LRPFx(normed_cnn()), numbers(3, 2, 8, 8)
    together = lrp.attribute(x, target)
    for sample, index, mine in zip(x, CLASSES, together, strict=True):
        assert_close(mine, lrp.attribute(sample[None], index)[0])


@pytest.mark.parametrize(
    "target",
    [2, -2, (2,), torch.tensor(2), torch.tensor([2]), torch.tensor(-2)],
    ids=["int", "negative", "tuple", "0-d", "1-d of one", "negative 0-d"],
)
def test_one_target_for_all_samples(target: Any) -> None:
    lrp, x = LRPFx(normed_cnn()), numbers(3, 2, 8, 8)
    assert torch.equal(lrp.attribute(x, target), lrp.attribute(x, [2, 2, 2]))


@pytest.mark.parametrize(
    ("target", "places"),
    [
        ((2, 1, 3), [(2, 1, 3)] * 2),
        ((-1, -3, -1), [(2, 1, 3)] * 2),
        ([(2, 1, 3), (0, 0, 1)], [(2, 1, 3), (0, 0, 1)]),
    ],
    ids=["one tuple", "negative", "list of tuples"],
)
def test_targets_in_outputs_of_more_dimensions(target: Any, places: list[Any]) -> None:
    """A pixel of a segmentation: Σ relevance is its logit, bias apart."""
    model = PerPixel().double()
    assert model.conv.bias is not None
    nn.init.zeros_(model.conv.bias)
    nn.init.uniform_(model.conv.weight)
    x = numbers(2, 2, 4, 4).abs()
    relevance, delta = LRPFx(model, "zero").attribute(x, target, None, True)
    output = model(x).detach()
    expected = torch.stack([output[(n, *place)] for n, place in enumerate(places)])
    assert_close(relevance.sum((1, 2, 3)), expected)
    assert float(delta.abs().max()) <= ROUNDING * float(expected.abs().max())


@pytest.mark.parametrize("trailing", [(), (1,), (1, 1)], ids=str)
def test_target_may_be_left_out_where_one_value_is_left(trailing: tuple[int, ...]) -> None:
    """None, where a sample has one value; and a class, where only dimensions of one follow it."""

    class Head(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.linear = nn.Linear(3, classes).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).reshape(2, -1, *trailing)

    x = numbers(2, 3)
    one = LRPFx(Head(1))
    assert torch.equal(one.attribute(x), one.attribute(x, 0))
    two = LRPFx(Head(2))
    assert torch.equal(two.attribute(x, 1), two.attribute(x, (1, *(0 for _ in trailing))))


def test_no_dimension_behind_the_batch_needs_no_target() -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double()
    x = numbers(4, 3)
    assert model(x).shape == (4,)
    assert_close(LRPFx(model).attribute(x), LRPFx(model[0]).attribute(x))
    with pytest.raises(TargetError, match="first one is the batch"):
        LRPFx(model).attribute(x, 0)


WRONG: dict[str, tuple[Any, str]] = {
    "none": (None, "target is needed"),
    "too large": (4, "index 4 is out of range for 4 outputs"),
    "too small": (-5, "index -5 is out of range for 4 outputs"),
    "too many indices": ((1, 1), "2 indices"),
    "no index": ((), "0 indices"),
    "list too short": ([1], "1 targets for a batch of 2"),
    "list too long": ([1, 1, 1], "3 targets for a batch of 2"),
    "empty list": ([], "0 targets for a batch of 2"),
    "one of a list": ([1, 4], "index 4 is out of range"),
    "one of a tensor": (torch.tensor([1, 4]), "index 4 is out of range"),
    "two dimensions": (torch.tensor([[1], [1]]), "one dimension"),
    "float": (1.0, "must be an int"),
    "bool": (True, "must be an int"),
    "string": ("cat", "must be an int"),
    "bools": ([True, False], "must be an int"),
    "nested lists": ([[1], [1]], "must be an int"),
    "set": ({1}, "must be an int"),
    "float tensor": (torch.tensor([1.0, 1.0]), "must hold integers"),
    "bool tensor": (torch.tensor([True, False]), "must hold integers"),
}


@pytest.mark.parametrize(("target", "words"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("error", [AssertionError, IndexError, LRPError])
def test_wrong_targets(target: Any, words: str, error: type[Exception]) -> None:
    """Captum raises now one, now the other; code that was written against either catches ours."""
    with pytest.raises(error, match=words) as caught:
        LRPFx(normed_cnn()).attribute(numbers(2, 2, 8, 8), target)
    assert caught.type is TargetError


def test_target_for_a_segmentation_needs_all_indices() -> None:
    with pytest.raises(TargetError, match=r"2 indices, but .* 3 dimensions, of sizes \(3, 4, 4\)"):
        LRPFx(PerPixel()).attribute(torch.ones(1, 2, 4, 4), (1, 1))
