"""What the code of a function is known to look up, and whether that reads outside the model."""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lrp_fx.capture.functions import closed_over, globals_in, named_globals
from lrp_fx.capture.outside import reads_outside

SPACE: dict[str, Any] = {"data": 3.0, "torch": torch, "functools": functools, "os": os}


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
    "module": (defined("return os.environ"), True),
    "attribute named as a module": (defined("return m.os"), False),
    "closure": ((lambda own: lambda: own)(os.environ), True),  # type: ignore[dict-item]
    "closure over a number": ((lambda own: lambda: own)(3.0), False),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", READS)
def test_reads_outside(name: str) -> None:
    function, expected = READS[name]
    assert reads_outside(function) == expected
