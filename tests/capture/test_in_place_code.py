"""In-place code is read as what it computes, and changes no input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.canonize.pipeline import canonize
from lrp_fx.errors import CaptureError
from tests.helpers.captures import after, all_ways, captured, signal
from tests.helpers.closeness import ROUNDING, distance
from tests.helpers.numbers import numbers


def _alias(y: Tensor) -> Tensor:
    z = y
    z += 1
    return y * 2


def _view(y: Tensor) -> Tensor:
    y[:, :1].mul_(3)
    return y


def _named_view(y: Tensor) -> Tensor:
    part = y[:, 1:3]
    part += 1
    part.relu_()
    return y - 1


def _reshaped(y: Tensor) -> Tensor:
    flat = y.view(y.size(0), -1)
    flat.mul_(2)
    return y + flat.view_as(y)


def _piece(y: Tensor) -> Tensor:
    first, second = y.chunk(2, dim=1)
    first *= 3
    second.add_(first)
    return y


def _assigned_part(y: Tensor) -> Tensor:
    y[:, 0] = y[:, 1]
    return y


def _power(y: Tensor) -> Tensor:
    z = y
    z **= 1
    z *= 2
    return y


def _of_the_caller(y: Tensor) -> Tensor:
    def change(z: Tensor) -> None:
        z.mul_(2)

    change(y)
    return y


def _kept_apart(y: Tensor) -> Tensor:
    z = y.clone()
    z += 5
    return y + z


@all_ways
@pytest.mark.parametrize(
    "function",
    [
        *(_alias, _view, _named_view, _reshaped, _piece, _assigned_part, _power),
        *(_of_the_caller, _kept_apart),
    ],
)
def test_in_place_code(function: Callable[[Tensor], Tensor], way: str) -> None:
    """Whoever holds the memory sees the change; where symbols cannot tell, they say so."""
    model = after(function)
    x = signal(model)
    with torch.no_grad():
        expected = model(x.clone())
        if way == "symbolic" and function in (
            _view,
            _named_view,
            _reshaped,
            _piece,
            _assigned_part,
        ):
            with pytest.raises(CaptureError, match=r"in-place|__setitem__|something other than"):
                captured(model, x, way=way)
            return
        graph = captured(model, x, way=way)
        assert torch.equal(graph.module(x.clone())[0], expected)
        assert distance(canonize(graph).module(x.clone())[0], expected) <= ROUNDING


def test_in_place_code_never_changes_the_inputs() -> None:
    """A model that overwrites its input overwrites a copy of it."""
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 3))
    for way in ("symbolic", "export"):
        x = numbers(2, 3, 4, dtype=torch.float32)
        before, version = x.clone(), x._version
        LRPFx(model, capture=way).attribute(x, target=0)
        assert torch.equal(x, before)
        assert x._version == version
