"""Code that reads outside the model: its changes are seen, since every call is verified."""

from __future__ import annotations

import abc
import builtins
import gc
import os
import random
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.capture.model_state import ModelState
from lrp_fx.errors import CaptureError
from tests.capture.test_model_state import check

NAME = "LRP_FX_TEST_SCALE"
SETTINGS = types.ModuleType("settings_of_the_user")
SETTINGS.__file__ = __file__


class Scaled(nn.Module):
    """Scales its values by what a function returns."""

    def __init__(self, scale: Callable[[Any, Tensor], float]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.scale = nn.Linear(4, 6), nn.Linear(6, 3), scale
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)) * self.scale(self, x))  # type: ignore[no-any-return]


class Shape(metaclass=abc.ABCMeta):
    """What others may be registered as."""

    @abc.abstractmethod
    def area(self) -> float: ...


class Thing:
    """Not registered yet."""


THING = Thing()


def imported(model: nn.Module, x: Tensor) -> float:
    import settings_of_the_user  # type: ignore[import-not-found]

    return settings_of_the_user.fast_scale  # type: ignore[no-any-return]


def from_random(model: nn.Module, x: Tensor) -> float:
    state = random.getstate()
    value = random.random()
    random.setstate(state)
    return 1 + value


READERS: dict[str, tuple[Callable[[Any, Tensor], float], Callable[[], Any]]] = {
    "environment": (
        lambda m, x: float(os.environ.get(NAME, 1)),
        lambda: os.environ.__setitem__(NAME, "3"),
    ),
    "getenv": (lambda m, x: float(os.getenv(NAME, "1")), lambda: os.environ.update({NAME: "3"})),
    "random state": (from_random, lambda: random.seed(8)),
    "random state of NumPy": (
        lambda m, x: float(np.random.get_state()[1][0]),  # type: ignore[index]
        lambda: np.random.seed(9),
    ),
    "setting of torch": (
        lambda m, x: 3.0 if torch.are_deterministic_algorithms_enabled() else 1.0,
        lambda: torch.use_deterministic_algorithms(True),
    ),
    "backend": (
        lambda m, x: 3.0 if torch.backends.cudnn.benchmark else 1.0,
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
    ),
    "computed name": (
        lambda m, x: getattr(SETTINGS, "fast" + "_scale"),
        lambda: setattr(SETTINGS, "fast_scale", 3.0),
    ),
    "__getattr__ of a module": (
        lambda m, x: SETTINGS.slow_scale,
        lambda: LAZY.update(slow_scale=3.0),
    ),
    "import": (imported, lambda: setattr(SETTINGS, "fast_scale", 3.0)),
    "sys.modules": (
        lambda m, x: sys.modules["settings_of_the_user"].fast_scale,
        lambda: setattr(SETTINGS, "fast_scale", 3.0),
    ),
    "globals()": (
        lambda m, x: globals()["SET" + "TINGS"].fast_scale,
        lambda: setattr(SETTINGS, "fast_scale", 3.0),
    ),
    "built-in name": (
        lambda m, x: BUILT_IN,  # type: ignore[name-defined]  # noqa: F821
        lambda: setattr(builtins, "BUILT_IN", 3.0),
    ),
    "abstract class": (
        lambda m, x: 3.0 if isinstance(THING, Shape) else 1.0,
        lambda: Shape.register(Thing),
    ),
    "gradient": (lambda m, x: 1.0 if m.a.weight.grad is None else 3.0, lambda: None),
}
LAZY = {"slow_scale": 1.0}


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings, which the tests change, and what they were."""
    monkeypatch.setitem(sys.modules, "settings_of_the_user", SETTINGS)
    monkeypatch.setattr(SETTINGS, "fast_scale", 1.0, raising=False)
    monkeypatch.setattr(SETTINGS, "__getattr__", lambda name: LAZY[name], raising=False)
    monkeypatch.setattr(builtins, "BUILT_IN", 1.0, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.delenv(NAME, raising=False)
    LAZY["slow_scale"] = 1.0
    state, of_numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(state)
    np.random.set_state(of_numpy)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", READERS)
def test_a_change_outside_is_seen(name: str) -> None:
    scale, change = READERS[name]
    model, x = Scaled(scale), torch.randn(3, 4).double()
    lrp = LRPFx(model, "z_plus")
    first = lrp.explained_output(x)
    change()
    if name == "gradient":
        model.a.weight.grad = torch.ones_like(model.a.weight)
    check(lrp, model, x, "z_plus")
    assert not torch.equal(first, lrp.explained_output(x))


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scale.txt"
    path.write_text("1")
    model, x = Scaled(lambda m, x: float(path.read_text())), torch.randn(3, 4).double()
    lrp = LRPFx(model, "zero")
    check(lrp, model, x, "zero")
    path.write_text("3")
    check(lrp, model, x, "zero")


class Trained(nn.Linear):
    """Reads clocks and files, but not in a forward pass."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.born = time.time()

    def training_step(self, batch: Tensor) -> float:
        return time.perf_counter() - self.born

    def __repr__(self) -> str:
        return os.getcwd()


def test_what_a_forward_pass_does_not_run_costs_nothing() -> None:
    """Else each call on such a model would cost a forward pass more."""
    assert ModelState(Trained()).signature().is_complete

    class Timed(Trained):
        def forward(self, x: Tensor) -> Tensor:
            self.spent = self.training_step(x)
            return super().forward(x)

    assert not ModelState(Timed()).signature().is_complete


IDENTITIES: dict[str, Callable[[Any, Tensor], float]] = {
    "id of the input": lambda m, x: 1.0 + id(x) % 7,
    "hash of the input": lambda m, x: 1.0 + hash(x) % 7,
    "id of a parameter": lambda m, x: 1.0 + id(m.a.weight) % 7,
    "hash of a parameter": lambda m, x: 1.0 + hash(m.a.weight) % 7,
    "id of the model": lambda m, x: 1.0 + id(m) % 7,
    "hash of a string": lambda m, x: 1.0 + hash("word") % 7,
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_copies_have_the_identity_of_their_originals(name: str) -> None:
    model = Scaled(IDENTITIES[name])
    lrp = LRPFx(model, "zero")
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(2, 4).double()
        gc.collect()
        torch.testing.assert_close(lrp.explained_output(x), model(x).detach())


@pytest.mark.parametrize(
    "scale",
    [
        lambda m, x: 1.0 + x._version,
        lambda m, x: 1.0 + m.a.weight.data_ptr() % 7,
        lambda m, x: 1.0 + 0 * m.a.weight.data_ptr(),  # a copy happens to answer the same
    ],
    ids=["_version", "data_ptr", "data_ptr by chance"],
)
def test_versions_and_addresses_are_refused(scale: Callable[[Any, Tensor], float]) -> None:
    with pytest.raises(CaptureError, match=r"_version|data_ptr|data pointer"):
        LRPFx(Scaled(scale), "zero").attribute(torch.randn(2, 4).double(), 1)


open_ = list(range(3))
"""A global that has the name of an attribute in the code below."""


class Attributes(nn.Module):
    """Has attributes with the names of a function that reads files and of a global."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.open_ = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.open_(F.relu(self.input(x)))  # type: ignore[no-any-return]


def test_names_of_attributes_are_no_names_of_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    state = ModelState(Attributes())
    before = state.signature()
    assert before.is_complete
    monkeypatch.setitem(globals(), "open_", [4])
    assert state.signature() == before
