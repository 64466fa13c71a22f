"""The parts of Python objects, read without running any code of the user.

An instance of a Python class consists of its attributes and slots. For types written in C the
tables in this module give the parts. Nothing is known about objects of other types.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import threading
import types
import weakref
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy
import torch
from torch import fx

from lrp_fx.graph import OpOverload, OpOverloadPacket

MAX_ARRAY = 2**18
"""Arrays of up to this many bytes are compared by content; larger ones cannot be signed."""

mro_of: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
dict_of_class: Callable[[type], Mapping[str, Any]] = vars(type)["__dict__"].__get__
target_of: Callable[[weakref.ref[Any]], Any] = weakref.ref.__call__


def dict_of(value: Any) -> Any:
    """The ``__dict__`` of an object; None if it has none."""
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None


def content_of(cell: types.CellType) -> Any:
    """The value in a closure cell, or a placeholder if nothing has been assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return NOTHING


def slot_of(descriptor: Any, value: Any) -> Any:
    """The value in a slot of an object, or a placeholder if nothing has been assigned yet."""
    try:
        return descriptor.__get__(value)
    except AttributeError:  # not assigned yet
        return NOTHING


NOTHING = type("Nothing", (), {})
"""The placeholder for a value that was not assigned yet."""


@functools.lru_cache(maxsize=4096)
def slots_of(mro: tuple[type, ...]) -> tuple[Any, ...]:
    """The slot descriptors of a class and its bases; the class is given by its MRO."""
    own = [base for base in mro if not _is_built_in(base)]
    members = chain.from_iterable(dict_of_class(base).values() for base in own)
    return tuple(each for each in members if type(each) is types.MemberDescriptorType)


@functools.lru_cache(maxsize=4096)
def _is_built_in(kind: type) -> bool:
    """Whether a class is written in C, so that its instances may have parts invisible to Python."""
    new = dict_of_class(kind).get("__new__")
    if not kind.__flags__ & _ONLY_IN_C:
        return type(new) is types.BuiltinMethodType and new.__self__ is kind
    return True


@functools.lru_cache(maxsize=4096)
def base_of(mro: tuple[type, ...]) -> type:
    """The first class written in C among a class and its bases; the class is given by its MRO."""
    special = [each for each in (numpy.generic, BaseException) if each in mro]
    return special[0] if special else next(each for each in mro if _is_built_in(each))


_ONLY_IN_C = 1 << 7 | 1 << 8
"""``Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE``, which only C code can set."""


DICTS = (dict, OrderedDict)
PLAIN = frozenset({bool, int, str, bytes, type(None), type(...), type(NotImplemented)})
_LOCK = type(threading.Lock())
_FIELD = type(vars(namedtuple("Pair", "first"))["first"])
IDENTICAL = frozenset(
    {
        *(types.WrapperDescriptorType, types.CodeType, types.GenericAlias),
        *(types.MethodDescriptorType, types.ClassMethodDescriptorType, types.MethodWrapperType),
        *(types.MemberDescriptorType, types.GetSetDescriptorType, types.UnionType, _LOCK),
        *(type(threading.RLock()), _FIELD, logging.Logger, re.Pattern, numpy.dtype, numpy.ufunc),
        *(torch.dtype, torch.layout, torch.memory_format, torch.Stream, torch.finfo, torch.iinfo),
        *(OpOverload, OpOverloadPacket, fx.Graph),
        *(torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler),
    }
)
"""Types that are compared by identity: they have no state that a forward pass reads."""
VIEWED: dict[type, Callable[[Any], Sequence[Any]]] = {
    types.MethodType: lambda value: (value.__func__, value.__self__),
    types.BuiltinMethodType: lambda value: (value.__name__, value.__self__),
    functools.partial: lambda value: (value.func, value.args, value.keywords, value.__dict__),
    # in torch's decorators such as no_grad, which make a new one for each call
    contextlib._GeneratorContextManager: lambda value: (value.func, value.args, value.kwds),
    slice: lambda value: (value.start, value.stop, value.step),
    range: lambda value: (value.start, value.stop, value.step),
    torch.device: lambda value: (value.type, value.index),
    type(functools.lru_cache(len)): lambda value: (value.__wrapped__,),
}
"""Types written in C whose objects do not change, with a function that returns their parts."""


def _array(value: Any) -> Any:
    if value.nbytes > MAX_ARRAY:
        return None, ()
    form = (tuple(value.shape), tuple(value.strides), str(value.dtype))
    if value.dtype.hasobject:
        return form, numpy.ndarray.ravel(value).tolist()
    return (*form, numpy.ndarray.tobytes(value)), ()


def _order(value: Any) -> tuple[str, Any]:
    """Sort key for the entries of a set: plain values by value, so that equal sets look equal."""
    is_plain = type(value) in PLAIN or type(value) is float
    return type(value).__name__, repr(value) if is_plain else f"{id(value):020}"


CONTENTS: dict[type, Callable[[Any], tuple[Any, Any]]] = {
    dict: lambda v: ("dict", list(chain.from_iterable(dict.items(v)))),
    defaultdict: lambda v: ("dict", list(chain.from_iterable(dict.items(v)))),
    OrderedDict: lambda v: ("dict", list(chain.from_iterable(OrderedDict.items(v)))),
    types.MappingProxyType: lambda v: (
        "dict",
        list(chain.from_iterable(copy_of_proxied(v).items())),
    ),
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
    types.SimpleNamespace: lambda v: ("namespace", (dict_of(v),)),
}
"""Built-in types, with a function from an object to its own content and the values it contains."""


def copy_of_proxied(value: types.MappingProxyType[Any, Any]) -> dict[Any, Any]:
    """A copy of the mapping behind a mapping proxy."""
    return dict(value)
