"""What a signature sees, and what it does not: each change by itself, without any explanation."""

from __future__ import annotations

import abc
import builtins
import contextlib
import dataclasses
import enum
import functools
import gc
import logging
import re
import sys
import sysconfig
import threading
import types
import weakref
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from fractions import Fraction
from hashlib import md5
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrp_fx.capture.model_state import ModelState
from lrp_fx.capture.signature import MOST_VALUES, signature_of
from tests.helpers.edits import EDITS, Config, Holder, closed_over, taken_back

T = TypeVar("T")


class Holding(nn.Module):
    """Holds one value."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def is_still_watched(state: ModelState) -> bool:
    """Whether the next call goes without a walk through the model."""
    return state._watch.holds()


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_is_seen(edit: str) -> None:
    torch.manual_seed(0)
    model = Holder().double().eval()
    state = ModelState(model)
    before = state.signature()
    assert before.is_complete
    assert state.signature() is before
    assert is_still_watched(state)
    with taken_back():
        EDITS[edit](model)
        assert state.signature() != before


class Typed:
    scale = 1.0


class Meta(type):
    scale = 1.0


class One:
    pass


class Other:
    pass


class Changing(One, metaclass=Meta):
    pass


class Patched(nn.Linear):
    """One of torch's own, as far as anybody can tell."""

    __module__ = "torch.nn.patched"


class Failing(np.ndarray):
    """An array that does not even tell its size."""

    @property
    def nbytes(self) -> int:
        raise RuntimeError("no size")


class Two:
    __slots__ = ("first", "second")

    def __init__(self) -> None:
        self.first = 1.0


class Named(list[float]):
    """A list with an attribute."""

    scale = 1.0


def reading(*names: str) -> types.FunctionType:
    """A function that reads these globals, each of them 1.0."""
    code = compile(f"({', '.join(names)},)", "own.py", "eval")
    return types.FunctionType(code, dict.fromkeys(names, 1.0))


def imported(file: str | None = "own.py") -> types.ModuleType:
    """A module of the user's."""
    module = types.ModuleType("settings")
    vars(module).update(SCALE=1.0, table={"x": 1.0}, __file__=file)
    return module


def by_name(module: types.ModuleType) -> Any:
    """Something that reads from a module what it calls SCALE, by attribute."""
    return [module, types.FunctionType(compile("m.SCALE", "own.py", "eval"), {})]


def by_text(module: types.ModuleType) -> Any:
    """The same with ``getattr``, with the name in code."""
    return [module, types.FunctionType(compile("getattr(m, 'SCALE')", "own.py", "eval"), {})]


@contextlib.contextmanager
def guarded(*given: Any, **named: Any) -> Iterator[None]:
    yield


@contextlib.contextmanager
def unguarded(*given: Any, **named: Any) -> Iterator[None]:
    yield


def no_hook(*given: Any) -> None:
    pass


def held_in_cell(value: Any) -> Any:
    return lambda: value


RELU6 = torch.nn.functional.relu6
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    # how the value is made, and what changes of it
    "bytearray": (lambda: bytearray(b"ab"), lambda v: v.__setitem__(0, 3)),
    "shape of an array": (lambda: np.ones(2), lambda v: v.resize((2, 1), refcheck=False)),
    "in an array of objects": (
        lambda: np.array([[1.0], {}], object),
        lambda v: v[0].append(2.0),
    ),
    "dtype of an array": (lambda: np.ones(2), lambda v: setattr(v, "dtype", np.int64)),
    "code": (lambda: reading("A"), lambda v: setattr(v, "__code__", reading("B").__code__)),
    "keyword defaults": (
        lambda: reading("A"),
        lambda v: setattr(v, "__kwdefaults__", {"x": 1.0}),
    ),
    "attribute of a function": (lambda: reading("A"), lambda v: setattr(v, "x", 1.0)),
    "attributes of a function": (lambda: reading("A"), lambda v: setattr(v, "__dict__", {"x": 1})),
    "the one global": (lambda: reading("A"), lambda v: v.__globals__.update(A=2.0)),
    "one of two globals": (lambda: reading("A", "B"), lambda v: v.__globals__.update(B=2.0)),
    "one of three globals": (lambda: reading("A", "B", "C"), lambda v: v.__globals__.update(C=2.0)),
    "global that was not": (
        lambda: [f := reading("A"), f.__globals__.pop("A")][0],
        lambda v: v.__globals__.update(A=2.0),
    ),
    "cell": (lambda: held_in_cell(1.0), lambda v: setattr(v.__closure__[0], "cell_contents", 2.0)),
    "attribute of a class that is held": (lambda: Typed, lambda v: setattr(Typed, "scale", 2.0)),
    "attribute of a metaclass": (lambda: Changing(), lambda v: setattr(Meta, "scale", 2.0)),
    "of the metaclass of a class": (lambda: Changing, lambda v: setattr(Meta, "scale", 2.0)),
    "bases of a class": (lambda: Changing(), lambda v: setattr(Changing, "__bases__", (Other,))),
    "slot that was empty": (lambda: Two(), lambda v: setattr(v, "second", 1.0)),
    "slot": (lambda: Two(), lambda v: setattr(v, "first", 2.0)),
    "attribute of a list": (lambda: Named([1.0]), lambda v: setattr(v, "scale", 2.0)),
    "entry of a list with attributes": (lambda: Named([1.0]), lambda v: v.__setitem__(0, 2.0)),
    "value of a module": (lambda: by_name(imported()), lambda v: setattr(v[0], "SCALE", 2.0)),
    "by its text": (lambda: by_text(imported()), lambda v: setattr(v[0], "SCALE", 2.0)),
    "by a text that is held": (
        lambda: [imported(), "SCALE"],
        lambda v: setattr(v[0], "SCALE", 2.0),
    ),
    "table of a module": (
        lambda: [imported(), "table"],
        lambda v: v[0].table.update(x=2.0),
    ),
    "name that a module gets": (lambda: [imported(), "LATER"], lambda v: setattr(v[0], "LATER", 1)),
    "function of torch": (
        lambda: [torch.nn.functional, "relu6"],
        lambda v: setattr(torch.nn.functional, "relu6", no_hook),
    ),
    "attribute of a tensor": (lambda: [torch.ones(1)], lambda v: setattr(v[0], "scale", 2.0)),
    "attribute of a parameter": (
        lambda: nn.Linear(1, 1),
        lambda v: setattr(v.weight, "scale", 2.0),
    ),
    "hook": (lambda: nn.Linear(1, 1), lambda v: v.register_forward_hook(no_hook)),
    "hook with keywords": (
        lambda: nn.Linear(1, 1),
        lambda v: v._forward_hooks_with_kwargs.update({1: True}),
    ),
    "hook that is always called": (
        lambda: nn.Linear(1, 1),
        lambda v: v._forward_hooks_always_called.update({1: True}),
    ),
    "pre-hook": (lambda: nn.Linear(1, 1), lambda v: v.register_forward_pre_hook(no_hook)),
    "pre-hook with keywords": (
        lambda: nn.Linear(1, 1),
        lambda v: v._forward_pre_hooks_with_kwargs.update({1: True}),
    ),
    "buffer": (lambda: nn.Linear(1, 1), lambda v: v.register_buffer("x", torch.ones(1))),
    "module": (lambda: nn.Linear(1, 1), lambda v: v.add_module("x", nn.ReLU())),
    "parameter": (lambda: nn.Linear(1, 1), lambda v: v.register_parameter("bias", None)),
    "form of a layer": (lambda: nn.Linear(1, 1), lambda v: setattr(v, "in_features", 2)),
    "end of an array": (lambda: np.ones(100), lambda v: v.__setitem__(99, 2.0)),
    "keyword of a partial": (
        lambda: functools.partial(no_hook, x=1.0),
        lambda v: v.keywords.update(x=2.0),
    ),
    "attribute of a partial": (
        lambda: functools.partial(no_hook, x=1.0),
        lambda v: setattr(v, "y", 2.0),
    ),
    "default of a cached function": (
        lambda: functools.lru_cache(reading("A")),
        lambda v: v.__wrapped__.__globals__.update(A=2.0),
    ),
    "object of a bound method": (lambda: [1.0].append, lambda v: v(2.0)),
    "object of a method": (
        lambda: types.MethodType(no_hook, [1.0]),
        lambda v: v.__self__.append(2.0),
    ),
    "default dict": (lambda: defaultdict(list, x=1.0), lambda v: v.update(x=2.0)),
    "namespace": (lambda: types.SimpleNamespace(x=1.0), lambda v: setattr(v, "x", 2.0)),
    "property": (lambda: property(reading("A")), lambda v: v.fget.__globals__.update(A=2.0)),
    "static method": (
        lambda: staticmethod(reading("A")),
        lambda v: v.__func__.__globals__.update(A=2.0),
    ),
    "class method": (
        lambda: classmethod(reading("A")),
        lambda v: v.__func__.__globals__.update(A=2.0),
    ),
    "argument of an error": (lambda: ValueError([1.0]), lambda v: v.args[0].append(2.0)),
}


@pytest.fixture
def _as_before() -> Iterator[None]:
    yield
    Typed.scale = Meta.scale = 1.0
    Changing.__bases__ = (One,)
    torch.nn.functional.relu6 = RELU6


@pytest.mark.usefixtures("_as_before")
@pytest.mark.filterwarnings("ignore:Setting the dtype")
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_inside_of_a_value_is_seen(name: str) -> None:
    """A watch sees it in the same objects; the signature is another one."""
    make, change = CHANGES[name]
    state = ModelState(Holding(make()))
    before = state.signature()
    assert before.is_complete
    assert is_still_watched(state)
    change(state.model.value)
    assert not is_still_watched(state)
    after = state.signature()
    assert after.is_complete
    assert after != before


def test_what_a_view_of_a_mapping_shows_is_seen() -> None:
    shown = {"x": 1.0}
    state = ModelState(Holding(types.MappingProxyType(shown)))
    before = state.signature()
    shown["x"] = 2.0
    assert state.signature() != before


INFERRED: list[Tensor] = []
with torch.inference_mode():
    INFERRED += [torch.ones(1), torch.ones(1)]

DIFFERENT: dict[str, tuple[Any, Any]] = {
    "patterns": (re.compile("a"), re.compile("b")),
    "classes": (Typed, One),
    "operations": (torch.ops.aten.relu, torch.ops.aten.tanh),
    "dtypes": (torch.float32, torch.float64),
    "slices": (slice(1, 2, 3), slice(1, 2, 4)),
    "starts of slices": (slice(1, 2, 3), slice(0, 2, 3)),
    "ends of slices": (slice(1, 2, 3), slice(1, 3, 3)),
    "ranges": (range(1, 9, 3), range(1, 9, 4)),
    "starts of ranges": (range(1, 9, 3), range(2, 9, 3)),
    "ends of ranges": (range(1, 8, 3), range(1, 9, 3)),
    "devices": (torch.device("cuda", 0), torch.device("cuda", 1)),
    "kinds of devices": (torch.device("cpu"), torch.device("meta")),
    "bound methods": ([1.0].append, [1.0].extend),
    "methods": (types.MethodType(no_hook, 1), types.MethodType(held_in_cell, 1)),
    "partials": (functools.partial(no_hook), functools.partial(held_in_cell)),
    "arguments of partials": (functools.partial(no_hook, 1), functools.partial(no_hook, 2)),
    "lengths of queues": (deque([1], 3), deque([1], 4)),
    "lists and tuples": ([1], (1,)),
    "lists and queues": ([1], deque([1])),
    "sets and lists": ({1}, [1]),
    "dicts and lists": ({1: 2}, [1, 2]),
    "sets": ({1}, {2}),
    "frozen sets": (frozenset({1}), frozenset({2})),
    "numbers and truths": (1, True),
    "numbers of one hash": (-1, -2),
    "slices and ranges": (slice(1, 2, 3), range(1, 2, 3)),
    "decorators": (guarded(), unguarded()),
    "arguments of decorators": (guarded(1), guarded(2)),
    "keywords of decorators": (guarded(x=1), guarded(x=2)),
    "iterators": (iter([1]), iter([2])),
    "zeros": (0.0, -0.0),
    "numbers": (1, 1.0),
    "real parts": (1 + 1j, 2 + 1j),
    "imaginary parts": (1 + 1j, 1 + 2j),
    "marks": (object(), object()),
    "bytes": (b"a", b"b"),
    "bytes and texts": (b"a", "a"),
    "byte arrays": (bytearray(b"a"), bytearray(b"b")),
    "scalars of arrays": (np.float64(1), np.float64(2)),
    "dtypes of scalars": (np.float32(0), np.int32(0)),
    "arrays": (np.ones(2), np.zeros(2)),
    "shapes of arrays": (
        np.lib.stride_tricks.as_strided(np.ones(2), (2, 1), (8, 8)),
        np.lib.stride_tricks.as_strided(np.ones(2), (1, 2), (8, 8)),
    ),
    "strides of arrays": (np.ones((2, 2)), np.ones((2, 2)).T.copy().T),
    "dtypes of arrays": (np.zeros(2), np.zeros(2, np.int64)),
    "arrays of objects": (np.array([[1], {}], object), np.array([[2], {}], object)),
    "errors": (ValueError(1), ValueError(2)),
    "views of mappings": (types.MappingProxyType({1: 2}), types.MappingProxyType({1: 3})),
    "inferred tensors": (INFERRED[0], INFERRED[1]),
    "tensors": (torch.ones(1), torch.ones(1)),
    "sharing": ((lambda a: [a, a])([]), [[], []]),
    "what belongs to what": ([[1], 2], [[1, 2]]),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_has_another_signature(name: str) -> None:
    one, other = DIFFERENT[name]
    assert signature_of(one) == signature_of(one) != one
    assert signature_of(one) != signature_of(other)
    assert signature_of(one).is_complete == (name not in ("inferred tensors", "iterators"))


def test_what_is_followed_counts_by_its_name_and_form() -> None:
    """The inputs: their values change in each call."""
    one, other = torch.zeros(2), torch.ones(2)
    assert signature_of(one, followed={id(one): "x"}) == signature_of(
        other, followed={id(other): "x"}
    )
    assert signature_of(one, followed={id(one): "x"}) != signature_of(one, followed={id(one): "y"})
    wider = torch.ones(3)
    assert signature_of(one, followed={id(one): "x"}) != signature_of(
        wider, followed={id(wider): "x"}
    )


class Text(str):
    pass


class Whole(int):
    pass


class Real(float):
    pass


class Both(complex):
    pass


class Octets(bytes):
    pass


@pytest.mark.parametrize("kind", [Text, Whole, Real, Both, Octets])
def test_values_of_kinds_of_their_own(kind: Any) -> None:
    def value(number: str) -> Any:
        return kind(number.encode()) if kind is Octets else kind(number)

    assert signature_of(value("1")) == signature_of(value("1"))
    assert signature_of(value("1")) != signature_of(value("2"))
    assert signature_of(value("1")).is_complete


@dataclasses.dataclass
class Record(abc.ABC, Generic[T]):
    """With all that Python writes into a class."""

    x: float = 1.0
    y: list[int] = dataclasses.field(default_factory=list)


class Made:
    """Its ``__new__`` is one of C, but not its own."""

    __new__ = object.__new__


class Choice(enum.Enum):
    A = 1


SIGNED: list[Any] = [
    *(torch, len, torch.relu, str.join, dict.fromkeys, "".join, [].__len__, int.__add__),
    *(reading("A").__code__, list[int], int | str, Callable[[int], int], Two.first, vars(Typed)),
    *(vars(dict)["fromkeys"], type.__dict__["__mro__"], threading.Lock(), threading.RLock()),
    *(logging.getLogger("lrp_fx.test"), re.compile("a"), np.dtype("f8"), np.add, torch.float32),
    *(torch.strided, torch.channels_last, torch.finfo(torch.float32), torch.iinfo(torch.int8)),
    *(torch.ops.aten.relu, torch.ops.aten.relu.default, torch.fx.Graph(), torch.device("cpu")),
    torch.optim.SGD([torch.ones(1)], 0.1),
    torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)], 0.1), 1),
    *(
        Record(),
        Record,
        Choice.A,
        Choice,
        nn.Linear(1, 1),
        nn.Linear,
        object(),
        ...,
        NotImplemented,
    ),
    *(slice(1), range(1), functools.lru_cache(no_hook), functools.partial(no_hook), property()),
    *(
        OrderedDict(a=1),
        defaultdict(int),
        deque([1]),
        {1},
        frozenset({1}),
        Counter("a"),
        UserDict(),
    ),
    *(Fraction(1, 2), weakref.WeakKeyDictionary()),
    *(namedtuple("Pair", "x")(1), Made()),
]


@pytest.mark.parametrize("value", SIGNED, ids=lambda value: type(value).__name__)
def test_what_can_be_signed(value: Any) -> None:
    """Otherwise each call would cost a forward pass more."""
    assert signature_of([value]).is_complete


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
    [
        iter([1]),
        (i for i in [1]),
        np.random.default_rng(0),
        torch.Generator(),
        np.zeros(100_000),
        md5(),
        np.ones(1).view(Failing),
    ],
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


@pytest.mark.parametrize("kind", [float, str, int])
def test_equal_sets_have_equal_signatures(kind: Any) -> None:
    """Of equal values that are other objects, made in another order."""
    texts = [f"{number}000" for number in range(1, 30)]
    one, other = [kind(text) for text in texts], [kind(f"{text}") for text in reversed(texts)]
    assert signature_of(set(one)) == signature_of(set(other))


def test_a_weak_reference_counts_where_it_is() -> None:
    target = nn.Linear(1, 1)
    one = signature_of(target, [weakref.ref(target), 1])
    assert one != signature_of(target, [1, weakref.ref(target)])


def test_the_end_of_what_is_referred_to_is_seen() -> None:
    target = Config()
    state = ModelState(Holding([weakref.ref(target)]))
    state.signature()
    assert is_still_watched(state)
    del target
    gc.collect()
    assert not is_still_watched(state)
    assert state.signature().is_complete


def test_a_dict_that_a_handle_refers_to_is_signed() -> None:
    one, other = OrderedDict(a=1), OrderedDict(a=2)
    assert signature_of(weakref.ref(one)) != signature_of(weakref.ref(other))
    assert signature_of(weakref.ref(one)).is_complete


def test_tensors_without_a_version_are_verified() -> None:
    signature = signature_of([INFERRED[0]])
    assert not signature.is_complete
    with torch.inference_mode():
        INFERRED[0].add_(1)
    assert signature_of([INFERRED[0]]) != signature


def test_what_is_known_by_identity_is_held() -> None:
    """Otherwise another object might get its identity, once nothing else holds it."""
    code, other = (compile(text, "<frozen own>", "eval") for text in "12")
    pattern, tensor = re.compile("held"), torch.ones(1)
    installed = compile("A", f"{sysconfig.get_path('purelib')}/one.py", "eval")
    function, user = types.FunctionType(code, {}), types.FunctionType(installed, {"A": Typed()})
    Patched.value = Typed()  # type: ignore[attr-defined]
    references = [weakref.ref(each) for each in (code, pattern, tensor, user.__globals__["A"])]
    references.append(weakref.ref(Patched.value))  # type: ignore[attr-defined]
    signature = signature_of(pattern, tensor, function, user, Patched(1, 1))
    function.__code__, user.__globals__["A"], Patched.value = other, 1, 1  # type: ignore[attr-defined]
    del code, pattern, tensor
    re.purge()
    gc.collect()
    assert None not in [reference() for reference in references]
    del signature
    gc.collect()
    assert [reference() for reference in references] == [None] * 5


def test_empty_attributes_that_are_one_are_told_apart() -> None:
    one, two = Holding({}), Holding({})
    one.other, two.other = one.value, {}
    assert signature_of(one) != signature_of(two)


def test_numbers_of_installed_packages_count_by_value() -> None:
    installed = compile("A", f"{sysconfig.get_path('purelib')}/one.py", "eval")
    one, same, other = (
        types.FunctionType(installed, {"A": int(n)}) for n in ("1000", "1000", "2000")
    )
    state = ModelState(Holding(one))
    before = state.signature()
    one.__globals__["A"] = same.__globals__["A"]
    assert state.signature() is before
    one.__globals__["A"] = other.__globals__["A"]
    assert state.signature() != before


class Registry(dict[str, Any]):
    """What a package registers functions with, in itself and in its class."""

    shared: ClassVar[dict[str, Any]] = {"a": no_hook}


class Settings:
    """The configuration of a package."""

    __slots__ = ("__dict__", "slot")
    scale = 1.0


def packaged(**held: Any) -> types.FunctionType:
    """A function of an installed package, which names the globals that the package holds."""
    file = f"{sysconfig.get_path('purelib')}/one.py"
    return types.FunctionType(compile(f"({', '.join(held)},)", file, "eval"), held)


HELD: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "dict": (lambda: {"a": no_hook}, lambda v: v.update(a=held_in_cell)),
    "list": (lambda: [no_hook], lambda v: v.append(held_in_cell)),
    "nested": (lambda: {"a": [1.0]}, lambda v: v["a"].append(2.0)),
    "registry": (lambda: Registry(a=no_hook), lambda v: v.update(a=held_in_cell)),
    "shared registry": (Registry, lambda v: v.shared.update(a=held_in_cell)),
    "attribute": (Settings, lambda v: setattr(v, "scale", 2.0)),
    "slot": (Settings, lambda v: setattr(v, "slot", 2.0)),
    "class attribute": (lambda: Settings, lambda v: setattr(Settings, "scale", 2.0)),
    "attribute of a class of a value": (Settings, lambda v: setattr(Settings, "scale", 2.0)),
    "method of a class": (lambda: Settings, lambda v: setattr(Settings, "__len__", no_hook)),
    "array": (lambda: np.ones(2), lambda v: v.__setitem__(0, 2.0)),
    "tensor": (lambda: torch.ones(2), lambda v: v.numpy().fill(2.0)),
    "of a function": (
        lambda: packaged(inner={"a": 1.0}),
        lambda v: v.__globals__["inner"].update(a=2.0),
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_data_of_installed_packages_count_by_their_parts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the functions that a package finds by name, and its settings."""
    monkeypatch.setattr(Settings, "scale", 1.0)
    monkeypatch.setitem(Registry.shared, "a", no_hook)
    make, edit = HELD[name]
    value = make()
    state = ModelState(Holding(packaged(held=value)))
    before = state.signature()
    assert before.is_complete
    assert state.signature() is before
    edit(value)
    assert state.signature() != before
    if "__len__" in vars(Settings):
        del Settings.__len__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "value", [{n: n for n in range(2000)}, np.ones(10**6), threading.Thread(), nn.Linear(1, 1)]
)
def test_what_is_no_data_of_a_package_counts_by_identity(value: Any) -> None:
    """Large containers too, which would have to be compared in each call."""
    state = ModelState(Holding(packaged(held=value)))
    assert state.signature().is_complete
    assert len(state.signature().entries) < 100


def test_the_bases_of_a_class_are_held() -> None:
    state = ModelState(Holding(Changing()))
    state.signature()
    assert any(each is Changing.__mro__ for each in state._watch.held)


def test_optimizers_may_go_on() -> None:
    """No forward reads from them."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    state = ModelState(Holding([optimizer, scheduler]))
    before = state.signature()
    parameter.grad = torch.ones(1)
    optimizer.step()
    scheduler.step()
    assert state.signature() is before


def test_what_tracing_patches_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may be tracing."""
    state = ModelState(nn.Linear(1, 1))
    before = state.signature()
    monkeypatch.setattr(nn.Module, "__call__", no_hook)
    assert state.signature() is before


def test_a_signature_has_an_end() -> None:
    assert not signature_of(list(range(MOST_VALUES + 1))).is_complete


def test_numbers_that_come_and_go_are_seen() -> None:
    """A new number may get the identity of an old one that nobody holds any more."""
    model = Holding([1.0])
    model.factor = 1.0  # type: ignore[assignment]
    state = ModelState(model)
    for _ in range(20):
        before = state.signature()
        for _ in range(2):
            model.factor *= 1.1  # type: ignore[operator, assignment]
        assert state.signature() != before


def test_hooks_of_all_modules_are_seen() -> None:
    state = ModelState(nn.Linear(1, 1))
    before = state.signature()
    for register in (
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ):
        handle = register(no_hook)
        try:
            assert not is_still_watched(state)
            assert state.signature() != before
        finally:
            handle.remove()
        assert state.signature() == before


def test_a_layer_of_torch_that_is_patched_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    state = ModelState(nn.Linear(1, 1))
    before = state.signature()
    monkeypatch.setattr(nn.Linear, "forward", no_hook)
    assert state.signature() != before


def test_what_the_compiler_writes_down_is_no_change() -> None:
    """``torch.compile`` marks the parameters that it meets; a reading of the model still holds."""
    model = nn.Linear(2, 2)
    before = signature_of(model)
    model.weight._dynamo_static_input_type = "unguarded"
    assert signature_of(model) == before
    model.weight.of_the_user = "new"
    assert signature_of(model) != before


class Saving:
    """Methods that read outside the model, and that no code names."""

    def save(self) -> Any:
        return open("file")

    @property
    def saved(self) -> Any:
        return open("file")

    @staticmethod
    def kept() -> Any:
        return open("file")

    @classmethod
    def written(cls) -> Any:
        return open("file")

    def __repr__(self) -> str:
        return str(open("file"))


class SavingInForward(Saving):
    def forward(self) -> Any:
        return open("file")


class SavingInCalls(Saving):
    def __call__(self) -> Any:
        return open("file")


class SavingByName(Saving):
    def forward(self) -> Any:
        return self.save()


def test_code_that_reads_outside_counts_if_it_may_run() -> None:
    assert signature_of(Saving()).is_complete
    for each in (SavingInForward(), SavingInCalls(), SavingByName(), reading("open")):
        assert signature_of(each).is_complete == (each.__class__ is types.FunctionType)
    assert not signature_of(types.FunctionType(compile("open", "own.py", "eval"), {})).is_complete


def test_what_cannot_be_signed_is_not_made_good() -> None:
    assert not signature_of([iter([1]), torch.ones(1)]).is_complete


def test_a_class_registered_with_an_abstract_one_is_seen() -> None:
    class Abstract(abc.ABC):  # noqa: B024
        pass

    state = ModelState(Holding(Abstract()))
    before = state.signature()
    assert is_still_watched(state)
    Abstract.register(One)
    assert not is_still_watched(state)
    assert state.signature() != before


def test_registered_classes_do_not_count_where_none_is_abstract() -> None:
    class Abstract(abc.ABC):  # noqa: B024
        pass

    state = ModelState(Holding(1.0))
    before = state.signature()
    Abstract.register(One)
    assert state.signature() is before


@pytest.mark.parametrize("name", ["ascii", "memoryview"])  # a function and a class
def test_a_name_of_python_that_is_patched_is_seen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = ModelState(Holding(types.FunctionType(compile(name, "own.py", "eval"), {})))
    before = state.signature()
    assert is_still_watched(state)
    monkeypatch.setattr(builtins, name, no_hook)
    assert not is_still_watched(state)
    assert state.signature() != before


def test_what_a_function_imports_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    module = imported()
    monkeypatch.setitem(sys.modules, "settings", module)
    body = "def function():\n    import settings\n    return settings.SCALE"
    code = next(c for c in compile(body, "own.py", "exec").co_consts if type(c) is types.CodeType)
    state = ModelState(Holding(types.FunctionType(code, {})))
    before = state.signature()
    module.SCALE = 2.0  # type: ignore[attr-defined]
    assert state.signature() != before


INSTALLED = f"{sysconfig.get_path('purelib')}/one.py"


@pytest.mark.parametrize("file", ["own.py", INSTALLED])
@pytest.mark.parametrize("code", ["getattr(m, n)", "m.table"])
@pytest.mark.parametrize("edit", ["replaced", "added"])
def test_members_by_computed_names(code: str, file: str, edit: str) -> None:
    """In a module of the user's, any may be meant; in an installed one, only what is named."""
    module = imported(file)
    reader = types.FunctionType(compile(code, "own.py", "eval"), {"n": object()})
    state = ModelState(Holding([module, reader]))
    before = state.signature()
    setattr(module, "SCALE" if edit == "replaced" else "more", 2.0)
    counts = "getattr" in code and file == "own.py"
    assert is_still_watched(state) != counts
    assert (state.signature() != before) == counts
