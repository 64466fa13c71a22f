"""The copy on which a model is read: what it holds by reference, and what it shares."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.capture.stand_ins import own_buffer
from lrp_fx.capture.structural_copy import structural_copy
from lrp_fx.errors import CaptureError, LRPError
from tests.helpers.captures import Log, recorded_too
from tests.helpers.closeness import QUOTIENTS


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
    assert (found - x * gradient).abs().max() <= QUOTIENTS * 100


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


@recorded_too
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


@recorded_too
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


@recorded_too
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


@recorded_too
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


@recorded_too
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


@recorded_too
def test_weights_that_are_registered_nowhere_stay(way: str) -> None:
    model = Teacher().eval()
    before = copy.deepcopy(model.teachers[0].state_dict())
    with suppress(CaptureError):
        LRPFx(model, capture=way).attribute(torch.ones(2, 4), 1)
    after = model.teachers[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
