"""Signatures: the state of a model on which a captured graph depends, by value.

A captured graph refers to the model's parameters by path, so their values may change. Everything
else that the model's code can read was fixed in the graph when the model was captured. A
:class:`Signature` contains that state by value: modules, attributes, containers, classes, arrays,
the shapes and dtypes of the parameters, and functions with their closures and the globals that they
name. A Python module is represented by those of its names that occur in the code.

No code of the user runs here: no ``__eq__``, ``__hash__``, ``__repr__`` or ``__getattr__``.
"""

from __future__ import annotations

import abc
import builtins
import sys
import types
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy
from torch import Tensor, nn

from lrp_fx.capture.contents import (
    CONTENTS,
    DICTS,
    IDENTICAL,
    PLAIN,
    VIEWED,
    base_of,
    content_of,
    dict_of,
    dict_of_class,
    mro_of,
    slot_of,
    slots_of,
    target_of,
)
from lrp_fx.capture.functions import globals_in, imports_in, names_in, strings_in
from lrp_fx.capture.members import INTERNAL
from lrp_fx.capture.origin import is_installed, is_module_of_user, is_standard, origin_of
from lrp_fx.capture.outside import reads_outside
from lrp_fx.capture.traces import Memory, form_of, has_version, leaves_traces
from lrp_fx.capture.watch import (
    CHANGES,
    Watch,
    getter_of,
    global_state,
    id_of_content,
    id_of_mro,
    id_of_slot,
    id_of_target,
    ids_of_function,
    ids_of_mapping,
)
from lrp_fx.graph import version_of

MOST_VALUES = 200_000
"""The largest number of values in a signature; a signature that is cut off here is incomplete."""
MOST_ENTRIES = 1000
"""A container of an installed package that has more entries counts by its identity."""
Visit = Callable[[Any], None]
_Part = tuple[Visit, Any]
"""A method that visits a value, and the value that it still has to visit."""


_OF_COMPILER = "_dynamo"
"""Prefix of the attributes that torch.compile adds to tensors; the model's code does not read them."""


class Signature:
    """The state on which a capture depends; equal signatures mean that the captured graph is valid.

    Args:
        entries: plain values and the identities of objects.
        held: the objects that were entered by identity. They are kept alive, so that no other
            object can get the same ``id``.
        is_complete: whether everything could be signed. If not, equal signatures prove nothing.
    """

    def __init__(self, entries: tuple[Any, ...], held: list[Any], is_complete: bool) -> None:
        self.entries, self.is_complete = entries, is_complete
        self._held, self._hash = held, hash(entries)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Signature)
            and self._hash == other._hash
            and self.entries == other.entries
        )

    def __hash__(self) -> int:
        return self._hash


def signature_of(*values: Any, followed: Mapping[int, str] | None = None) -> Signature:
    """The signature of values that do not belong to the model, such as its arguments.

    Args:
        values: the values to sign.
        followed: as for :class:`Walk`.
    """
    return Walk(followed or {}).signature(values)


class Walk:
    """Visits all reachable objects and writes the entries of a signature.

    Each entry contains the number of its parts, which follow it, so that the flat list is
    unambiguous. An object that was visited before is entered as its number, which also records that
    two names refer to one object.

    Args:
        followed: the paths of the tensors whose values may change, by ``id``.
    """

    def __init__(self, followed: Mapping[int, str]) -> None:
        self.watch = Watch()
        self._followed = followed
        self._entries: list[Any] = []
        self._held: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._waiting: list[_Part] = []
        self._weak: list[weakref.ref[Any]] = []
        self._names: set[str] = set()
        self._methods: dict[types.CodeType, str] = {}
        self._outside: set[types.CodeType] = set()
        self._modules: list[types.ModuleType] = []
        self._named: frozenset[str] = frozenset()
        self._asked = 0
        self._is_complete = True

    def signature(self, values: tuple[Any, ...]) -> Signature:
        """The signature of everything that can be reached from the values."""
        self._entries.append(self._settings())
        self._waiting = [(self._visit, value) for value in reversed(values)]
        while self._waiting or self._waits_for_names():
            visit, value = self._waiting.pop()
            if len(self._entries) > MOST_VALUES:
                self._is_complete = False
                break
            try:
                visit(value)
            except Exception:  # the object cannot be read, or another thread is changing it
                self._visit_opaque(value)
        self._end_weak()
        self._is_complete = self._is_complete and not any(map(self._may_run, self._outside))
        return Signature(tuple(self._entries), self._held, self._is_complete)

    def _settings(self) -> tuple[Any, ...]:
        """The settings of the process on which a forward pass depends."""
        return global_state()

    def _key(self, value: Any) -> Any:
        """What stands for an object that has no parts to visit: its identity."""
        return id(value)

    def _members(self, own: Mapping[str, Any]) -> Iterable[Any]:
        """What stands for the members of one of torch's layers."""
        return ids_of_mapping(own)

    def _registered(self) -> Any:
        """What stands for the classes that are registered with an abstract class."""
        return abc.get_cache_token()

    def _form(self, tensor: Tensor) -> Any:
        """What stands for all of a tensor but its values."""
        return form_of(tensor)

    def _values(self, tensor: Tensor) -> tuple[Any, ...]:
        """What stands for the values of a tensor that the graph does not follow."""
        version = version_of(tensor) if has_version(tensor) else None
        return id(tensor), version, tuple(Memory([tensor]).look())

    def _add(self, what: str, key: Any, parts: Sequence[_Part] = ()) -> None:
        """Add an entry, and put its parts on the list of values to visit."""
        self._entries.append((what, key, len(parts)))
        self._waiting += reversed(parts)

    def _parts(self, values: Iterable[Any]) -> list[_Part]:
        return [(self._visit, value) for value in values]

    def _is_new(self, key: Any, *held: Any) -> bool:
        """Whether ``key`` is new. If not, an entry with its number is added."""
        if key in self._numbers:
            self._entries.append(("again", self._numbers[key]))
            return False
        self._numbers[key] = len(self._numbers)
        self._held += held
        return True

    def _visit(self, value: Any) -> None:
        self.watch.held.append(value)
        kind = type(value)
        if kind in PLAIN:
            self._entries.append((kind.__name__, value))
            if kind is str:
                self._names.add(value)  # it may be an argument of getattr
        elif kind is float:
            self._entries.append(("float", value.hex()))
        elif kind is complex:
            self._entries.append(("complex", value.real.hex(), value.imag.hex()))
        elif self._is_new(id(value), value):
            self._visit_object(value, mro_of(kind))

    def _visit_object(self, value: Any, mro: tuple[type, ...]) -> None:
        if Tensor in mro:
            self._visit_tensor(value)
        elif nn.Module in mro:
            self._visit_module(value)
        elif type in mro:
            self._visit_class(value)
        elif mro[0] is types.FunctionType:
            self._visit_function(value)
        elif mro[0] is types.CellType:
            self.watch.others.append((id_of_content, value))
            self._add("cell", None, self._parts([content_of(value)]))
        elif types.ModuleType in mro:
            self._visit_identity(value)
            self._modules.append(value)
        elif mro[0] is weakref.ref:
            self._visit_weak(value)
        elif mro[0] in VIEWED:
            self._add(mro[0].__name__, None, self._parts(VIEWED[mro[0]](value)))
        elif mro[0] is object or not IDENTICAL.isdisjoint(mro):
            self._visit_identity(value)
        else:
            self._visit_instance(value, mro, self._visit, self._visit_class_of_instance)

    def _visit_identity(self, value: Any) -> None:
        self._held.append(value)
        self._add("identical", self._key(value))

    def _visit_weak(self, reference: weakref.ref[Any]) -> None:
        """Sign a weak reference without keeping its target alive."""
        target = target_of(reference)
        if type(target) in DICTS:  # the reference of a hook's handle
            self._add("weak", None, self._parts([target]))
            return
        self.watch.others.append((id_of_target, reference))
        self._weak.append(reference)
        self._add("weak", target is None)

    def _end_weak(self) -> None:
        """Sign the targets of weak references by number; a target not visited cannot be signed."""
        for reference in self._weak:
            target = id(target_of(reference))
            number = self._numbers.get(target)
            if number is None and target_of(reference) is not None:
                self._is_complete = False
            self._entries.append(("refers", target if number is None else number))

    def _visit_opaque(self, value: Any) -> None:
        self._is_complete = False
        self._add("opaque", id(value))

    def _visit_tensor(self, tensor: Tensor) -> None:
        own = dict_of(tensor)
        self.watch.dicts.append(own)
        attributes = ((k, v) for k, v in own.items() if not str(k).startswith(_OF_COMPILER))
        parts = self._parts(chain.from_iterable(attributes))
        path = self._followed.get(id(tensor))
        if path is not None:
            self._add("tensor", (path, self._form(tensor)), parts)
            return
        self.watch.tensors.append(tensor)
        self._is_complete = self._is_complete and leaves_traces(tensor)
        self._add("value", (self._form(tensor), *self._values(tensor)), parts)

    def _visit_module(self, module: nn.Module) -> None:
        own = dict_of(module)
        names = tuple(name for name in own if name in _READ or name not in INTERNAL)
        self.watch.objects.append(module)
        self.watch.sized.append(own)
        self.watch.namespaces.append((getter_of(names), own))
        empty = [n for n in names if n in _READ and type(own[n]) in DICTS and not len(own[n])]
        self.watch.sized += [own[name] for name in empty]
        parts = {name: own[name] for name in names if name not in empty}
        of_class = [(self._visit_class_of_instance, type(module))]
        self._add("module", tuple(parts), of_class + self._parts(parts.values()))

    def _visit_class(self, kind: type) -> None:
        """Sign a class that is itself a value, without bases that come from installed packages."""
        own = [base for base in mro_of(kind) if not is_standard(base) and not is_installed(base)]
        self._visit_bases(kind, own)

    def _visit_class_of_instance(self, kind: type) -> None:
        if self._is_new(("class", id(kind)), kind):
            self._visit_bases(kind, [base for base in mro_of(kind) if not _is_fixed(base)])

    def _visit_bases(self, kind: type, bases: list[type]) -> None:
        """Sign the definitions in the given bases of a class, and its metaclass."""
        self.watch.held.append(mro_of(kind))
        self.watch.others.append((id_of_mro, kind))
        parts: list[_Part] = [(self._visit_definitions, base) for base in bases]
        if not is_standard(type(kind)):
            parts.append((self._visit_class_of_instance, type(kind)))
        self._add("class", self._key(kind), parts)

    def _visit_definitions(self, kind: type) -> None:
        """Sign what a class itself defines; for torch's own layers, the identities of its members."""
        if self._is_new(("definitions", id(kind)), kind):
            own = dict_of_class(kind)
            self.watch.others.append((ids_of_mapping, own))
            if is_standard(kind):
                self._held += own.values()
                self._add("definitions", (self._key(kind), *self._members(own)))
                return
            parts = {name: own[name] for name in own if name not in OF_CLASSES}
            self._methods |= {c: name for name, v in parts.items() for c in _codes_of(v)}
            if _REGISTRY in own:
                self._entries.append(("registered", self._registered()))
                self.watch.others.append((_token, None))
            self._add("definitions", (self._key(kind), *parts), self._parts(parts.values()))

    def _visit_function(self, function: types.FunctionType) -> None:
        """Sign a function: its code, closure, defaults, attributes and the globals that it names."""
        code, space = function.__code__, function.__globals__
        self.watch.others.append((ids_of_function, function))
        self._held.append(code)
        parts = self._parts(function.__closure__ or ())
        parts += self._parts([function.__defaults__, function.__kwdefaults__, function.__dict__])
        origin = origin_of(code.co_filename)
        if origin != "standard":
            is_installed = origin == "installed"
            if names := globals_in(code):
                parts.append((self._visit_globals, (space, names, is_installed)))
            if not is_installed:
                self._names.update(names_in(code), strings_in(code))
                parts += [(self._visit, m) for m in map(sys.modules.get, sorted(imports_in(code)))]
                if reads_outside(function):
                    self._outside.add(code)
        self._add("function", self._key(code), parts)

    def _may_run(self, code: types.CodeType) -> bool:
        """Whether a function may run in a forward pass: no other code names most methods."""
        name = self._methods.get(code)
        if name is None:
            return True
        is_special = name.startswith("__") and name.endswith("__")
        return name not in _NOT_IN_FORWARD if is_special else name in {*self._names, "forward"}

    def _visit_globals(self, part: tuple[dict[str, Any], frozenset[str], bool]) -> None:
        """Sign the globals that a function names; in installed packages data only."""
        space, names, is_installed = part
        if not self._is_new((id(space), names), space):
            return
        found = tuple(sorted(present(space, names)))
        if not is_installed:
            self.watch.others.append((names.intersection, space))  # a name may be added
        if found:
            self.watch.namespaces.append((getter_of(found), space))
        parts: list[_Part] = []
        built_in = (
            () if is_installed else tuple(sorted(names.intersection(vars(builtins)) - {*found}))
        )
        if built_in:
            self.watch.namespaces.append((getter_of(built_in), vars(builtins)))
            parts += [(self._visit, vars(builtins)[name]) for name in built_in]
        for name in found:
            parts.append((self._visit_data if is_installed else self._visit, space[name]))
        self._add("globals", (found, built_in), parts)

    def _visit_data(self, value: Any) -> None:
        """Sign what an installed package holds: functions and data, anything else by identity.

        Data are plain values, tensors, containers, the package's classes and their instances. So what
        is registered with a package is seen, and what is set in its configuration. Methods count by
        identity: there are too many.
        """
        kind, mro = type(value), mro_of(type(value))
        if kind in PLAIN or kind in (float, types.FunctionType) or Tensor in mro:
            self._visit(value)
        elif not self._is_new(("data", id(value)), value):
            return
        elif not _is_data(value, mro):
            self._visit_identity(value)
        elif type in mro:
            own = dict_of_class(value)
            self.watch.sized.append(own)
            self.watch.namespaces.append((getter_of(tuple(own)), own))
            parts = {name: own[name] for name in own if name not in OF_CLASSES}
            visits = (
                self._visit_identity if type(part) in _METHODS else self._visit_data
                for part in parts.values()
            )
            self._add("data", tuple(parts), list(zip(visits, parts.values(), strict=True)))
        else:
            self._visit_instance(value, mro, self._visit_data, self._visit_data)

    def _waits_for_names(self) -> bool:
        """Put names of visited Python modules that the code uses on the list; whether any is left."""
        named, before = frozenset({*self._names, "__getattr__"}), self._named
        computed, were_computed = (not names.isdisjoint(_BY_NAME) for names in (named, before))
        new, self._named = named - before, named
        for i, module in enumerate(self._modules):
            is_first = i >= self._asked
            names, is_own = named if is_first else new, is_module_of_user(module)
            if is_own and computed and (is_first or not were_computed):  # any of its names
                self.watch.sized.append(vars(module))
                names |= {name for name in vars(module) if not name.startswith("__")}
            if not is_own:
                names = frozenset(present(vars(module), names))
            if names:
                self._waiting.append((self._visit_globals, (vars(module), names, not is_own)))
        self._asked = len(self._modules)
        return bool(self._waiting)

    def _visit_instance(
        self, value: Any, mro: tuple[type, ...], visit: Visit, of_class: Visit
    ) -> None:
        """Sign any other object: its class, its attributes, and its contents if it is a container."""
        base = base_of(mro)
        if base not in CONTENTS and base is not object:
            self._visit_opaque(value)
            return
        parts: list[_Part] = [(of_class, mro[0])]
        content: Any = None
        if base in CONTENTS:
            content, items = CONTENTS[base](value)
            if content is None:
                self._visit_opaque(value)
                return
            parts += [(visit, each) for each in items]
            if base is dict or base is defaultdict:
                self.watch.dicts.append(value)
            elif base in CHANGES:
                self.watch.others.append((CHANGES[base], value))
        if mro[0] is not base:
            self.watch.objects.append(value)
            own = dict_of(value)
            if own is not None:
                self.watch.dicts.append(own)
                parts += [(visit, each) for each in chain.from_iterable(own.items())]
            for descriptor in slots_of(mro):
                self.watch.others.append((id_of_slot, (descriptor, value)))
                parts += [(visit, slot_of(descriptor, value))]
        self._add("instance", content, parts)


def present(space: Mapping[str, Any], names: frozenset[str]) -> Iterable[str]:
    """Those of the names that a namespace has; the shorter of the two is gone through."""
    if len(space) < len(names):
        return [name for name in space if name in names]
    return [name for name in names if name in space]


def _is_data(value: Any, mro: tuple[type, ...]) -> bool:
    """Whether an object of an installed package is data: a container, or of a class of a package."""
    if type in mro:
        return not is_standard(value)
    base = base_of(mro)
    if mro[0] is not base and (is_standard(mro[0]) or nn.Module in mro):
        return False
    if base is object or base not in CONTENTS:
        return base is object and mro[0] is not object
    if base is numpy.ndarray:
        return CONTENTS[base](value)[0] is not None
    size: Any = vars(base).get("__len__", lambda _: 0)
    return bool(size(value) <= MOST_ENTRIES)


def _codes_of(member: Any) -> list[types.CodeType]:
    """The code objects of a method, property, static method or class method."""
    parts = (
        [member, *(getattr(member, name, None) for name in _WRAPPED)]
        if (type(member) in _MEMBERS)
        else [member]
    )
    return [part.__code__ for part in parts if type(part) is types.FunctionType]


def _token(_: object) -> object:
    """A number that changes whenever a class is registered with an abstract one."""
    return abc.get_cache_token()


def _is_fixed(kind: type) -> bool:
    """Whether a class is assumed not to change: the classes of Python and torch, except layers."""
    return is_standard(kind) and (kind is nn.Module or nn.Module not in mro_of(kind))


_READ = frozenset(
    {
        *("_parameters", "_buffers", "_modules"),
        *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
        *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    }
)
"""Those attributes of every ``nn.Module`` that a forward pass reads."""
_REGISTRY = "_abc_impl"
"""The class attribute that holds the classes registered with an abstract class."""
_BY_NAME = frozenset({"getattr", "vars", "attrgetter", "__dict__", "hasattr", "__getattribute__"})
"""What finds members of a module by names that the code need not contain."""
_MEMBERS = (property, staticmethod, classmethod)
_METHODS = (types.FunctionType, *_MEMBERS)
_WRAPPED = ("fget", "__func__")
_NOT_IN_FORWARD = frozenset(
    {
        *("__init__", "__new__", "__post_init__", "__init_subclass__", "__del__", "__repr__"),
        *("__str__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"),
        *("__deepcopy__", "__copy__"),
    }
)
"""Special methods that a forward pass does not call."""
OF_CLASSES = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__"),
        *("__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__", "__annotate__"),
        *("__static_attributes__", "__firstlineno__", "__annotate_func__", "__type_params__"),
        *("__annotations_cache__", "__dataclass_fields__", "__dataclass_params__"),
    }
)
"""Class attributes that Python itself creates."""
