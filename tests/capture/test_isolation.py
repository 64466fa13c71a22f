"""Explaining writes to nothing of the user's."""

from __future__ import annotations

import collections
import copy
import functools
import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import _get_current_dispatch_mode

from lrp_fx import LRPFx
from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.observers import observers
from lrp_fx.capture.stand_ins import own_buffer
from lrp_fx.capture.structural_copy import structural_copy
from lrp_fx.errors import CaptureError, InputError, LRPError
from tests.helpers import shelf
from tests.helpers.captures import Log, recorded_too
from tests.helpers.closeness import QUOTIENTS
from tests.helpers.models import Applied

KEPT: dict[str, Any] = {}
COUNT = 0


def keep(name: str, value: Any) -> None:
    KEPT[name] = value


class Slotted:
    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[int] = []


class Lists(list[int]):
    pass


@functools.cache
def table(size: int) -> Tensor:
    return torch.ones(size, dtype=torch.double)


class Writer(nn.Module):
    """Writes to everything that it reaches but to its class by name."""

    shared: ClassVar[dict[str, int]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3, bias=False)
        self.held = {
            "counter": collections.Counter(),
            "users": collections.UserList(),
            "array": np.zeros(1),
            "slotted": Slotted(),
            "lists": Lists(),
            "log": Log(),
            "deque": collections.deque(maxlen=3),
            "set": set(),
        }
        self.add = self.held["log"].seen.append  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        global COUNT
        COUNT += 1
        held: dict[str, Any] = self.held
        held["counter"]["calls"] += 1
        held["users"].append(1)
        held["array"][0] += 1
        held["slotted"].items.append(1)
        held["lists"].append(1)
        held["log"].steps += 1
        held["deque"].append(1)
        held["set"].add(len(held["set"]))
        self.add(1)
        self.shared["calls"] = self.shared.get("calls", 0) + 1
        keep("input", x)
        return self.dense(x) * table(3)  # type: ignore[no-any-return]


@recorded_too
def test_what_forward_writes_to_stays_as_it_was(way: str) -> None:
    """Containers, arrays, objects, globals, attributes of classes, caches."""
    model = Writer().double()
    KEPT.clear()
    table.cache_clear()
    LRPFx(model, "zero", capture=way).attribute(torch.randn(2, 4, dtype=torch.double), 1)
    held: dict[str, Any] = model.held
    assert COUNT == 0
    assert KEPT == {}
    assert Writer.shared == {}
    assert table.cache_info().currsize == 0
    assert held["counter"] == {}
    assert held["array"][0] == 0
    assert held["log"] == Log()
    assert [len(held[n]) for n in ("users", "lists", "deque", "set")] == [0, 0, 0, 0]
    assert held["slotted"].items == []


class Reader(nn.Module):
    """Reads what a hook left in a global."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.first.register_forward_hook(lambda m, i, o: keep("feature", o))

    def forward(self, x: Tensor) -> Tensor:
        self.first(x)
        return self.last(KEPT["feature"].relu())  # type: ignore[no-any-return]


@recorded_too
def test_what_a_hook_leaves_to_the_model_is_read(way: str) -> None:
    """Even where the user's own run on the same input left the right value behind."""
    torch.manual_seed(0)
    model, x = Reader().double().eval(), torch.randn(3, 4, dtype=torch.double)
    model(x)
    plain = nn.Sequential(model.first, nn.ReLU(), model.last)
    expected = LRPFx(structural_copy(plain), "zero").attribute(x, 1)
    before = KEPT["feature"]
    assert (LRPFx(model, "zero", capture=way).attribute(x, 1) - expected).abs().max() <= QUOTIENTS
    assert KEPT["feature"] is before


class GradCam:
    """Keeps what a layer returns, as many tools do."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def save(self, module: nn.Module, given: Any, output: Tensor) -> None:
        self.kept.append(output)
        output.numpy()  # no stand-in of a tensor can do this


@recorded_too
def test_hooks_that_observe_are_not_called(way: str) -> None:
    """They never see what stands for a tensor, and what they keep stays."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double().eval()
    x = torch.randn(3, 4, dtype=torch.double)
    expected = LRPFx(model, "zero").attribute(x, 1)
    cam = GradCam()
    model[1].register_forward_hook(cam.save)
    found = LRPFx(model, "zero", capture=way).attribute(x, 1)
    assert cam.kept == []
    assert (found - expected).abs().max() <= QUOTIENTS


def test_hooks_act_or_observe() -> None:
    """Returning, writing in place and setting a weight are acts."""
    model = nn.Sequential(
        nn.Linear(4, 4), prune.identity(nn.Linear(4, 4), "weight"), nn.Linear(4, 4)
    )
    x = Arguments.of((torch.randn(2, 4),))

    def in_place(module: nn.Module, given: Any, output: Tensor) -> None:
        output.mul_(2)

    model[0].register_forward_hook(in_place)
    model[0].register_forward_hook(lambda m, i, o: o + 1)
    watch = model[2].register_forward_hook(lambda m, i, o: None)
    early = model[2].register_forward_pre_hook(lambda m, i: None)
    assert observers(model, x) == {(id(model[2]), watch.id), (id(model[2]), early.id)}


class MaxNorm(nn.Linear):
    """Weights of bounded norm, as many networks for EEG have them."""

    def __init__(self, write: Callable[[nn.Parameter], None]) -> None:
        super().__init__(4, 3, bias=False)
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        self.write(self.weight)
        return super().forward(x)


def _assign(p: nn.Parameter) -> None:
    p.data = torch.renorm(p.data, 2, 0, 0.25)


def _multiply_data(p: nn.Parameter) -> None:
    p.data.mul_(0.5)


def _multiply(p: nn.Parameter) -> None:
    with torch.no_grad():
        p.mul_(0.5)


def _copy(p: nn.Parameter) -> None:
    with torch.no_grad():
        p.copy_(torch.renorm(p, 2, 0, 0.25))


@pytest.mark.parametrize("write", [_assign, _multiply_data, _multiply, _copy])
@pytest.mark.parametrize("way", ["symbolic", "export", "record"])
def test_weights_that_forward_writes(write: Callable[[nn.Parameter], None], way: str) -> None:
    """The map is that of the weights written, and the user's weights stay; or there is none."""
    torch.manual_seed(0)
    model, x = MaxNorm(write).double().eval(), torch.randn(3, 4, dtype=torch.double)
    before = model.weight.detach().clone()
    version = model.weight._version
    lrp = LRPFx(model, "zero", capture=way)
    try:
        found = lrp.attribute(x, 1)
    except CaptureError:
        assert way != "symbolic" or write is _copy
        found = None
    assert torch.equal(model.weight, before)
    assert model.weight._version == version
    if found is not None:
        for _ in range(2):
            again = copy.deepcopy(model)
            assert (found.sum(1) - again(x)[:, 1]).abs().max() <= QUOTIENTS
            with torch.no_grad():
                model.weight.mul_(3)
            found = lrp.attribute(x, 1)


class Twin(nn.Module):
    """Two arguments, told apart by their factors."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return 2 * self.dense(a) - self.dense(b).relu()  # type: ignore[no-any-return]


class Choosy(nn.Module):
    """Fails while anything looks at its operations, as code that compiles itself may do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            return self.linear(x)
        if _get_current_dispatch_mode() is not None:
            raise RuntimeError("somebody looks")
        with torch.no_grad():
            self.linear.bias.add_(1)
        return self.linear(x) - 1


def test_a_model_that_bears_no_dispatch_mode_is_run_on_values_of_its_own() -> None:
    model = Choosy().double().eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 3, dtype=torch.float64)
    relevance = LRPFx(model, "zero").attribute(x, 0)
    assert (relevance - x * state["linear.weight"][0]).abs().max() <= QUOTIENTS
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@recorded_too
def test_one_tensor_as_two_arguments(way: str) -> None:
    """It is read as two equal ones, and so is the model's own parameter, and a view of another."""
    torch.manual_seed(0)
    model = Twin().double().eval()
    a, b = torch.randn(4, 4, dtype=torch.double), torch.randn(4, 4, dtype=torch.double)
    for one, other in [(a, a), (a, a.view(4, 4)), (a, model.dense.weight)]:
        expected = LRPFx(model, "zero").attribute((a.clone(), other.detach().clone()), 1)
        lrp = LRPFx(model, "zero", capture=way)
        found = lrp.attribute((one, other), 1)
        for mine, own in zip(found, expected, strict=True):
            assert (mine - own).abs().max() <= QUOTIENTS
        assert (lrp.explained_output((a, b)) - model(a, b)).abs().max() <= QUOTIENTS


def _seeded(y: Tensor) -> Tensor:
    return y * torch.rand(6, generator=torch.Generator().manual_seed(0), dtype=y.dtype)


@pytest.mark.parametrize("way", ["auto", "export", "record"])
def test_a_generator_of_its_own_is_no_foreign_error(way: str) -> None:
    """Explained or refused, never an error of torch's."""
    lrp = LRPFx(Applied(_seeded).double().eval(), capture=way)
    with suppress(LRPError):
        assert lrp.attribute(torch.ones(1, 4).double(), 1).shape == (1, 4)


class Bias(nn.Parameter):
    pass


class OfSubclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bias = nn.Linear(4, 3), Bias(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.bias.data = torch.full((3,), 3.0)
        return self.fc(x) + self.bias  # type: ignore[no-any-return]


@recorded_too
def test_a_subclass_of_parameter_keeps_its_data(way: str) -> None:
    model = OfSubclass().eval()
    with suppress(CaptureError):
        LRPFx(model, capture=way).attribute(torch.ones(2, 4), 1)
    assert torch.equal(model.bias, torch.ones(3))
    assert isinstance(own_buffer(None, model.bias), Bias)


class Registry:
    """Keeps what it is given on its class."""

    items: ClassVar[list[Any]] = []
    ordered: ClassVar[Any] = collections.OrderedDict(first=1)
    recent: ClassVar[Any] = collections.deque([1], maxlen=2)
    known: ClassVar[set[Any]] = set()
    calls = 0

    @classmethod
    def keep(cls, value: Any) -> None:
        cls.items.append(value)
        cls.ordered["last"] = value
        cls.ordered.move_to_end("first")
        cls.recent.append(value)
        cls.known.add(len(cls.items))
        cls.calls += 1
        cls.new = value  # type: ignore[attr-defined]


def of_class(h: Any) -> None:
    Registry.items.append(h)
    Registry.keep(h)


def of_default(h: Any, *, seen: list[Any] = [], last: dict[str, Any] = {}) -> None:  # noqa: B006
    seen.append(h)
    last["h"] = h


def of_function(h: Any) -> None:
    of_function.last = h  # type: ignore[attr-defined]


def of_module(h: Any) -> None:
    shelf.LOG.append(h)
    shelf.LAST["h"] = h
    shelf.COUNT += 1


@staticmethod
def of_static(h: Any, seen: list[Any] = []) -> None:  # noqa: B006
    seen.append(h)


SHARED: dict[str, Callable[[Any], None]] = {
    "class": of_class,
    "default": of_default,
    "function": of_function,
    "module": of_module,
    "static": of_static,
}


class Leaver(nn.Module):
    """Leaves what it has seen in objects that are not its own, by a method and by its default."""

    seen: ClassVar[list[Any]] = []

    def __init__(self, leave: Callable[[Any], None]) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3, bias=False)
        self.leave = leave

    @classmethod
    def note(cls, h: Any) -> None:
        cls.seen.append(h)

    def forward(self, x: Tensor, kept: list[Any] = []) -> Tensor:  # noqa: B006
        h = self.dense(x)
        kept.append(h)
        self.note(h)
        self.leave(h)
        return h.relu()  # type: ignore[no-any-return]


def left() -> tuple[Any, ...]:
    """Whatever the functions above can leave."""
    return (
        *({**vars(each)} for each in (Registry, Leaver, of_function)),
        *([*each] for each in (Registry.items, Registry.ordered, Registry.recent, Registry.known)),
        *([*each] for each in (Leaver.seen, shelf.LOG, shelf.LAST)),
        *(copy.copy(each) for each in (of_default.__kwdefaults__ or {}).values()),
        copy.copy(Leaver.forward.__defaults__[0]),  # type: ignore[index]
        copy.copy(of_static.__func__.__defaults__[0]),  # type: ignore[attr-defined]
        shelf.COUNT,
    )


@recorded_too
@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("name", SHARED)
def test_what_copies_share_with_the_model_stays_as_it_was(
    name: str, hooked: bool, way: str
) -> None:
    """Containers of classes, defaults, attributes of functions, and the user's own Python modules."""
    torch.manual_seed(0)
    leave = SHARED[name]
    model = Leaver((lambda h: None) if hooked else leave).double().eval()
    if hooked:
        model.dense.register_forward_hook(lambda module, given, output: leave(output))
    before = left()
    x = torch.randn(2, 4, dtype=torch.double)
    LRPFx(model, "zero", capture=way, verify="always").attribute(x, 1)
    assert left() == before
    Registry.keep(1)
    assert Registry.items.pop() == 1  # it is still the list of the user


class Table:
    rows = torch.zeros(3, dtype=torch.double)


def to_tensor_of_class(model: nn.Module, h: Tensor) -> Tensor:
    Table.rows += 1
    return h


def to_gradients(model: nn.Module, h: Tensor) -> Tensor:
    model.dense.weight.grad.zero_()  # type: ignore[union-attr, operator]
    return h


def to_text(model: nn.Module, h: Tensor) -> Tensor:
    model.text.write("called")  # type: ignore[union-attr, operator]
    return h


def to_statistics(model: nn.Module, h: Tensor) -> Tensor:
    norm: Any = model.norm
    F.batch_norm(h, norm.running_mean, norm.running_var, training=True)
    return h


def to_statistics_of_samples(model: nn.Module, h: Tensor) -> Tensor:
    norm: Any = model.norm
    pairs = torch.stack([h, 2 * h], -1)
    F.instance_norm(pairs, norm.running_mean, norm.running_var, use_input_stats=True)
    return h


WRITES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "a tensor of a class": to_tensor_of_class,
    "gradients": to_gradients,
    "a text in memory": to_text,
    "running statistics": to_statistics,
    "running statistics of samples": to_statistics_of_samples,
}


class Writing(nn.Module):
    """Writes to something by a function, and holds a gradient, statistics and a text."""

    def __init__(self, write: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.write = write
        self.dense, self.norm, self.text = nn.Linear(4, 3), nn.BatchNorm1d(3), io.StringIO()
        self.double().eval()
        self.dense.weight.grad = torch.ones_like(self.dense.weight)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.dense(x)
        return self.write(self, h).relu()


@recorded_too
@pytest.mark.parametrize("name", WRITES)
def test_tensors_and_texts_stay_as_they_were(name: str, way: str) -> None:
    """Whether the model is explained, or refused because the graph has no such write."""
    torch.manual_seed(0)
    model, x = Writing(WRITES[name]), torch.randn(2, 4, dtype=torch.double)
    Table.rows.zero_()
    before = copy.deepcopy(model.state_dict())
    with suppress(CaptureError):
        LRPFx(model, "zero", capture=way, verify="always").attribute(x, 1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert bool((model.dense.weight.grad == 1).all())
    assert not Table.rows.any()
    assert model.text.getvalue() == ""


@recorded_too
def test_a_generator_is_not_moved_on(way: str) -> None:
    """It cannot be copied, so a model that asks one for a value is refused."""
    numbers = (float(n) for n in range(9))
    model = Writing(lambda model, h: h * next(numbers))
    with pytest.raises(InputError, match="generator"):
        LRPFx(model, capture=way).attribute(torch.randn(2, 4, dtype=torch.double), 1)
    assert next(numbers) == 0
    model.write = lambda model, h: h if numbers is None else 2 * h
    LRPFx(model, capture=way).attribute(torch.randn(2, 4, dtype=torch.double), 1)
