"""The origin of code: Python or torch, an installed package, or the user."""

from __future__ import annotations

import csv
import functools
import os
import sys
import sysconfig
import types
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch


@functools.lru_cache(maxsize=4096)
def origin_of(file: str) -> Literal["standard", "installed", "own"]:
    """Whether a file belongs to Python or torch, to an installed package, or to the user."""
    if file.startswith(("<frozen", _TORCH)):
        return "standard"
    if file.startswith(_INSTALLED) or "site-packages" in file:  # of another environment
        return "installed"
    if file.startswith(_PYTHON):
        return "standard"
    return "installed" if _is_recorded(file) else "own"


def _is_recorded(file: str) -> bool:
    """Whether an installer wrote the file into a folder of the import path, as with ``pip --target``."""
    folders = {os.path.join(folder, "") for folder in sys.path if os.path.isabs(folder)}
    return any(
        file.startswith(folder) and file[len(folder) :] in _recorded(folder) for folder in folders
    )


@functools.lru_cache(maxsize=64)
def _recorded(folder: str) -> frozenset[str]:
    """The files that the records of the installed packages list, relative to their folder."""
    files: set[str] = set()
    for record in Path(folder).glob("*.dist-info/RECORD"):
        with (
            suppress(OSError, UnicodeDecodeError),
            record.open(encoding="utf-8", newline="") as lines,
        ):
            files.update(row[0] for row in csv.reader(lines) if row)
    return frozenset(files)


def of_user(function: types.FunctionType) -> bool:
    """Whether a function is the user's own code."""
    return origin_of(function.__code__.co_filename) == "own"


def class_of_user(kind: type) -> bool:
    """Whether a class is the user's own code."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ != "builtins" and not (file and origin_of(file) != "own")


def is_module_of_user(module: types.ModuleType) -> bool:
    """Whether a Python module is the user's own code."""
    file = vars(module).get("__file__")
    if not isinstance(file, str):
        return vars(module).get("__name__") == "__main__"
    return origin_of(file) == "own"


@functools.lru_cache(maxsize=4096)
def is_standard(kind: type) -> bool:
    """Whether a class belongs to Python, torch or NumPy, whose classes are assumed not to change."""
    module = _module_of(kind)
    return not isinstance(module, str) or module.partition(".")[0] in _STANDARD


@functools.lru_cache(maxsize=4096)
def is_installed(kind: type) -> bool:
    """Whether a class belongs to an installed package."""
    module = sys.modules.get(str(_module_of(kind)))
    return module is not None and not is_module_of_user(module)


def _module_of(kind: type) -> Any:
    """The ``__module__`` of a class, read without running code of its metaclass."""
    return vars(type)["__dict__"].__get__(kind).get("__module__")


_STANDARD = sys.stdlib_module_names | {"torch", "numpy"}
_TORCH = f"{torch.__path__[0]}/"
_INSTALLED = tuple(f"{sysconfig.get_path(name)}/" for name in ("purelib", "platlib"))
_PYTHON = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib"))
