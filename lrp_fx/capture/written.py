"""What the user's code may write to: globals, closure variables and attributes of classes."""

from __future__ import annotations

import enum
import functools
import sys
import types
from typing import Any

import torch
from torch import nn

from lrp_fx.capture.functions import (
    assigned_attributes,
    assigned_cells,
    assigns_globals,
    closed_over,
    functions_of,
    named_globals,
    names_in,
)
from lrp_fx.capture.members import walk
from lrp_fx.capture.origin import class_of_user, of_user
from lrp_fx.graph import OpOverloadPacket

IDENTITIES = frozenset({"id", "hash"})
"""Built-in functions that tell a copy from its original."""
ATOMIC = frozenset(
    {
        *(int, float, complex, bool, str, bytes, range, slice, object),
        *(type(None), type(...), type(NotImplemented)),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size),
    }
)
"""Types of values that have no parts to write to."""
SHARED = (type, types.ModuleType, enum.Enum, torch.jit.ScriptModule, torch.jit.ScriptFunction)
"""Types of objects that a model and its copy share."""
CACHED = type(functools.cache(len))
_PLAIN = (types.BuiltinFunctionType, types.MethodDescriptorType, OpOverloadPacket)
"""Types that are common among globals and class attributes, and that no code writes to."""


class Written:
    """Finds what the code of a model may write to, apart from the objects that the model refers to.

    Args:
        root: the model, or another object that is copied.
    """

    def __init__(self, root: Any) -> None:
        self.fixed: dict[tuple[int, str], Any] = {}
        """Globals that a copy must share, because code that is not copied reads them.

        The keys are the id of the namespace and the name.
        """
        self._root = root
        self._functions: dict[types.FunctionType, bool] = {}
        self._fixed_by: set[types.FunctionType] = set()
        self._classes: dict[type, list[tuple[str, Any, bool]]] = {}
        self._given: set[int] | None = None

    def by(self, function: types.FunctionType) -> bool:
        """Whether a function of the user may write to globals or closure variables.

        A function that calls ``id`` counts too, because it may look objects up by ``id`` in a
        table.
        """
        if function not in self._functions:
            self._functions[function] = False  # for the time being: a function may call itself
            self._functions[function] = of_user(function) and (
                assigns_globals(function.__code__)
                or asks_for_identity(function)
                or bool(assigned_cells(function.__code__))
                or any(self.may_be(value) for _, value in named_globals(function))
                or any(map(self.may_be, closed_over(function)))
            )
        return self._functions[function]

    def may_be(self, value: Any) -> bool:
        """Whether the value of a global or a class attribute is something that code may write to."""
        kind = type(value)
        if kind in ATOMIC or isinstance(value, (*SHARED, *_PLAIN)):
            return False
        if isinstance(value, types.FunctionType):
            return self.by(value)
        if kind is tuple or kind is frozenset:
            return any(map(self.may_be, value))
        return kind.__module__ not in ("typing", "functools") or isinstance(value, CACHED)

    def of_class(self, kind: type) -> list[tuple[str, Any, bool]]:
        """The class attributes and methods of which each copied instance needs a copy of its own.

        These are values, cached functions, and methods that write to globals or closure variables.
        Each comes as (name, value, whether it is called with the instance).
        """
        if kind in self._classes:
            return self._classes[kind]
        found: list[tuple[str, Any, bool]] = []
        self._classes[kind] = found
        if not class_of_user(kind):
            return found
        by_class: set[str] = set()
        classes = {each.__name__ for each in kind.__mro__} | {"type", "cls", "__class__"}
        for name, function, plain in functions_of(kind):
            names = names_in(function.__code__)
            if classes & (names | {*function.__code__.co_varnames}):
                by_class |= names
            if not self.by(function):
                continue
            if plain:
                found.append((name, function, True))
            else:
                self._fix(function)
        known: set[str] = set()
        for each in kind.__mro__:
            for name, part in vars(each).items() if class_of_user(each) else ():
                if name in known or name in by_class or name.startswith("__"):
                    continue
                inner = part.__func__ if isinstance(part, staticmethod) else part
                if isinstance(inner, CACHED):
                    found.append((name, inner, inner is part))
                elif self.may_be(part) and not hasattr(type(part), "__get__"):
                    found.append((name, part, False))
            known.update(vars(each))
        return found

    def _fix(self, function: types.FunctionType) -> None:
        """Share the globals that a function names, because the function itself is not copied."""
        if function in self._fixed_by:
            return
        self._fixed_by.add(function)
        for name, value in named_globals(function):
            if self.may_be(value):
                self.fixed[id(function.__globals__), name] = value
            if isinstance(value, types.FunctionType) and of_user(value):
                self._fix(value)

    def is_sentinel(self, value: Any) -> bool:
        """Whether an object is a sentinel: a global without state, which code compares by identity.

        It must not be copied, because code that is not copied, such as a property, compares with
        the original.
        """
        kind = type(value)
        if members_of(kind) or getattr(value, "__dict__", None):
            return False
        known = vars(sys.modules.get(kind.__module__, types)).values()
        return any(value is each for each in known) and id(value) not in self._given_attributes()

    def _given_attributes(self) -> set[int]:
        """The ids of the objects to whose attributes the code of the model assigns."""
        if self._given is not None:
            return self._given
        self._given = given = set[int]()
        known: set[types.FunctionType] = set()
        for _, module in walk(self._root) if isinstance(self._root, nn.Module) else ():
            waiting = [function for _, function, _ in functions_of(type(module))]
            while waiting:
                function = waiting.pop()
                names = assigned_attributes(function.__code__)
                given.update(id(vars(module)[name]) for name in names if name in vars(module))
                if function in known:
                    continue
                known.add(function)
                for name, value in named_globals(function):
                    if name in names:
                        given.add(id(value))
                    if isinstance(value, types.FunctionType) and of_user(value):
                        waiting += [value] if value not in known else []
        return given


def asks_for_identity(function: types.FunctionType) -> bool:
    """Whether a function calls ``id`` or ``hash``; a copy has to answer as the original does."""
    asked = names_in(function.__code__) & IDENTITIES
    return any(name not in function.__globals__ for name in asked)


def members_of(kind: type) -> list[Any]:
    """The slot descriptors of a class and its bases."""
    return [
        slot
        for each in kind.__mro__
        if each.__module__ != "builtins"
        for slot in vars(each).values()
        if isinstance(slot, types.MemberDescriptorType)
    ]
