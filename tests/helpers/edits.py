"""Edits of a model that holds one thing of each kind, and what takes back those of globals."""

from __future__ import annotations

import enum
import functools
import types
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


@contextmanager
def taken_back() -> Iterator[None]:
    """Afterwards globals and classes are as they were."""
    yield
    Holder.level, GLOBAL["scale"] = 1.0, 1.0
    globals().pop("LATER", None)
