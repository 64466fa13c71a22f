"""What a reading depends on: every change between two calls is seen, and nothing else is."""

from __future__ import annotations

import copy
import gc
import pickle
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lrp_fx import LRPFx
from lrp_fx.errors import CaptureError, OptionError
from tests.helpers.closeness import QUOTIENTS
from tests.helpers.edits import EDITS, Config, Holder, taken_back


def check(lrp: LRPFx, model: nn.Module, x: Tensor, composite: str | None, target: Any = 1) -> None:
    """The explained output is the model's own, and the map that of a fresh explainer."""
    was = model.training
    with torch.no_grad():
        own = model.eval()(x)
    model.train(was)
    torch.testing.assert_close(lrp.explained_output(x), own, rtol=QUOTIENTS, atol=QUOTIENTS)
    expected = LRPFx(model, composite).attribute(x, target)
    torch.testing.assert_close(lrp.attribute(x, target), expected, rtol=QUOTIENTS, atol=QUOTIENTS)


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_is_seen(edit: str) -> None:
    torch.manual_seed(0)
    model, x = Holder().double().eval(), torch.randn(3, 4).double()
    lrp = LRPFx(model, "epsilon")
    first = lrp.explained_output(x)
    with taken_back():
        EDITS[edit](model)
        check(lrp, model, x, "epsilon")
        assert not torch.equal(first, lrp.explained_output(x))


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


class OwnParameter(nn.Parameter):
    """A parameter with a class of its own."""


class OwnTensor(Tensor):
    """A tensor with a class of its own."""


class Elsewhere(Tensor):
    """A tensor whose values are those of another one."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        outer = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        outer.inner = inner
        return outer

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(Elsewhere, lambda each: each.inner, (args, kwargs or {}))
        result = func(*args, **kwargs)
        return cls(result) if func is torch.ops.aten.detach.default else result


class Scaled(nn.Module):
    """A layer whose parameters have classes of their own, and that holds such a tensor too."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 5)
        self.dense.weight = weight
        self.held = [torch.ones(5).double().as_subclass(OwnTensor)]

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x) * self.held[0]


@pytest.mark.parametrize("kind", [OwnParameter, lambda w: nn.Parameter(Elsewhere(w))])
def test_tensors_of_other_classes(kind: Any) -> None:
    """What is written to them through ``data``, which PyTorch does not count."""
    torch.manual_seed(0)
    values = torch.randn(5, 4).double()
    model = nn.Sequential(Scaled(kind(values)), nn.ReLU(), nn.Linear(5, 3)).double().eval()
    model[0].dense.weight = kind(values)  # casts replace the values of some classes
    x = torch.randn(2, 4).double()
    lrp = LRPFx(model, "z_plus")
    lrp.attribute(x, 1)
    for written in (values, model[0].held[0].data, values):
        written.mul_(-1.3)
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
        assert (lrp.attribute(x, 0) - expected).abs().max() <= QUOTIENTS

    check()
    target.scale = 5.0  # nothing but the reference leads there
    check()
    del target
    gc.collect()
    assert model.target() is None
    check()


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


def test_the_state_of_a_hook_of_all_modules_is_seen() -> None:
    """The library's own modules call no such hook: it would act on relevance."""
    model, x = nn.Sequential(nn.Linear(3, 2)).double(), torch.randn(2, 3, dtype=torch.double)
    plain, state = LRPFx(model, "zero"), {"scale": 2.0}
    expected, relevance = plain.explained_output(x), plain.attribute(x, 1)

    def scale(module: nn.Module, inputs: Any, output: Any) -> Any:
        assert type(module).__module__.startswith("torch.")
        return output * state["scale"] if not isinstance(output, tuple) else None

    lrp = LRPFx(model[0], "zero")
    handle = nn.modules.module.register_module_forward_hook(scale)
    try:
        for state["scale"] in (2.0, 3.0):
            torch.testing.assert_close(lrp.explained_output(x), state["scale"] * expected)
            torch.testing.assert_close(lrp.attribute(x, 1), state["scale"] * relevance)
    finally:
        handle.remove()


@pytest.mark.parametrize("before", [True, False])
def test_a_hook_that_acts_on_some_inputs(before: bool) -> None:
    model, x = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).double(), torch.ones(2, 3).double()

    def limit(module: nn.Module, inputs: Any, output: Any = None) -> Any:
        given = inputs[0] if before else output
        return given / 10 if given.abs().max() > 50 else None

    if before:
        model[0].register_forward_pre_hook(limit)
    else:
        model[0].register_forward_hook(limit)
    lrp = LRPFx(model, "zero")
    for scale in (1.0, 1000.0, 1.0):
        torch.testing.assert_close(lrp.explained_output(scale * x), model(scale * x).detach())


class Laid(nn.Module):
    """Branches on the memory layout of its input, and on the settings around."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3))
        y = y * 2 if x.is_contiguous() else y
        y = y * 3 if torch.is_autocast_enabled("cpu") else y
        return self.fc(y)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "laid",
    [lambda x: x.to(memory_format=torch.channels_last), lambda x: x[..., :1].expand(x.shape)],
    ids=["channels last", "expanded"],
)
def test_a_branch_on_the_memory_layout(laid: Callable[[Tensor], Tensor]) -> None:
    model, x = Laid().double().eval(), torch.rand(2, 2, 4, 4).double()
    lrp = LRPFx(model, "zero")
    for value in (x, laid(x), x):
        torch.testing.assert_close(lrp.explained_output(value), model(value).detach())


def test_a_branch_on_autocast() -> None:
    model, x = Laid().eval(), torch.rand(2, 2, 4, 4)
    lrp = LRPFx(model, "zero")
    for enabled in (False, True, False):
        with torch.autocast("cpu", enabled=enabled):
            found, expected = lrp.explained_output(x), model(x).detach()
        torch.testing.assert_close(
            found, expected, rtol=2e-2 if enabled else None, atol=1e-2 if enabled else None
        )


class Trying(nn.Module):
    """Catches what its branch raises."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.gate = nn.Linear(3, 2), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        try:
            y = x if self.gate > 0 else x.abs()
        except Exception:
            y = x
        return self.fc(y)  # type: ignore[no-any-return]


def test_a_branch_inside_try() -> None:
    model, x = Trying().double().eval(), -torch.ones(2, 3).double()
    with pytest.raises(CaptureError, match="branch"):
        LRPFx(model, capture="symbolic").attribute(x, 1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda lrp: pickle.loads(pickle.dumps(lrp))])
def test_a_copy_of_an_explainer_explains_its_own_model(copied: Callable[[LRPFx], LRPFx]) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double(), torch.ones(1, 4)
    lrp = LRPFx(model, "z_plus")
    expected = lrp.attribute(x.double(), 1)
    twin = copied(lrp)
    with torch.no_grad():
        model[0].weight.mul_(-2)
    assert torch.equal(twin.attribute(x.double(), 1), expected)
    assert not torch.equal(lrp.attribute(x.double(), 1), expected)
