"""What a signature sees, and what it does not: each change by itself, without any explanation."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from edits import EDITS, Config, Holder, closed_over, taken_back
from torch import Tensor, nn

from lrp_fx.capture import ModelState
from lrp_fx.capture.signature import signature_of


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_is_seen(edit: str) -> None:
    torch.manual_seed(0)
    model = Holder().double().eval()
    state = ModelState(model)
    before = state.signature()
    assert before.is_complete
    assert state.signature() is before
    with taken_back():
        EDITS[edit](model)
        assert state.signature() != before


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "requires_grad": lambda p: p.requires_grad_(True),
    "dtype": lambda p: setattr(p, "data", p.data.view(torch.int64)),
    "shape": lambda p: setattr(p, "data", p.data[:2]),
    "stride": lambda p: setattr(p, "data", p.data.t()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_registered", [True, False])
def test_the_forms_of_tensors_count_where_they_lie(form: str, is_registered: bool) -> None:
    """In the same memory, at the same version."""
    model = nn.Linear(4, 4).double().requires_grad_(False)
    model.held = [torch.ones(4, 4).double()]
    state = ModelState(model)
    before = state.signature()
    FORMS[form](model.weight if is_registered else model.held[0])
    assert state.signature() != before


def test_settings_of_torch_count() -> None:
    state = ModelState(nn.Linear(1, 1))
    before = state.signature()
    torch.set_default_dtype(torch.float64)
    try:
        assert state.signature() != before
    finally:
        torch.set_default_dtype(torch.float32)
    assert state.signature() == before
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert state.signature() != before
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("edit", ["train", "values", "training step", "same", "grad", "replaced"])
def test_what_does_not_count_changes_nothing(edit: str) -> None:
    model = Holder().double().eval()
    state = ModelState(model)
    before = state.signature()
    with torch.no_grad():
        if edit == "train":
            model.train()
        elif edit == "values":
            model.a.weight.mul_(2)
        elif edit == "training step":
            model.a.weight.grad = torch.ones_like(model.a.weight)
            torch.optim.SGD([model.a.weight], 0.1).step()
        elif edit == "same":
            model.listed, model.config = [1.0], Config()
            model.closure = closed_over(model.values)
        elif edit == "grad":
            model.a.register_full_backward_hook(lambda *_: None)
        else:
            model.a.weight = nn.Parameter(torch.randn(6, 4).double())
    assert state.signature() is before


class of_class(property):
    """A kind of property of a package's own."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        assert self.fget is not None
        return self.fget(owner)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    yield


class Decorated(nn.Linear):
    """As the models of large packages are."""

    @of_class
    def kind(self) -> str:
        return "decorated"

    @guarded()
    def make(self) -> None: ...

    @functools.cached_property
    def size(self) -> int:
        return 3

    @classmethod
    def new(cls) -> Any:
        return cls(1, 1)

    @staticmethod
    def double(x: Tensor) -> Tensor:
        return 2 * x

    def forward(self, x: Tensor) -> Tensor:
        return self.double(super().forward(x))


def test_decorated_methods_can_be_signed() -> None:
    """Otherwise each call on such a model would cost a forward pass more."""
    model = Decorated(4, 3)
    state = ModelState(model)
    before = state.signature()
    assert before.is_complete
    original = Decorated.double
    Decorated.double = staticmethod(lambda x: 3 * x)  # type: ignore[method-assign]
    try:
        assert state.signature() != before
    finally:
        Decorated.double = staticmethod(original)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "value",
    [iter([1]), (i for i in [1]), np.random.default_rng(0), torch.Generator(), np.zeros(100_000)],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_signed_is_verified(value: Any) -> None:
    assert not signature_of([{"x": value}]).is_complete


def test_a_weak_reference_is_signed_by_what_it_refers_to() -> None:
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    of_first, again = (signature_of(first, second, weakref.ref(first)) for _ in range(2))
    of_second = signature_of(first, second, weakref.ref(second))
    assert of_first == again != of_second
    assert of_first.is_complete
    assert not signature_of(weakref.ref(first)).is_complete
