"""What a reading depends on: every change between two calls is seen, and nothing else is."""

from __future__ import annotations

import contextlib
import enum
import functools
import gc
import types
import weakref
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.capture import ModelState
from lrp_fx.capture.model_state import signature_of
from lrp_fx.errors import OptionError

EXACT = 1e-9
"""Of float64: the graph runs the model's own kernels, folded norms in another order."""


class Mode(enum.Enum):
    A = 1
    B = 2


@dataclass
class Config:
    scale: float = 1.0
    hidden: float = field(default=1.0, repr=False)


class Slotted:
    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 1.0


class Nasty:
    """Fails whenever its own code runs."""

    def __init__(self) -> None:
        vars(self)["scale"] = 1.0

    def __eq__(self, other: object) -> bool:
        raise AssertionError("__eq__ was called")

    def __hash__(self) -> int:
        raise AssertionError("__hash__ was called")

    def __repr__(self) -> str:
        raise AssertionError("__repr__ was called")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


Pair = namedtuple("Pair", "scale shift")
GLOBAL = {"scale": 1.0}


def use_global(x: Tensor) -> Tensor:
    return x * GLOBAL["scale"]


def use_later(x: Tensor) -> Tensor:
    try:
        return x * LATER  # type: ignore[name-defined, no-any-return]
    except NameError:
        return x


def closed_over(values: list[float], factor: float = 1.0) -> Callable[[Tensor], Tensor]:
    def act(x: Tensor, by: float = factor) -> Tensor:
        return F.relu(x) * values[0] * by

    return act


class Holder(nn.Module):
    """Reads one thing of each kind."""

    level = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        self.factor, self.listed, self.table = 1.0, [1.0], {"scale": 1.0}
        self.ordered = OrderedDict(x=1.0, y=2.0)
        self.queue, self.exits, self.pair = deque([1.0]), {"last"}, Pair(1.0, 0.0)
        self.config, self.space = Config(), types.SimpleNamespace(scale=1.0, deep=[{"x": 1.0}])
        self.slotted, self.nasty, self.array = Slotted(), Nasty(), np.ones(2)
        self.objects = np.array([1.0, 2.0], dtype=object)
        self.mode, self.act, self.values = Mode.A, F.relu, [1.0]
        self.closure, self.part = closed_over(self.values), functools.partial(torch.mul, other=1.0)
        self.tensors = {"a": torch.ones(6).double()}
        self.stack = [torch.ones(6).double()]
        self.plain_list = [nn.Linear(6, 6).double()]
        self.bound = self.table.get
        self.alone, self.left, self.right = closed_over([1.0]), {"x": 1.0}, {}
        self.named, self.large = {"x": 1.0}, [torch.ones(100_000).double()]

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.a(x)) * self.factor * self.listed[0] * self.table["scale"] * self.level
        h = h * next(iter(self.ordered.values())) * self.queue[0] * self.pair.scale
        h = h * self.config.scale * self.config.hidden * self.space.scale * self.space.deep[0]["x"]
        h = h * self.slotted.scale * vars(self.nasty)["scale"] * float(self.array[0])
        h = (
            h
            * self.objects[0]
            * (1 if self.mode is Mode.A else -2)
            * (2 if "more" in self.exits else 1)
        )
        h = (
            use_later(self.alone(h))
            * (2 if "x" in self.right else 1)
            * (2 if "y" in self.named else 1)
        )
        h = h * self.large[0][5]
        h = use_global(self.part(self.closure(h))) * self.tensors["a"] * self.stack[0]
        return self.b(self.plain_list[0](h))


def twos() -> Tensor:
    return torch.full((6,), 2.0).double()


def change_default(m: Holder) -> None:
    m.closure.__defaults__ = (3.0,)


EDITS: dict[str, Callable[[Holder], Any]] = {
    "float": lambda m: setattr(m, "factor", 2.0),
    "list": lambda m: m.listed.__setitem__(0, 2.0),
    "dict": lambda m: m.table.__setitem__("scale", 2.0),
    "order": lambda m: m.ordered.move_to_end("x"),
    "deque": lambda m: m.queue.__setitem__(0, 2.0),
    "set": lambda m: m.exits.add("more"),
    "namedtuple": lambda m: setattr(m, "pair", Pair(2.0, 0.0)),
    "dataclass": lambda m: setattr(m.config, "scale", 2.0),
    "field without repr": lambda m: setattr(m.config, "hidden", 2.0),
    "namespace": lambda m: setattr(m.space, "scale", 2.0),
    "deep": lambda m: m.space.deep[0].__setitem__("x", 2.0),
    "slot": lambda m: setattr(m.slotted, "scale", 2.0),
    "nasty": lambda m: vars(m.nasty).__setitem__("scale", 2.0),
    "array": lambda m: m.array.__setitem__(0, 2.0),
    "array of objects": lambda m: m.objects.__setitem__(0, 3.0),
    "enum": lambda m: setattr(m, "mode", Mode.B),
    "function": lambda m: setattr(m, "act", F.silu),
    "what a closure holds": lambda m: m.values.__setitem__(0, 2.0),
    "closure": lambda m: setattr(m, "closure", closed_over([1.0], 3.0)),
    "default": change_default,
    "partial": lambda m: setattr(m, "part", functools.partial(torch.mul, other=2.0)),
    "global": lambda m: GLOBAL.__setitem__("scale", 2.0),
    "tensor in a dict": lambda m: m.tensors.__setitem__("a", twos()),
    "written to in a dict": lambda m: m.tensors["a"].mul_(2),
    "data in a dict": lambda m: m.tensors["a"].data.mul_(2),
    "tensor in a list": lambda m: m.stack.__setitem__(0, twos()),
    "module in a list": lambda m: m.plain_list.__setitem__(0, nn.Linear(6, 6).double()),
    "parameter in a list": lambda m: setattr(
        m.plain_list[0], "weight", nn.Parameter(torch.randn(6, 6).double())
    ),
    "class attribute": lambda m: setattr(Holder, "level", 2.0),
    "method": lambda m: setattr(m, "forward", types.MethodType(lambda s, x: s.b(s.a(x)), m)),
    "class of an object": lambda m: setattr(m.a, "__class__", Doubled),
    "hook": lambda m: m.b.register_forward_hook(lambda module, args, output: output * 2),
    "what only a closure holds": lambda m: cell(m).cell_contents.__setitem__(0, 2.0),
    "cell": lambda m: setattr(cell(m), "cell_contents", [2.0]),
    "all attributes": lambda m: setattr(m.config, "__dict__", {"scale": 2.0, "hidden": 1.0}),
    "moved to the next dict": lambda m: m.right.__setitem__("x", m.left.pop("x")),
    "key": lambda m: m.named.__setitem__("y", m.named.pop("x")),
    "new global": lambda m: globals().__setitem__("LATER", 2.0),
    "one entry of a large tensor": lambda m: m.large[0].__setitem__(5, 2.0),
    "form of a tensor": lambda m: setattr(m.stack[0], "data", m.stack[0].data[:1] * 2),
    "pre-hook": lambda m: m.b.register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
}


def cell(m: Holder) -> types.CellType:
    return m.alone.__closure__[0]  # type: ignore[no-any-return]


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    yield
    Holder.level, GLOBAL["scale"] = 1.0, 1.0
    globals().pop("LATER", None)


def check(lrp: LRPFx, model: nn.Module, x: Tensor, composite: str | None, target: Any = 1) -> None:
    """The explained output is the model's own, and the map that of a fresh explainer."""
    was = model.training
    with torch.no_grad():
        own = model.eval()(x)
    model.train(was)
    torch.testing.assert_close(lrp.explained_output(x), own, rtol=EXACT, atol=EXACT)
    expected = LRPFx(model, composite).attribute(x, target)
    torch.testing.assert_close(lrp.attribute(x, target), expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_is_seen(edit: str) -> None:
    torch.manual_seed(0)
    model, x = Holder().double().eval(), torch.randn(3, 4).double()
    lrp, state = LRPFx(model, "epsilon"), ModelState(model)
    before, first = state.signature(), lrp.explained_output(x)
    assert before.is_complete
    assert state.signature() is before
    EDITS[edit](model)
    assert state.signature() != before
    check(lrp, model, x, "epsilon")
    assert not torch.equal(first, lrp.explained_output(x))


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


class Opaque(nn.Module):
    """Reads from an array that is too large to compare."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.array = nn.Linear(4, 3), np.ones(100_000)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * float(self.array[5])


@pytest.mark.parametrize(
    ("verify", "is_seen"), [("auto", True), ("always", True), ("first", False)]
)
def test_verify(verify: Any, is_seen: bool) -> None:
    model, x = Opaque().double().eval(), torch.randn(2, 4).double()
    lrp = LRPFx(model, verify=verify)
    lrp.attribute(x, 1)
    model.array[5] = 3.0
    assert torch.equal(lrp.explained_output(x), model(x)) == is_seen
    lrp.refresh()
    check(lrp, model, x, None)


def test_verify_is_checked() -> None:
    with pytest.raises(OptionError, match="verify must be one of"):
        LRPFx(nn.Linear(1, 1), verify="never")  # type: ignore[arg-type]


class Graph:
    def __init__(self, edges: Tensor) -> None:
        self.edges = edges

    def __repr__(self) -> str:
        return "Graph()"


class OnGraph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)

    def forward(self, x: Tensor, graph: Graph, config: Config, array: Any) -> Tensor:
        return self.a(x[:, graph.edges]) * config.hidden * float(array[3])


def test_arguments_are_told_apart_by_what_they_hold() -> None:
    model, x = OnGraph().double().eval(), torch.randn(2, 4).double()
    lrp = LRPFx(model)
    array = np.ones(5000)
    for edges in ([0, 1, 2, 3], [3, 2, 1, 0]):
        for config in (Config(), Config(hidden=2.0)):
            for value in (1.0, 4.0):
                array[3] = value
                given = (Graph(torch.tensor(edges)), config, array)
                assert torch.allclose(lrp.explained_output(x, given), model(x, *given))


def test_tied_and_untied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).double().eval()
    x = torch.randn(2, 4).double()
    lrp = LRPFx(model, "z_plus")
    check(lrp, model, x, "z_plus")
    model[2].weight = model[0].weight
    check(lrp, model, x, "z_plus")
    model[2].weight = nn.Parameter(torch.randn(4, 4).double())
    check(lrp, model, x, "z_plus")


def test_weights_made_under_inference_mode() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double().eval()
    x = torch.randn(2, 4).double()
    lrp = LRPFx(model, "z_plus")
    lrp.attribute(x, 1)
    with torch.inference_mode():
        model[0].weight.mul_(-1.3)
    check(lrp, model, x, "z_plus")


class Norm(nn.Module):
    """Running statistics without a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("var", torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, training=self.training)


def test_running_statistics_without_a_counter() -> None:
    model = nn.Sequential(nn.Linear(4, 5), Norm(), nn.ReLU(), nn.Linear(5, 3)).double().eval()
    x = torch.randn(6, 4).double()
    lrp = LRPFx(model, "z_plus")
    lrp.attribute(x, 1)
    model.train()(x)
    check(lrp, model, x, "z_plus")


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_write_through_data_to_a_large_weight(channels_last: bool) -> None:
    model = nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    model = model.double()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    x = torch.rand(1, 32, 3, 3).double()
    lrp = LRPFx(model, "z_plus")
    lrp.attribute(x, 1)
    model[0].weight.data.mul_(-1.3)
    check(lrp, model, x, "z_plus")


class Adapted(nn.Module):
    """A low-rank adapter that can be scaled, switched off and merged."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.scale, self.enabled = nn.Linear(5, 5), {"a": 1.0}, ["a"]
        self.down, self.up = nn.Linear(5, 2, bias=False), nn.Linear(2, 5, bias=False)

    def merge(self) -> None:
        self.base.weight.data += self.scale["a"] * self.up.weight.data @ self.down.weight.data
        self.enabled.clear()

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        for name in self.enabled:
            y = y + self.scale[name] * self.up(self.down(x))
        return y


class Subject(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 5), nn.BatchNorm1d(5)
        self.own, self.adapted = Norm(), Adapted()
        self.second, self.last = nn.Linear(5, 5), nn.Linear(5, 3)
        self.gains, self.config, self.act = [1.0, 1.0], Config(), F.relu

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.norm(self.first(x))) * self.gains[0]
        h = self.act(self.own(self.adapted(h))) * self.config.scale
        return self.last(self.act(self.second(h)) * self.gains[1])


LINEAR = st.sampled_from(["first", "adapted.base", "second", "last"])
VALUES = st.sampled_from([0.5, 1.0, 2.0])


class Edits(RuleBasedStateMachine):
    """Edits at random; after each one all explainers explain the model as it is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = Subject().double().eval()
        self.x = torch.randn(3, 4).double()
        self.handles: list[Any] = []
        self.explainers = [
            (LRPFx(self.model, composite, verify=verify), composite)
            for composite in (None, "z_plus")
            for verify in ("auto", "always")
        ]
        self.check()

    def check(self) -> None:
        dtype = self.model.first.weight.dtype
        x = self.x.to(dtype)
        with torch.no_grad():
            own = self.model(x)
        tolerance = 1e-9 if dtype == torch.float64 else 1e-4  # of rounding in folded norms
        for composite in (None, "z_plus"):
            expected = LRPFx(self.model, composite).attribute(x, 1)
            for lrp, name in self.explainers:
                if name == composite:
                    found = lrp.explained_output(x)
                    torch.testing.assert_close(found, own, rtol=tolerance, atol=tolerance)
                    found = lrp.attribute(x, 1)
                    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)

    @rule(path=LINEAR, way=st.sampled_from(["in place", "data", "numpy", "new", "load", "step"]))
    def write(self, path: str, way: str) -> None:
        layer = self.model.get_submodule(path)
        weight = layer.weight
        with torch.no_grad():
            if way == "in place":
                weight.mul_(-1.1)
            elif way == "data":
                weight.data.mul_(-1.1)
            elif way == "numpy":
                weight.detach().numpy()[...] *= -1.1
            elif way == "new":
                layer.weight = nn.Parameter(torch.randn_like(weight))
            elif way == "load":
                layer.load_state_dict({k: -1.1 * v for k, v in layer.state_dict().items()})
            else:
                weight.grad = torch.randn_like(weight)
                torch.optim.SGD([weight], 0.5).step()
        self.check()

    @rule()
    def train(self) -> None:
        self.model.train()(self.x.to(self.model.first.weight.dtype) + 1)
        self.model.eval()
        self.check()

    @rule(place=st.integers(0, 1), value=VALUES)
    def in_list(self, place: int, value: float) -> None:
        self.model.gains[place] = value
        self.check()

    @rule(value=VALUES)
    def in_config(self, value: float) -> None:
        self.model.config.scale = value
        self.check()

    @rule(function=st.sampled_from([F.relu, torch.tanh, F.silu]))
    def function(self, function: Any) -> None:
        self.model.act = function
        self.check()

    @rule(path=LINEAR, factor=VALUES)
    def hook(self, path: str, factor: float) -> None:
        layer = self.model.get_submodule(path)
        self.handles.append(layer.register_forward_hook(lambda m, a, output: output * factor))
        self.check()

    @precondition(lambda self: self.handles)
    @rule()
    def unhook(self) -> None:
        self.handles.pop().remove()
        self.check()

    @rule(dtype=st.sampled_from([torch.float32, torch.float64]))
    def cast(self, dtype: torch.dtype) -> None:
        self.model.to(dtype)
        self.check()

    @rule(ties=st.booleans())
    def tie(self, ties: bool) -> None:
        base, weight = self.model.adapted.base, self.model.second.weight
        base.weight = weight if ties else nn.Parameter(weight.detach().clone())
        self.check()

    @rule(what=st.sampled_from(["merge", "scale", "on", "off"]))
    def adapter(self, what: str) -> None:
        adapted = self.model.adapted
        if what == "merge":
            adapted.merge()
        elif what == "scale":
            adapted.scale["a"] *= -1.5
        else:
            adapted.enabled[:] = ["a"] if what == "on" else []
        self.check()

    @rule()
    def submodule(self) -> None:
        self.model.second = nn.Linear(5, 5).to(self.model.first.weight)
        self.check()


class Referring(nn.Module):
    """Another scale once what it refers to is no more, and that of what it refers to before."""

    def __init__(self, target: Any) -> None:
        super().__init__()
        self.fc, self.target = nn.Linear(4, 3, bias=False), weakref.ref(target)

    def forward(self, x: Tensor) -> Tensor:
        target = self.target()
        return self.fc(x) * (7.0 if target is None else target.scale)  # type: ignore[no-any-return]


def test_a_weak_reference_keeps_nothing_alive() -> None:
    target = Config(2.0)
    model = Referring(target).double().eval()
    lrp, x = LRPFx(model, "zero"), torch.randn(2, 4).double()

    def check() -> None:
        expected = x * model(torch.eye(4).double())[:, 0]
        assert (lrp.attribute(x, 0) - expected).abs().max() <= EXACT

    check()
    target.scale = 5.0  # nothing but the reference leads there
    check()
    del target
    gc.collect()
    assert model.target() is None
    check()


def test_a_weak_reference_is_signed_by_what_it_refers_to() -> None:
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    of_first, again = (signature_of(first, second, weakref.ref(first)) for _ in range(2))
    of_second = signature_of(first, second, weakref.ref(second))
    assert of_first == again != of_second
    assert of_first.is_complete
    assert not signature_of(weakref.ref(first)).is_complete


def explore(examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Edits,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_edits() -> None:
    explore(3, 6)


@pytest.mark.slow
def test_many_random_edits() -> None:
    explore(100, 20)


def test_numbers_that_come_and_go_are_seen() -> None:
    """A new number may get the identity of an old one that nobody holds any more."""

    class Annealed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.temperature, self.factors, self.named = 1.0, [1.5], {"scale": 1.0}
            self.view = types.MappingProxyType(self.named)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) * (self.temperature + 1) * self.factors[0] * self.view["scale"]

    model, x = Annealed().double(), torch.randn(2, 3, dtype=torch.double)
    lrp = LRPFx(model, "epsilon")
    for _ in range(6):
        for _ in range(2):
            model.temperature *= 1.2
            model.factors[0] *= 1.1
            model.named["scale"] *= 1.3
        gc.collect()
        torch.testing.assert_close(lrp.explained_output(x), model(x).detach())


def test_hooks_of_all_modules_are_seen() -> None:
    """They come and go without any module's knowledge."""
    model, x = nn.Sequential(nn.Linear(3, 2)).double(), torch.randn(2, 3, dtype=torch.double)
    lrp = LRPFx(model, "epsilon")
    alone = lrp.explained_output(x)
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: output * 2 if isinstance(module, nn.Linear) else None
    )
    try:
        torch.testing.assert_close(lrp.explained_output(x), 2 * alone)
    finally:
        handle.remove()
    torch.testing.assert_close(lrp.explained_output(x), alone)
