"""What the code of a function is known to look up, and whether that reads outside the model."""

from __future__ import annotations

import functools
import os
import random
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lrp_fx.capture.functions import (
    assigned_attributes,
    assigned_cells,
    assigns_globals,
    closed_over,
    functions_of,
    globals_in,
    named_globals,
)
from lrp_fx.capture.outside import reads_outside

SPACE: dict[str, Any] = {"data": 3.0, "torch": torch, "functools": functools, "os": os}


OTHER = types.ModuleType("other")
OTHER.get_it = 3  # type: ignore[attr-defined]


def defined(body: str, **names: Any) -> types.FunctionType:
    """The function ``f(m)`` with a body, in a module that has some names."""
    space = {**SPACE, **names}
    exec("def f(m):\n    " + body.replace("\n", "\n    "), space)
    return space["f"]  # type: ignore[no-any-return]


NAMES: dict[str, tuple[str, set[str]]] = {
    "global": ("return data", {"data"}),
    "built-in": ("return len(m)", {"len"}),
    "attribute": ("return m.data", set()),
    "method": ("return m.data()", set()),
    "local": ("data = 1\nreturn data", set()),
    "nested": ("return lambda: data", {"data"}),
    "nested attribute": ("return lambda: m.data", set()),
    "assigned": ("global data\ndata = m", {"data"}),
    "deleted": ("global data\ndel data", {"data"}),
    "body of a class": ("class C:\n    x = data\nreturn C", {"data", "__name__"}),
    "name in a class": ("class C:\n    data = 3\nreturn C", {"__name__"}),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_globals(name: str) -> None:
    body, expected = NAMES[name]
    assert globals_in(defined(body).__code__) == expected


def test_values_of_globals() -> None:
    assert list(named_globals(defined("return data, len(m.torch)"))) == [("data", 3.0)]


def test_values_of_closures() -> None:
    def outer() -> tuple[types.FunctionType, Callable[[], None]]:
        def inner() -> Any:
            return first, later

        def assign() -> None:
            nonlocal later
            later = 2

        first = 1
        later: int
        return inner, assign  # type: ignore[return-value]

    inner, assign = outer()
    assert list(closed_over(inner)) == [1]
    assign()
    assert list(closed_over(inner)) == [1, 2]
    assert list(closed_over(defined("return data"))) == []


READS: dict[str, tuple[types.FunctionType, bool]] = {
    "nothing": (defined("return data"), False),
    "file": (defined("return open(m)"), True),
    "method that is named so": (defined("return m.open()"), False),
    "own function that is named so": (defined("return open(m)", open=len), False),
    "learning rate": (defined("return m.param_groups"), True),
    "gradient": (defined("return m.weight.grad"), True),
    "new gradient": (defined("return torch.autograd.grad(m, m)"), False),
    "gradient of a function": (defined("return torch.func.grad(m)"), False),
    "import": (defined("import os\nreturn m"), True),
    "import of another": (defined("import functools\nreturn m"), False),
    "number of threads": (defined("return torch.get_num_threads()"), True),
    "whether something is enabled": (defined("return torch.is_anomaly_enabled()"), True),
    "setting that is signed": (defined("return torch.get_default_dtype()"), False),
    "setting of another module": (
        defined("return own.get_number", own=types.SimpleNamespace(get_number=3)),
        False,
    ),
    "name of a setting in another module": (defined("return own.get_it", own=OTHER), False),
    "file of torch": (defined("return torch.load(m)"), True),
    "imported function": (defined("return getenv(m)", getenv=os.getenv), True),
    "imported function of torch": (defined("return load(m)", load=torch.load), True),
    "imported method of an object": (defined("return draw()", draw=random.random), True),
    "module": (defined("return os.environ"), True),
    "attribute named as a module": (defined("return m.os"), False),
    "closure": ((lambda own: lambda: own)(os.environ), True),  # type: ignore[dict-item]
    "closure over a number": ((lambda own: lambda: own)(3.0), False),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", READS)
def test_reads_outside(name: str) -> None:
    function, expected = READS[name]
    assert reads_outside(function) == expected


ASSIGNS: dict[str, tuple[str, bool]] = {
    "nothing": ("return data", False),
    "global": ("global data\ndata = m", True),
    "deleted": ("global data\ndel data", True),
    "local": ("data = m\nreturn data", False),
    "nested": ("def g():\n    global data\n    data = m\nreturn g", True),
}


@pytest.mark.parametrize("name", ASSIGNS)
def test_assigned_globals(name: str) -> None:
    body, expected = ASSIGNS[name]
    assert assigns_globals(defined(body).__code__) is expected


CELLS: dict[str, tuple[str, set[str]]] = {
    "read": ("return own", set()),
    "assigned": ("nonlocal own\nown = m", {"own"}),
    "deleted": ("nonlocal own\ndel own", {"own"}),
    "nested": ("def g():\n    nonlocal own\n    own = m\nreturn g", {"own"}),
    "of a nested function": (
        "its = own\ndef g():\n    nonlocal its\n    its = m\nreturn g",
        set(),
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_assigned_variables_of_closures(name: str) -> None:
    body, expected = CELLS[name]
    inside = "own = 1\ndef f(m):\n    " + body.replace("\n", "\n    ") + "\nreturn f"
    assert assigned_cells(defined(inside)(None).__code__) == expected


ATTRIBUTES: dict[str, tuple[str, set[str]]] = {
    "read": ("return m.x", set()),
    "assigned": ("m.x = 1", {"m"}),
    "of a global": ("data.x = 1", {"data"}),
    "of an attribute": ("m.inner.x = 1", {"inner"}),
    "of a result": ("m().x = 1", set()),
    "of a result for an argument": ("m(1).x = 1", set()),
    "of nothing": ("None.x = 1", set()),
    "nested": ("return lambda: setattr(m, 'x', 1)", set()),
    "in a nested function": ("def g():\n    m.x = 1\nreturn g", {"m"}),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_whose_attributes_are_assigned(name: str) -> None:
    body, expected = ATTRIBUTES[name]
    assert assigned_attributes(defined(body).__code__) == expected


class Base:
    """Functions of each kind, one of which is overridden."""

    def __new__(cls) -> Any:
        return super().__new__(cls)

    def __init__(self) -> None:
        pass

    def __post_init__(self) -> None: ...

    def __init_subclass__(cls) -> None: ...

    def plain(self) -> None: ...

    def overridden(self) -> None: ...

    def __call__(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    @classmethod
    def of_class(cls) -> None: ...

    @property
    def read(self) -> int:
        return 1

    @read.setter
    def read(self, value: int) -> None: ...

    @read.deleter
    def read(self) -> None: ...

    number = 3


class Derived(Base, dict[str, int]):
    """Overrides one of its own base, and one of Python's."""

    def overridden(self) -> None: ...

    def keys(self) -> Any: ...


class Getting:
    def get(self) -> None: ...


class Hidden(dict[str, int], Getting):
    """Its ``get`` is that of Python."""


def test_functions_of_a_class() -> None:
    found = sorted(
        (name, function.__qualname__, plain) for name, function, plain in functions_of(Derived)
    )
    assert found == [
        ("__call__", "Base.__call__", False),
        ("keys", "Derived.keys", True),
        ("of_class", "Base.of_class", False),
        ("overridden", "Base.overridden", False),
        ("overridden", "Derived.overridden", True),
        ("plain", "Base.plain", True),
        *[("read", "Base.read", False)] * 3,
        ("static", "Base.static", False),
    ]
    assert [(name, plain) for name, _, plain in functions_of(Hidden)] == [("get", False)]
