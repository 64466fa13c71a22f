"""What the bytecode of a function refers to: names, and variables outside it that it assigns."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

from lrp_fx.capture.origin import class_of_user, of_user

MOST_CODES = 2**15
"""How many code objects are remembered: more than a large project has, or each walk reads all again."""


def _with_nested(
    own: Callable[[types.CodeType], Iterable[str]],
) -> Callable[[types.CodeType], frozenset[str]]:
    """Makes a function find names in a code object and in the functions nested in it."""

    @functools.lru_cache(maxsize=MOST_CODES)
    def found(code: types.CodeType) -> frozenset[str]:
        inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
        return frozenset(own(code)).union(*map(found, inner))

    functools.update_wrapper(found, own)
    return found


@_with_nested
def names_in(code: types.CodeType) -> Iterable[str]:
    """All names of globals and attributes in a code object and in the functions nested in it."""
    return code.co_names


@_with_nested
def globals_in(code: types.CodeType) -> Iterable[str]:
    """The names that a code object and its nested functions look up among globals or built-ins.

    Names of attributes are none of them: ``self.data`` does not read a global ``data``.
    """
    steps = dis.get_instructions(code)
    return (step.argval for step in steps if step.opname.endswith(_OF_GLOBALS))


_OF_GLOBALS = ("_GLOBAL", "_GLOBALS", "LOAD_NAME")
"""How the instructions end; the bodies of classes load names."""


@_with_nested
def strings_in(code: types.CodeType) -> Iterable[str]:
    """All string constants in a code object and its nested functions; ``getattr`` may use them."""
    return (part for part in code.co_consts if isinstance(part, str))


@_with_nested
def imports_in(code: types.CodeType) -> Iterable[str]:
    """The names of the modules that a code object and its nested functions import when they run."""
    return (step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME")


@functools.lru_cache(maxsize=MOST_CODES)
def assigns_globals(code: types.CodeType) -> bool:
    """Whether a code object or a function nested in it assigns or deletes a global."""
    if any(step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") for step in dis.get_instructions(code)):
        return True
    return any(assigns_globals(c) for c in code.co_consts if isinstance(c, types.CodeType))


@functools.lru_cache(maxsize=MOST_CODES)
def assigned_cells(code: types.CodeType) -> frozenset[str]:
    """The ``nonlocal`` variables that a code object or a function nested in it assigns or deletes."""
    own = {s.argval for s in dis.get_instructions(code) if s.opname in _BINDS_CELL}
    inner = (assigned_cells(c) for c in code.co_consts if isinstance(c, types.CodeType))
    return frozenset(own).union(*inner) & frozenset(code.co_freevars)


@_with_nested
def assigned_attributes(code: types.CodeType) -> Iterable[str]:
    """The names of variables and attributes to whose attributes the code assigns: ``name.x = 1``."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    return {
        owner.argval if isinstance(owner.argval, str) else owner.argval[-1]
        for owner, step in pairwise(steps)
        if step.opname == "STORE_ATTR" and owner.argval and owner.opname.startswith("LOAD")
    }


_BINDS_CELL = ("STORE_DEREF", "DELETE_DEREF")


def closed_over(function: types.FunctionType) -> Iterator[Any]:
    """The values of the closure variables of a function."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not assigned yet
            yield cell.cell_contents


def named_globals(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """The names and values of the globals that the code of a function refers to."""
    known = function.__globals__
    for name in sorted(globals_in(function.__code__)):
        if name in known:
            yield name, known[name]


def functions_of(kind: type) -> Iterator[tuple[str, types.FunctionType, bool]]:
    """The functions in a class and its bases that are the user's own code, except constructors.

    Each comes as (name, function, whether it is a plain method). A plain method is a function that
    ``instance.name`` returns as a method. Static and class methods, properties, operators, and
    methods that a subclass overrides are not plain.
    """
    found: set[str] = set()
    for each in kind.__mro__:
        if not class_of_user(each):
            found.update(vars(each))
            continue
        for name, value in vars(each).items():
            plain = isinstance(value, types.FunctionType) and name not in found
            found.add(name)
            if name in ("__init__", "__new__", "__post_init__", "__init_subclass__"):
                continue
            for function in _inside(value):
                if of_user(function):
                    yield name, function, plain and not name.startswith("__")


def _inside(value: Any) -> list[types.FunctionType]:
    if isinstance(value, property):
        parts = [value.fget, value.fset, value.fdel]
    else:
        parts = [getattr(value, "__func__", value)]
    return [part for part in parts if isinstance(part, types.FunctionType)]
