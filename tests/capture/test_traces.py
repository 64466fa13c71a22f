"""What a write to a tensor leaves behind, and what a graph may have been made for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx.capture.traces import (
    PLACES,
    WHOLE,
    Memory,
    form_of,
    is_readable,
    leaves_traces,
    trace_of,
    traces_of,
)


class Kind(Tensor):
    """A kind of tensor."""


class OwnParameter(nn.Parameter):
    """A kind of parameter."""


class Elsewhere(Tensor):
    """A kind of tensor that may keep its values who knows where."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError


def moved(tensor: Tensor) -> Tensor:
    tensor.data = tensor.data.clone()
    return tensor


def cast(tensor: Tensor) -> Tensor:
    tensor.data = tensor.data.view(torch.int32)
    return tensor


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "another one in its memory": Tensor.detach,
    "moved": moved,
    "written to": lambda tensor: tensor.add_(1),
    "cast": cast,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("trace", [trace_of, lambda tensor: traces_of([tensor])])
def test_each_change_leaves_a_trace(trace: Callable[[Tensor], Any], change: str) -> None:
    tensor = torch.ones(2)
    before = trace(tensor)
    assert trace(tensor) == before
    assert trace(CHANGES[change](tensor)) != before


def test_tensors_that_are_missing_or_odd_have_traces() -> None:
    with torch.inference_mode():
        inferred = torch.ones(2)
    sparse = torch.eye(2).to_sparse()
    tensors = [None, inferred, sparse]
    before = traces_of(tensors)
    assert traces_of(tensors) == before
    sparse.mul_(2)
    assert traces_of(tensors) != before
    assert traces_of([inferred]) == traces_of([inferred]) != traces_of([None])


FORMS: dict[str, tuple[Tensor, Tensor | Callable[[], Tensor]]] = {
    "shape": (torch.ones(1, 2), torch.ones(2, 2)),
    "strides": (torch.ones(2, 2), torch.ones(2, 2).t()),
    "dtype": (torch.ones(2), torch.ones(2, dtype=torch.int32)),
    "layout": (torch.eye(2).to_sparse(), torch.eye(2).to_sparse_csr),
    "device": (torch.ones(2), torch.ones(2, device="meta")),
    "gradients": (torch.ones(2), torch.ones(2, requires_grad=True)),
    "class": (torch.ones(2), torch.ones(2).as_subclass(Kind)),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.parametrize("name", FORMS)
def test_forms_differ(name: str) -> None:
    one, other = FORMS[name]
    other = other if isinstance(other, Tensor) else other()
    assert form_of(one) == form_of(one) != form_of(other)


def test_what_memory_can_be_looked_at() -> None:
    parts = [torch.ones(2), nn.Parameter(torch.ones(2)), nn.Buffer(torch.ones(2))]
    parts += [OwnParameter(torch.ones(2)), torch.ones(2).as_subclass(Kind)]
    odd = [
        torch.eye(2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.ones(2).as_subclass(Elsewhere),
        torch.ones(0),
    ]
    assert all(map(is_readable, parts))
    assert not any(map(is_readable, odd))
    assert all(map(leaves_traces, [*parts, torch.ones(2, device="meta"), torch.ones(0)]))
    assert not any(map(leaves_traces, [odd[0], odd[2]]))
    assert len(Memory([*parts, *odd]).look()) == len(parts)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.float32, torch.float64])
def test_a_write_that_nobody_counts_is_seen(dtype: torch.dtype) -> None:
    """In small tensors each; in large ones where it meets one of the places, as any to a whole row."""
    small = torch.ones(50, 20)[:, ::2].to(dtype)[::2]
    memory = Memory([small])
    before = memory.look()
    small.data[-1, -1] = 2
    assert memory.look() != before
    large = torch.ones(WHOLE // 64, 128).to(dtype)
    memory = Memory([large])
    before = memory.look()
    assert PLACES <= len(before[0]) // large.element_size() <= 2 * PLACES
    large.data.mul_(2)
    assert memory.look() != before


@pytest.mark.parametrize("size", [1, 2])
def test_sparse_tensors_leave_no_traces(size: int) -> None:
    """They have several places in memory."""
    assert leaves_traces(torch.ones(size))
    assert not leaves_traces(torch.ones(size).to_sparse())
