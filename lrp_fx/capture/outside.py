"""Functions whose result no signature can foresee: they read files, clocks, settings, random state.

A model whose code calls one of them is verified in every call.
"""

from __future__ import annotations

import types
from itertools import chain
from typing import Any

from lrp_fx.capture.functions import closed_over, globals_in, imports_in, named_globals, names_in
from lrp_fx.capture.written import IDENTITIES

_MODULES = frozenset(
    {
        *("os", "posix", "nt", "random", "time", "datetime", "pathlib", "io", "_io", "secrets"),
        *("importlib", "gc", "inspect", "socket", "subprocess", "tempfile", "uuid"),
        *("locale", "platform", "glob", "shelve", "sqlite3", "urllib", "zoneinfo", "_random"),
        *("numpy.random", "torch.backends", "torch.random", "decimal", "_decimal"),
    }
)
"""Modules of Python, NumPy and torch that read something outside the model."""
_BUILT_IN = frozenset({"open", "input", "globals", "eval", "exec", "__import__"}) | IDENTITIES
_MEMBERS = {
    "sys": frozenset({"modules", "argv", "flags", "path", "getrecursionlimit", "getrefcount"}),
    "numpy": frozenset({"random", "load", "loadtxt", "genfromtxt", "fromfile", "memmap"}),
    "torch": frozenset({"backends", "random", "initial_seed", "seed", "load", "from_file"}),
}
"""Members of other modules that do."""
_FOLLOWED = frozenset({"is_grad_enabled", "is_autocast_enabled", "get_default_dtype", "get_device"})
"""Settings of torch that are part of a signature or of each call."""
_ATTRIBUTES = frozenset(
    {
        *("param_groups", "get_last_lr", "_last_lr", "last_epoch"),
        *("read_text", "read_bytes", "readline", "readlines"),
    }
)
"""The state of optimizers and schedulers, and the content of files."""
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


def reads_outside(function: types.FunctionType) -> bool:
    """Whether the code of a function names something that reads state outside the model."""
    names = names_in(function.__code__)
    if not names.isdisjoint(_ATTRIBUTES):
        return True
    space = function.__globals__
    if any(name not in space for name in globals_in(function.__code__) & _BUILT_IN):
        return True
    if "grad" in names and names.isdisjoint({"autograd", "func"}):
        return True
    if any(_is_outside(module) for module in imports_in(function.__code__)):
        return True
    values = (value for _, value in named_globals(function))
    return any(_leads_outside(value, names) for value in chain(values, closed_over(function)))


def _leads_outside(value: Any, names: frozenset[str]) -> bool:
    kind = type(value)
    if kind is types.ModuleType:
        path = vars(value).get("__name__")
        if not isinstance(path, str):
            return False
        root = path.partition(".")[0]
        members = (name for name in names if name in vars(value))
        return _is_outside(path) or any(_is_member_outside(root, name) for name in members)
    if kind in _FUNCTIONS:
        owner = getattr(value, "__self__", None)  # of a method of an object written in C
        path = value.__module__ or type(owner).__module__
        root = str(path).partition(".")[0]
        return _is_outside(str(path)) or _is_member_outside(root, value.__name__)
    if kind is types.MethodType:
        return _is_outside(type(value.__self__).__module__)
    path = kind.__module__ if isinstance(kind.__module__, str) else ""
    return path in _MODULES  # os.environ


def _is_outside(path: str) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:end]) in _MODULES for end in range(1, len(parts) + 1))


def _is_member_outside(root: str, name: str) -> bool:
    if name in _MEMBERS.get(root, ()):
        return True
    is_setting = name.startswith("get_") or name.endswith("_enabled")
    return root == "torch" and is_setting and name not in _FOLLOWED
