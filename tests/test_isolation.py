"""Explaining writes to nothing of the user's, and leaves the process as it was."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import shelf
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import _get_current_dispatch_mode

from lrp_fx import LRPFx
from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.observers import observers
from lrp_fx.capture.stand_ins import own_buffer
from lrp_fx.capture.structural_copy import structural_copy
from lrp_fx.errors import CaptureError, InputError, LRPError

ways = pytest.mark.parametrize("way", ["symbolic", "export", "record"])
ROUNDING = 1e-9
"""Float64, a handful of operations."""

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


@dataclass
class Log:
    steps: int = 0
    seen: list[int] = field(default_factory=list)


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


@ways
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


def test_a_copy_is_one_of_a_whole() -> None:
    """What is one object in the model is one in its copy; cycles, depth and what cannot be copied do
    no harm.
    """
    model = nn.Linear(2, 2)
    chain = Log()
    model.first = model.second = chain  # type: ignore[assignment]
    chain.owner, chain.lock, chain.lazy = model, threading.Lock(), (i for i in range(3))  # type: ignore[attr-defined]
    chain.next = end = Log()  # type: ignore[attr-defined]
    for _ in range(5000):
        end.next = end = Log()  # type: ignore[attr-defined]
    twin: Any = structural_copy(model, replace_tensor=own_buffer)
    assert twin.first is twin.second
    assert twin.first is not chain
    assert twin.first.owner is twin
    assert twin.first.lock is chain.lock  # type: ignore[attr-defined]
    assert twin.first.next is not chain.next  # type: ignore[attr-defined]
    assert twin.weight is not model.weight
    assert twin.weight.data_ptr() == model.weight.data_ptr()


class Reader(nn.Module):
    """Reads what a hook left in a global."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.first.register_forward_hook(lambda m, i, o: keep("feature", o))

    def forward(self, x: Tensor) -> Tensor:
        self.first(x)
        return self.last(KEPT["feature"].relu())  # type: ignore[no-any-return]


@ways
def test_what_a_hook_leaves_to_the_model_is_read(way: str) -> None:
    """Even where the user's own run on the same input left the right value behind."""
    torch.manual_seed(0)
    model, x = Reader().double().eval(), torch.randn(3, 4, dtype=torch.double)
    model(x)
    plain = nn.Sequential(model.first, nn.ReLU(), model.last)
    expected = LRPFx(structural_copy(plain), "zero").attribute(x, 1)
    before = KEPT["feature"]
    assert (LRPFx(model, "zero", capture=way).attribute(x, 1) - expected).abs().max() <= ROUNDING
    assert KEPT["feature"] is before


class GradCam:
    """Keeps what a layer returns, as many tools do."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def save(self, module: nn.Module, given: Any, output: Tensor) -> None:
        self.kept.append(output)
        output.numpy()  # no stand-in of a tensor can do this


@ways
def test_hooks_that_observe_are_not_called(way: str) -> None:
    """They never see what stands for a tensor, and what they keep stays."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double().eval()
    x = torch.randn(3, 4, dtype=torch.double)
    expected = LRPFx(model, "zero").attribute(x, 1)
    cam = GradCam()
    model[1].register_forward_hook(cam.save)
    found = LRPFx(model, "zero", capture=way).attribute(x, 1)
    assert cam.kept == []
    assert (found - expected).abs().max() <= ROUNDING


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
            assert (found.sum(1) - again(x)[:, 1]).abs().max() <= ROUNDING
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
    assert (relevance - x * state["linear.weight"][0]).abs().max() <= ROUNDING
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@ways
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
            assert (mine - own).abs().max() <= ROUNDING
        assert (lrp.explained_output((a, b)) - model(a, b)).abs().max() <= ROUNDING


class Unrolled(nn.Module):
    """Needs torch.export: a loop over a size."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        for i in range(x.shape[1]):
            y = y + x[:, i, None]
        return y


class Branching(Unrolled):
    """Needs recording: a branch on values."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        return y * 2 if float(x.sum()) > 0 else y * 3


@pytest.mark.parametrize("catches", [False, True])
def test_threads_leave_the_process_as_it_was(catches: bool) -> None:
    """Export and recording in turns, beside a thread that runs models.

    Beside recording it also catches warnings; torch.export does so itself, which is not ours to mend.
    """
    models = {"export": Unrolled().eval(), "record": Branching().eval()}
    x = torch.rand(2, 4)
    expected = {way: LRPFx(m, capture=way).attribute(x, 1) for way, m in models.items()}
    before = nn.Module.__call__, nn.Module.__getattr__, list(warnings.filters), sys.stderr
    wrong: list[str] = []
    stop = threading.Event()

    def explain(way: str, times: int) -> None:
        try:
            for _ in range(times):
                found = LRPFx(models[way], capture=way).attribute(x, 1)
                if not torch.allclose(found, expected[way], atol=1e-6):
                    wrong.append(way)
        except Exception as error:
            wrong.append(f"{way}: {error!r}")

    def catch() -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
        while not stop.is_set():
            if not catches:
                model(x)
                continue
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model(x)
                warnings.warn("heard", UserWarning, stacklevel=1)
            heard = [str(each.message) for each in caught]
            if heard != ["heard"]:
                wrong.append(f"warnings: {heard}")

    work = [("record", 8), ("record", 8)] + ([] if catches else [("export", 2), ("export", 2)])
    threads = [threading.Thread(target=explain, args=each) for each in work]
    other = threading.Thread(target=catch)
    for thread in (other, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    other.join()
    assert wrong == []
    now = nn.Module.__call__, nn.Module.__getattr__, list(warnings.filters), sys.stderr
    assert now == before


class Applied(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6, bias=False), nn.Linear(6, 2, bias=False)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x).relu()))  # type: ignore[no-any-return]


REPEATS = torch.tensor([1, 2, 0, 1, 1, 1])


def _transposed(y: Tensor) -> Tensor:
    return y[:, :, None].permute(2, 1, 0).T[:, :, 0]


@pytest.mark.filterwarnings("ignore:The use of `x.T` on tensors of dimension other than 2")
@pytest.mark.parametrize("way", ["auto", "export", "record"])
@pytest.mark.parametrize(
    "function",
    [
        _transposed,
        lambda y: y.repeat_interleave(REPEATS, 1),
    ],
    ids=["T", "repeat_interleave"],
)
def test_routing_in_odd_forms(function: Callable[[Tensor], Tensor], way: str) -> None:
    """Without biases ε → 0 gives input times gradient."""
    torch.manual_seed(0)
    model = Applied(function).double().eval()
    x = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    found = LRPFx(model, "zero", capture=way).attribute(x.detach(), 1)
    assert (found - x.detach() * gradient).abs().max() <= ROUNDING


def _seeded(y: Tensor) -> Tensor:
    return y * torch.rand(6, generator=torch.Generator().manual_seed(0), dtype=y.dtype)


@pytest.mark.parametrize("way", ["auto", "export", "record"])
def test_a_generator_of_its_own_is_no_foreign_error(way: str) -> None:
    """Explained or refused, never an error of torch's."""
    lrp = LRPFx(Applied(_seeded).double().eval(), capture=way)
    with suppress(LRPError):
        assert lrp.attribute(torch.ones(1, 4).double(), 1).shape == (1, 4)


def test_packed_inputs_are_refused() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 3), torch.randn(2, 3)])
    with pytest.raises(InputError, match=r"PackedSequence.*padded"):
        LRPFx(nn.LSTM(3, 4)).attribute(packed, 1)


def remember(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A cache by hand, and a counter of the calls."""
    known: dict[Any, Tensor] = {}
    calls = 0

    @functools.wraps(function)
    def wrapper(self: nn.Module, key: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if key not in known:
            known[key] = function(self, key)
        return known[key]

    return wrapper


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor
        self.fc = nn.Linear(4, 3)
        self.register_buffer("scale", torch.full((3,), 2.0))

    @remember
    def weights(self, size: int) -> Tensor:
        return self.scale * torch.arange(1.0, size + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self.weights(3)  # type: ignore[no-any-return]


def cells_of(function: Any) -> dict[str, Any]:
    contents = (cell.cell_contents for cell in function.__closure__)
    return dict(zip(function.__code__.co_freevars, contents, strict=True))


@pytest.mark.parametrize("way", ["auto", "symbolic", "export", "record"])
def test_what_a_method_closes_over_stays_as_it_was(way: str) -> None:
    model, x = Remembering().eval(), torch.ones(2, 4)
    lrp = LRPFx(model, capture=way)
    with suppress(LRPError):
        lrp.plan()
    lrp.attribute(x, 1)
    cells = cells_of(Remembering.weights)
    assert cells["known"] == {}
    assert cells["calls"] == 0


@pytest.mark.parametrize("way", ["auto", "symbolic", "record"])
def test_a_network_around_a_class_is_copied(way: str) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    net(torch.randn(8, 4))
    before = copy.deepcopy(net.state_dict())

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(net(x))  # type: ignore[no-any-return]

    model, x = Around(), torch.randn(2, 4)
    with suppress(LRPError):
        LRPFx(model, capture=way).attribute(x, 0)
    assert net.training
    assert all(torch.equal(before[name], now) for name, now in net.state_dict().items())
    found = structural_copy(model)(x)
    torch.testing.assert_close(found, model.fc(net.eval()(x)))


def test_functions_share_a_variable_in_the_copy_too() -> None:
    count = 0

    def increase() -> None:
        nonlocal count
        count += 1

    def read() -> int:
        return count

    model = nn.Linear(1, 1)
    model.increase, model.read = increase, read  # type: ignore[assignment]
    twin: Any = structural_copy(model)
    twin.increase()
    assert (twin.read(), count) == (1, 0)


SCALES: weakref.WeakKeyDictionary[nn.Module, float] = weakref.WeakKeyDictionary()


class Weakly(nn.Module):
    """A head that knows its encoder by ``refer`` alone, and its own scale in a table of all."""

    def __init__(self, refer: Callable[[nn.Module], Any], encoder: nn.Module) -> None:
        super().__init__()
        self.refer, self.fc = [refer(encoder)], nn.Linear(4, 3)
        SCALES[self] = 3.0

    def forward(self, x: Tensor) -> Tensor:
        (encoder,) = self.refer
        found = encoder()(x) if isinstance(encoder, weakref.ref) else encoder(x)
        return self.fc(found) * SCALES[self]  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["auto", "symbolic", "record"])
@pytest.mark.parametrize("refer", [weakref.ref, weakref.proxy])
def test_what_a_model_refers_to_weakly_is_copied(
    refer: Callable[[nn.Module], Any], way: str
) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    encoder(torch.randn(16, 4) * 3 + 1)
    before = copy.deepcopy(encoder.state_dict())
    model, x = Weakly(refer, encoder), torch.randn(2, 4)
    with suppress(LRPError):
        LRPFx(model, capture=way).attribute(x, 0)
    assert encoder.training
    assert all(torch.equal(before[name], now) for name, now in encoder.state_dict().items())
    twin = structural_copy(model)
    found = structural_copy(twin)(x)  # of a copy too
    torch.testing.assert_close(found, twin(x))
    encoder.eval()
    torch.testing.assert_close(found, model(x))


def test_a_dead_reference_stays_dead() -> None:
    model = nn.Linear(1, 1)
    linear = nn.Linear(1, 1)
    model.ref, model.proxies = weakref.ref(linear), [weakref.proxy(linear)]  # type: ignore[assignment]
    del linear
    twin: Any = structural_copy(model)
    assert twin.ref() is None
    with pytest.raises(ReferenceError):
        twin.proxies[0].training  # noqa: B018


class Missing:
    pass


class Context:
    pass


MISSING = Missing()
CONTEXT = Context()


class Sentinel(nn.Module):
    """Tells a global by its identity, in code that no copy can be given."""

    def __init__(self, scale: Any) -> None:
        super().__init__()
        self.fc, self.given = nn.Linear(4, 3), scale

    @property
    def scale(self) -> float:
        return 2.0 if self.given is MISSING or self.given is dataclasses.MISSING else 100.0

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self.scale  # type: ignore[no-any-return]


class Inheriting(Sentinel):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


@pytest.mark.parametrize("kind", [Sentinel, Inheriting])
@pytest.mark.parametrize("given", [MISSING, dataclasses.MISSING, None])
def test_a_sentinel_is_itself_in_the_copy(kind: type[Sentinel], given: Any) -> None:
    torch.manual_seed(0)
    model, x = kind(given).double().eval(), torch.randn(2, 4).double()
    assert torch.equal(structural_copy(model)(x), model(x))
    gradient = model(torch.eye(4).double())[:, 0] - model(torch.zeros(4).double())[0]
    found = LRPFx(model, "zero").attribute(x, 0)
    assert (found - x * gradient).abs().max() <= ROUNDING * 100


class Contextual(nn.Module):
    """Writes to an object that has no attributes yet: a global, or its own under another name."""

    def __init__(self, owns: bool) -> None:
        super().__init__()
        self.fc, self.context = nn.Linear(4, 3), CONTEXT if owns else None

    def forward(self, x: Tensor) -> Tensor:
        if self.context is None:
            CONTEXT.hidden = x  # type: ignore[attr-defined]
        else:
            self.context.hidden = x  # type: ignore[attr-defined]
        return self.fc(x)  # type: ignore[no-any-return]


@ways
@pytest.mark.parametrize("owns", [True, False])
def test_an_empty_object_that_forward_fills_stays_empty(way: str, owns: bool) -> None:
    LRPFx(Contextual(owns).eval(), capture=way).attribute(torch.ones(1, 4), 0)
    assert vars(CONTEXT) == {}


class Caching(nn.Module):
    """Remembers in caches of its class, which all instances share."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.factor = nn.Linear(4, 3), 2.0

    @functools.lru_cache  # noqa: B019  what users write
    def scale(self, size: int) -> Tensor:
        return self.factor * torch.ones(size)

    @staticmethod
    @functools.cache
    def shift(size: int) -> Tensor:
        return torch.ones(size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self.scale(3) + self.shift(3)  # type: ignore[no-any-return]


@ways
def test_caches_of_methods_stay_empty(way: str) -> None:
    """A stand-in of a tensor in one of them would break the user's next call."""
    model, x = Caching().eval(), torch.ones(2, 4)
    Caching.scale.cache_clear()
    Caching.shift.cache_clear()
    lrp = LRPFx(model, capture=way)
    lrp.attribute(x, 1)
    assert Caching.scale.cache_info().currsize == 0
    assert Caching.shift.cache_info().currsize == 0
    torch.testing.assert_close(lrp.explained_output(x), model(x).detach())
    model.factor = 3.0
    Caching.scale.cache_clear()
    torch.testing.assert_close(lrp.explained_output(x), model(x).detach())


BY_ID: dict[int, float] = {}


class Registered(nn.Module):
    """Has its scale in a table, by its identity."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        BY_ID[id(self)] = 2.0

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * BY_ID[id(self)]  # type: ignore[no-any-return]


@ways
def test_a_copy_answers_for_its_original(way: str) -> None:
    model, x = Registered().eval(), torch.ones(2, 4)
    lrp = LRPFx(model, capture=way)
    for _ in range(2):
        torch.testing.assert_close(lrp.explained_output(x), model(x).detach())
        BY_ID[id(model)] = 3.0


class Valued(nn.Module):
    """Reads the value of a plain tensor attribute as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.factor = nn.Linear(4, 3), torch.tensor(2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * float(self.factor)  # type: ignore[no-any-return]


def test_values_of_tensor_attributes_are_followed() -> None:
    model, x = Valued().eval(), torch.ones(2, 4)
    lrp = LRPFx(model)
    torch.testing.assert_close(lrp.explained_output(x), model(x).detach())
    model.factor.fill_(3.0)
    torch.testing.assert_close(lrp.explained_output(x), model(x).detach())


class Cache:
    """What a language model is given to keep keys in."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = [torch.ones(2, 3)]
        self.total, self.users = torch.zeros(3), collections.UserDict[str, int]()


class WithCache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.cache = nn.Linear(4, 3), Cache()

    def forward(self, x: Tensor, cache: Cache, log: Log) -> Tensor:
        y = self.fc(x)
        cache.keys.append(y)
        cache.total += 1.0
        cache.users["calls"] = 1
        log.steps += 1
        log.seen.append(y)  # type: ignore[arg-type]
        return y + len(self.cache.keys) * cache.keys[0] + cache.total


@ways
@pytest.mark.parametrize("owns", [True, False])
def test_objects_among_the_arguments_stay_as_they_were(way: str, owns: bool) -> None:
    """The model may hold the same object: then it sees there what it writes to the argument."""
    model, x, log = WithCache().eval(), torch.ones(2, 4), Log()
    cache = model.cache if owns else Cache()
    lrp = LRPFx(model, capture=way)
    with suppress(CaptureError):  # not every way follows writes to an object of the model's
        found = lrp.explained_output(x, (cache, log))
        lrp.attribute(x, 1, (cache, log))
        expected = model(x, copy.deepcopy(cache), Log()) if not owns else None
        assert expected is None or torch.allclose(found, expected)
    assert len(cache.keys) == 1
    assert not cache.total.any()
    assert not cache.users
    assert log == Log()


class Given:
    def __init__(self, values: Tensor) -> None:
        self.values = values


class Aliased(nn.Module):
    def forward(self, x: Tensor, given: Given) -> Tensor:
        return x * 2 + given.values


@ways
def test_an_argument_inside_another_is_that_argument(way: str) -> None:
    model, lrp = Aliased(), LRPFx(Aliased(), capture=way)
    for scale in (1.0, 2.0):
        x = scale * torch.ones(2, 3)
        for given in (Given(x), Given(torch.zeros(2, 3))):
            assert torch.equal(lrp.explained_output(x, (given,)), model(x, given))


class Teacher(nn.Module):
    """Moves weights that are registered nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.teachers = nn.Linear(4, 3), [nn.Linear(4, 3)]

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            torch._foreach_lerp_([self.teachers[0].weight], [self.fc.weight], 0.5)
            self.teachers[0].bias.fill_(1.0)
        return self.fc(x)  # type: ignore[no-any-return]


@ways
def test_weights_that_are_registered_nowhere_stay(way: str) -> None:
    model = Teacher().eval()
    before = copy.deepcopy(model.teachers[0].state_dict())
    with suppress(CaptureError):
        LRPFx(model, capture=way).attribute(torch.ones(2, 4), 1)
    after = model.teachers[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Bias(nn.Parameter):
    pass


class OfSubclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bias = nn.Linear(4, 3), Bias(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.bias.data = torch.full((3,), 3.0)
        return self.fc(x) + self.bias  # type: ignore[no-any-return]


@ways
def test_a_subclass_of_parameter_keeps_its_data(way: str) -> None:
    model = OfSubclass().eval()
    with suppress(CaptureError):
        LRPFx(model, capture=way).attribute(torch.ones(2, 4), 1)
    assert torch.equal(model.bias, torch.ones(3))
    assert isinstance(own_buffer(None, model.bias), Bias)


def test_scripted_modules_in_train_mode_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.BatchNorm1d(4).train(), torch.ones(3, 4), check_trace=False)
    before = copy.deepcopy(scripted.state_dict())
    with pytest.raises(InputError, match=r"BatchNorm1d.*train mode.*call .eval\(\)"):
        LRPFx(nn.Sequential(scripted, nn.Linear(4, 3)).train()).attribute(torch.ones(2, 4), 1)
    assert scripted.training
    assert all(torch.equal(before[name], value) for name, value in scripted.state_dict().items())


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


@ways
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
