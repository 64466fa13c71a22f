"""What a reading of a model depends on, and whether it still holds.

A captured graph has the model's parameters by path, so that their values may change. All else that the
model's code can read went into the graph when it was made. A :class:`Signature` is that, by value:
modules, attributes, containers, functions with what they close over and the globals that they name,
classes, arrays, and the forms of the parameters. A :class:`ModelState` watches a model for changes of it.

No code of the user runs here: no ``__eq__``, ``__hash__``, ``__repr__`` or ``__getattr__``.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import sys
import sysconfig
import threading
import types
import weakref
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from itertools import chain
from operator import itemgetter
from typing import Any, Literal

import numpy
import torch
from torch import Tensor, fx, nn

from lrp_fx.capture.copying import INTERNAL, named_tensors
from lrp_fx.capture.functions import names_in
from lrp_fx.capture.traces import Memory, form_of, has_version, trace_of

LARGEST_ARRAY = 2**18
"""Arrays of so many bytes are compared by content; larger ones count as what cannot be signed."""
MOST_VALUES = 200_000
"""A signature ends after so many values, and is not complete then."""
_Part = tuple[Callable[[Any], None], Any]
"""A value that is still to be visited, and how."""


class Signature:
    """All that a reading depends on, by value; equal for what reads the same.

    Args:
        entries: plain values and the identities of objects.
        held: these objects, so that no other can get their identity.
        is_complete: whether all could be signed; if not, two equal signatures prove nothing.
    """

    def __init__(self, entries: tuple[Any, ...], held: list[Any], is_complete: bool) -> None:
        self.entries, self.is_complete = entries, is_complete
        self._held, self._hash = held, hash(entries)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Signature)
            and self.is_complete == other.is_complete
            and self._hash == other._hash
            and self.entries == other.entries
        )

    def __hash__(self) -> int:
        return self._hash


def signature_of(*values: Any) -> Signature:
    """The signature of values that are not the model's, such as its arguments."""
    return _Walk({}).signature(values)


class ModelState:
    """A model, watched: its signature and its tensors as they are now.

    The signature is made anew only if something was replaced. Whether it was is seen from the identities
    of all that a container, an object or a function holds, which are compared in one go.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.tensors: dict[str, Tensor] = {}
        """The model's tensors by path, as of the last :meth:`signature`."""
        self._signature: Signature | None = None
        self._watch: _Watch | None = None

    def signature(self) -> Signature:
        """What a reading of the model depends on now."""
        if self._signature is None or self._watch is None or not self._watch.holds():
            self.tensors = named_tensors(self.model)
            walk = _Walk({id(tensor): path for path, tensor in self.tensors.items()})
            signature = walk.signature((self.model,))
            self._watch = walk.watch
            self._watch.begin(self.tensors.values())
            if signature != self._signature:
                self._signature = signature
        return self._signature


class _Watch:
    """All that the visited objects hold, by identity, read again in one go: mostly in C code."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.sized: list[Sized] = []
        self.namespaces: list[tuple[Callable[[Any], Any], Any]] = []
        self.dicts: list[dict[Any, Any]] = []
        self.others: list[tuple[Callable[[Any], Any], Any]] = []
        """Pairs of a value and what reads it."""
        self.tensors: list[Tensor] = []
        self.held: list[Any] = []
        """All that is compared by identity: while it is held, no other object gets its identity."""
        self._followed: list[Tensor] = []
        self._last: Any = None

    def begin(self, followed: Iterable[Tensor]) -> None:
        """Note how things are now; of the ``followed`` tensors their form alone."""
        self._followed = list(followed)
        try:
            self._memory = Memory(self.tensors)
            self._last = self._columns()
            self._seen = self._memory.look()
        except Exception:  # of an object that changes in this moment
            self._last = None

    def holds(self) -> bool:
        """Whether all is as it was."""
        try:
            is_same = self._last is not None and self._columns() == self._last
            return is_same and self._memory.look() == self._seen  # the tensors are where they were
        except Exception:  # something is no more, or changes in this moment
            return False

    def _columns(self) -> tuple[Any, ...]:
        flat = chain.from_iterable
        return (
            _global_state(),
            list(map(id, map(type, self.objects))),
            list(map(id, map(_dict_of, self.objects))),
            list(map(len, self.sized)),
            list(map(id, flat([get(space) for get, space in self.namespaces]))),
            list(map(len, self.dicts)),
            list(map(id, flat(map(dict.keys, self.dicts)))),
            list(map(id, flat(map(dict.values, self.dicts)))),
            [read(value) for read, value in self.others],
            list(map(_data_ptr, self._followed)),
            list(map(_dtype, self._followed)),
            list(map(_requires_grad, self._followed)),
            list(map(_shape, self._followed)),
            list(map(_stride, self._followed)),
            list(map(trace_of, self.tensors)),
            list(map(form_of, self.tensors)),
        )


class _Walk:
    """Goes through all that is reachable, and writes the entries of a signature.

    Each entry says how many parts follow that belong to it, so that the flat list means one thing. What
    was met before is its number, which also signs that two names stand for one object.

    Args:
        followed: the paths of the tensors whose values may change, by identity.
    """

    def __init__(self, followed: Mapping[int, str]) -> None:
        self.watch = _Watch()
        self._followed = followed
        self._entries: list[Any] = []
        self._held: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._waiting: list[_Part] = []
        self._weak: list[weakref.ref[Any]] = []
        self._is_complete = True

    def signature(self, values: tuple[Any, ...]) -> Signature:
        """The signature of all that can be reached from the values."""
        self._entries.append(_global_state())
        self._waiting = [(self._visit, value) for value in reversed(values)]
        while self._waiting:
            visit, value = self._waiting.pop()
            if len(self._entries) > MOST_VALUES:
                self._is_complete = False
                break
            try:
                visit(value)
            except Exception:  # an object that cannot even be looked at, or changes in this moment
                self._visit_opaque(value)
        self._end_weak()
        return Signature(tuple(self._entries), self._held, self._is_complete)

    def _add(self, what: str, key: Any, parts: Sequence[_Part] = ()) -> None:
        """An entry, and the parts that belong to it."""
        self._entries.append((what, key, len(parts)))
        self._waiting += reversed(parts)

    def _parts(self, values: Iterable[Any]) -> list[_Part]:
        return [(self._visit, value) for value in values]

    def _is_new(self, key: Any, *held: Any) -> bool:
        """Whether this comes for the first time; else an entry says when it came before."""
        if key in self._numbers:
            self._entries.append(("again", self._numbers[key]))
            return False
        self._numbers[key] = len(self._numbers)
        self._held += held
        return True

    def _visit(self, value: Any) -> None:
        self.watch.held.append(value)
        kind = type(value)
        if kind in _PLAIN:
            self._entries.append((kind.__name__, value))
        elif kind is float:
            self._entries.append(("float", value.hex()))
        elif kind is complex:
            self._entries.append(("complex", value.real.hex(), value.imag.hex()))
        elif self._is_new(id(value), value):
            self._visit_object(value, _mro(kind))

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
            self.watch.others.append((_id_of_content, value))
            self._add("cell", None, self._parts([_content(value)]))
        elif mro[0] is weakref.ref:
            self._visit_weak(value)
        elif mro[0] in _VIEWED:
            self._add(mro[0].__name__, None, self._parts(_VIEWED[mro[0]](value)))
        elif mro[0] is object or not _IDENTICAL.isdisjoint(mro):
            self._visit_identity(value)
        else:
            self._visit_instance(value, mro)

    def _visit_identity(self, value: Any) -> None:
        self._held.append(value)
        self._add("identical", id(value))

    def _visit_weak(self, reference: weakref.ref[Any]) -> None:
        """A weak reference, which must not keep alive what it refers to."""
        target = _target(reference)
        if type(target) in _DICTS:  # of a hook's handle
            self._add("weak", None, self._parts([target]))
            return
        self.watch.others.append((_id_of_target, reference))
        self._weak.append(reference)
        self._add("weak", target is None)

    def _end_weak(self) -> None:
        """Whatever else holds a target says what it is; what nobody else holds cannot be signed."""
        for reference in self._weak:
            target = id(_target(reference))
            number = self._numbers.get(target)
            if number is None and _target(reference) is not None:
                self._is_complete = False
            self._entries.append(("refers", target if number is None else number))

    def _visit_opaque(self, value: Any) -> None:
        self._held.append(value)
        self._is_complete = False
        self._add("opaque", id(value))

    def _visit_tensor(self, tensor: Tensor) -> None:
        path = self._followed.get(id(tensor))
        if path is not None:
            self._add("tensor", (path, form_of(tensor)))
            return
        self.watch.tensors.append(tensor)
        content = tuple(Memory([tensor]).look())
        if has_version(tensor):
            self._add("value", (id(tensor), tensor._version, form_of(tensor), content))
        else:
            self._is_complete = False
            self._add("value", (id(tensor), form_of(tensor), content))

    def _visit_module(self, module: nn.Module) -> None:
        own = _dict_of(module)
        names = tuple(name for name in own if name in _READ or name not in INTERNAL)
        self.watch.objects.append(module)
        self.watch.sized.append(own)
        self.watch.namespaces.append((_getter(names), own))
        empty = [n for n in names if n in _READ and type(own[n]) in _DICTS and not len(own[n])]
        self.watch.sized += [own[name] for name in empty]
        parts = {name: own[name] for name in names if name not in empty}
        of_class = [(self._visit_class_of_instance, type(module))]
        self._add("module", tuple(parts), of_class + self._parts(parts.values()))

    def _visit_class(self, kind: type) -> None:
        """A class that is a value: what an installed package defines in it leads too far."""
        own = [base for base in _mro(kind) if not _is_standard(base) and not _is_installed(base)]
        self._add("class", id(kind), [(self._visit_definitions, base) for base in own])

    def _visit_class_of_instance(self, kind: type) -> None:
        if self._is_new(("class", id(kind)), kind):
            own = [base for base in _mro(kind) if not _is_standard(base)]
            self._add("class", id(kind), [(self._visit_definitions, base) for base in own])

    def _visit_definitions(self, kind: type) -> None:
        """What a class itself defines."""
        if self._is_new(("definitions", id(kind)), kind):
            own = _class_dict(kind)
            self.watch.others.append((_ids_of_mapping, own))
            parts = {name: own[name] for name in own if name not in _OF_CLASSES}
            self._add("definitions", (id(kind), *parts), self._parts(parts.values()))

    def _visit_function(self, function: types.FunctionType) -> None:
        """A function is its code and what that reads: cells, defaults, attributes and globals."""
        code, space = function.__code__, function.__globals__
        self.watch.others.append((_ids_of_function, function))
        self._held.append(code)
        parts = self._parts(function.__closure__ or ())
        parts += self._parts([function.__defaults__, function.__kwdefaults__, function.__dict__])
        origin = _origin(code.co_filename)
        names = () if origin == "standard" else tuple(sorted(names_in(code)))
        if names:
            is_installed = origin == "installed"
            parts.append((self._visit_globals, (space, names, is_installed)))
        self._add("function", id(code), parts)

    def _visit_globals(self, part: tuple[dict[str, Any], tuple[str, ...], bool]) -> None:
        """The globals that a function names, by value; those of installed packages by identity."""
        space, names, is_installed = part
        if not self._is_new((id(space), names), space):
            return
        found = tuple(name for name in names if name in space)
        absent = frozenset(names).difference(found)
        self.watch.others.append((absent.isdisjoint, space))
        if found:
            self.watch.namespaces.append((_getter(found), space))
        parts: list[_Part] = []
        for name in found:
            value = space[name]
            if type(value) is types.ModuleType and not is_installed and _is_own(value):
                parts.append((self._visit_globals, (vars(value), names, False)))
            elif is_installed and type(value) not in _PLAIN:
                parts.append((self._visit_identity, value))
            else:
                parts.append((self._visit, value))
        self._add("globals", found, parts)

    def _visit_instance(self, value: Any, mro: tuple[type, ...]) -> None:
        """Any other object: its class, its contents if it is a container, its attributes."""
        base = _base(mro)
        if base not in _CONTENTS and base is not object:
            self._visit_opaque(value)
            return
        parts: list[_Part] = [(self._visit_class_of_instance, mro[0])]
        content: Any = None
        if base in _CONTENTS:
            content, items = _CONTENTS[base](value)
            if content is None:
                self._visit_opaque(value)
                return
            parts += self._parts(items)
            if base is dict or base is defaultdict:
                self.watch.dicts.append(value)
            elif base in _CHANGES:
                self.watch.others.append((_CHANGES[base], value))
        if mro[0] is not base:
            self.watch.objects.append(value)
            own = _dict_of(value)
            if own is not None:
                self.watch.dicts.append(own)
                parts += self._parts(chain.from_iterable(own.items()))
            for descriptor in _slots_of(mro):
                self.watch.others.append((_id_of_slot, (descriptor, value)))
                parts += self._parts([_slot(descriptor, value)])
        self._add("instance", content, parts)


# what the walk asks of objects, without running their code

_mro: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
_class_dict: Callable[[type], Mapping[str, Any]] = vars(type)["__dict__"].__get__
_data_ptr, _stride = Tensor.data_ptr, Tensor.stride
_dtype, _shape = Tensor.dtype.__get__, Tensor.shape.__get__  # type: ignore[attr-defined]
_requires_grad = Tensor.requires_grad.__get__  # type: ignore[attr-defined]


def _global_state() -> tuple[Any, ...]:
    """The settings of torch that change what a forward computes, and the hooks of all modules."""
    hooks = map(id, chain(_EVERYWHERE.values(), _BEFORE_EVERYWHERE.values()))
    return (torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled(), *hooks)


def _dict_of(value: Any) -> Any:
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:  # it has slots
        return None


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    getter = itemgetter(*names)
    return getter if len(names) > 1 else lambda space: (getter(space),)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _NOTHING


def _slot(descriptor: Any, value: Any) -> Any:
    try:
        return descriptor.__get__(value)
    except AttributeError:  # not assigned yet
        return _NOTHING


_NOTHING = type("Nothing", (), {})


@functools.lru_cache(maxsize=4096)
def _slots_of(mro: tuple[type, ...]) -> tuple[Any, ...]:
    own = [base for base in mro if not _is_built_in(base)]
    members = chain.from_iterable(_class_dict(base).values() for base in own)
    return tuple(each for each in members if type(each) is types.MemberDescriptorType)


@functools.lru_cache(maxsize=4096)
def _is_built_in(kind: type) -> bool:
    """Whether a class is written in C: its instances may hold what Python cannot see."""
    new = _class_dict(kind).get("__new__")
    if kind.__flags__ & _HEAP_TYPE:
        return type(new) is types.BuiltinMethodType and new.__self__ is kind
    return True


@functools.lru_cache(maxsize=4096)
def _base(mro: tuple[type, ...]) -> type:
    """The class written in C that an instance is of."""
    special = [each for each in (numpy.generic, BaseException) if each in mro]
    return special[0] if special else next(each for each in mro if _is_built_in(each))


_HEAP_TYPE = 1 << 9


@functools.lru_cache(maxsize=4096)
def _is_standard(kind: type) -> bool:
    """Whether a class is torch's or Python's own, which nobody changes."""
    module = _class_dict(kind).get("__module__")
    return not isinstance(module, str) or module.partition(".")[0] in _STANDARD


@functools.lru_cache(maxsize=4096)
def _is_installed(kind: type) -> bool:
    module = sys.modules.get(str(_class_dict(kind).get("__module__")))
    return module is not None and not _is_own(module)


def _is_own(module: types.ModuleType) -> bool:
    """Whether a module is the user's, and not an installed package's."""
    file = vars(module).get("__file__")
    name = vars(module).get("__name__")
    if not isinstance(file, str):
        return name == "__main__"
    return _origin(file) == "own"


@functools.lru_cache(maxsize=4096)
def _origin(file: str) -> Literal["standard", "installed", "own"]:
    """Whose code a file holds: torch's or Python's own, an installed package's, or the user's."""
    if file.startswith(("<frozen", _TORCH)):
        return "standard"
    if file.startswith(_INSTALLED):
        return "installed"
    return "standard" if file.startswith(_PYTHON) else "own"


_EVERYWHERE: Mapping[int, Any] = nn.modules.module._global_forward_hooks
_BEFORE_EVERYWHERE: Mapping[int, Any] = nn.modules.module._global_forward_pre_hooks
_STANDARD = sys.stdlib_module_names | {"torch", "numpy"}
_TORCH = f"{torch.__path__[0]}/"
_INSTALLED = tuple(f"{sysconfig.get_path(name)}/" for name in ("purelib", "platlib"))
_PYTHON = f"{sysconfig.get_path('stdlib')}/"
_DICTS = (dict, OrderedDict)
_PLAIN = frozenset({bool, int, str, bytes, type(None), type(...), type(NotImplemented)})
_LOCK = type(threading.Lock())
_FIELD = type(vars(namedtuple("Pair", "first"))["first"])
_IDENTICAL = frozenset(
    {
        *(types.ModuleType, types.WrapperDescriptorType, types.CodeType, types.GenericAlias),
        *(types.MethodDescriptorType, types.ClassMethodDescriptorType, types.MethodWrapperType),
        *(types.MemberDescriptorType, types.GetSetDescriptorType, types.UnionType, _LOCK),
        *(type(threading.RLock()), _FIELD, logging.Logger, re.Pattern, numpy.dtype, numpy.ufunc),
        *(torch.dtype, torch.layout, torch.memory_format, torch.Stream, torch.finfo, torch.iinfo),
        *(torch._ops.OpOverload, torch._ops.OpOverloadPacket, fx.Graph),
        *(torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler),
    }
)
"""What has no state that a forward reads, but is one thing or another."""
_READ = frozenset(
    {
        *("_parameters", "_buffers", "_modules"),
        *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
        *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    }
)
"""What a forward reads of what every module has."""
_OF_CLASSES = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__"),
        *("__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__", "__annotate__"),
        *("__static_attributes__", "__firstlineno__", "__annotate_func__", "__type_params__"),
        *("__annotations_cache__", "__dataclass_fields__", "__dataclass_params__"),
    }
)
"""What Python itself writes into classes."""
_VIEWED: dict[type, Callable[[Any], Sequence[Any]]] = {
    types.MethodType: lambda value: (value.__func__, value.__self__),
    types.BuiltinMethodType: lambda value: (value.__name__, value.__self__),
    functools.partial: lambda value: (value.func, value.args, value.keywords, value.__dict__),
    # of a decorator, which makes a new one for each call
    contextlib._GeneratorContextManager: lambda value: (value.func, value.args, value.kwds),
    slice: lambda value: (value.start, value.stop, value.step),
    range: lambda value: (value.start, value.stop, value.step),
    torch.device: lambda value: (value.type, value.index),
    type(functools.lru_cache(len)): lambda value: (value.__wrapped__,),
}
"""The parts of objects that are written in C and do not change."""


def _array(value: Any) -> Any:
    if value.nbytes > LARGEST_ARRAY:
        return None, ()
    form = (tuple(value.shape), tuple(value.strides), str(value.dtype))
    if value.dtype.hasobject:
        return form, numpy.ndarray.ravel(value).tolist()
    return (*form, numpy.ndarray.tobytes(value)), ()


def _order(value: Any) -> tuple[str, Any]:
    """By value where that is certain, so that equal sets have equal signatures."""
    is_plain = type(value) in _PLAIN or type(value) is float
    return type(value).__name__, repr(value) if is_plain else f"{id(value):020}"


_CONTENTS: dict[type, Callable[[Any], tuple[Any, Any]]] = {
    dict: lambda v: ("dict", list(chain.from_iterable(dict.items(v)))),
    defaultdict: lambda v: ("dict", list(chain.from_iterable(dict.items(v)))),
    OrderedDict: lambda v: ("dict", list(chain.from_iterable(OrderedDict.items(v)))),
    types.MappingProxyType: lambda v: ("dict", list(chain.from_iterable(_proxied(v).items()))),
    list: lambda v: ("list", list(list.__iter__(v))),
    deque: lambda v: (("deque", v.maxlen), list(deque.__iter__(v))),
    tuple: lambda v: ("tuple", list(tuple.__iter__(v))),
    set: lambda v: ("set", sorted(set.__iter__(v), key=_order)),
    frozenset: lambda v: ("set", sorted(frozenset.__iter__(v), key=_order)),
    int: lambda v: (int.__repr__(v), ()),
    float: lambda v: (float.hex(v), ()),
    complex: lambda v: (complex.__repr__(v), ()),
    str: lambda v: (str.__str__(v), ()),
    bytes: lambda v: (bytes.__repr__(v), ()),
    bytearray: lambda v: (bytearray.__repr__(v), ()),
    numpy.ndarray: _array,
    numpy.generic: lambda v: ((str(v.dtype), numpy.generic.tobytes(v)), ()),
    BaseException: lambda v: ("error", (v.args,)),
    property: lambda v: ("property", (v.fget,)),
    staticmethod: lambda v: ("static", (v.__func__,)),
    classmethod: lambda v: ("class", (v.__func__,)),
    types.SimpleNamespace: lambda v: ("namespace", (_dict_of(v),)),
}
"""The content of built-in containers and values, and the values in them."""
_CHANGES: dict[type, Callable[[Any], Any]] = {
    types.MappingProxyType: lambda v: _ids_of_mapping(_proxied(v)),
    OrderedDict: lambda v: [*map(id, OrderedDict.__iter__(v)), *map(id, dict.values(v))],
    list: lambda v: list(map(id, list.__iter__(v))),
    deque: lambda v: list(map(id, deque.__iter__(v))),
    set: lambda v: list(map(id, set.__iter__(v))),
    bytearray: bytearray.__repr__,
    numpy.ndarray: lambda v: (v.shape, v.strides, numpy.ndarray.tobytes(v)),
}
"""What shows that one of these was changed, beside dicts."""


def _proxied(value: types.MappingProxyType[Any, Any]) -> dict[Any, Any]:
    """A copy of what a view of a mapping shows."""
    return dict(value)


def _ids_of_mapping(value: Mapping[str, Any]) -> list[int]:
    return [*map(id, value.keys()), *map(id, value.values())]


def _ids_of_function(value: types.FunctionType) -> tuple[int, ...]:
    return id(value.__code__), id(value.__defaults__), id(value.__kwdefaults__), id(value.__dict__)


def _id_of_content(cell: types.CellType) -> int:
    return id(_content(cell))


_target: Callable[[weakref.ref[Any]], Any] = weakref.ref.__call__


def _id_of_target(reference: weakref.ref[Any]) -> int:
    return id(_target(reference))


def _id_of_slot(place: tuple[Any, Any]) -> int:
    return id(_slot(*place))
