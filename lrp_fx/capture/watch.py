"""Whether all that was looked at is still the same: by identity, in one go, mostly in C code."""

from __future__ import annotations

import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sized
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy
import torch
from torch import Tensor

from lrp_fx.capture.contents import content_of, copy_of_proxied, dict_of, mro_of, slot_of, target_of
from lrp_fx.capture.traces import Memory, form_of, trace_of
from lrp_fx.graph import global_hooks, property_getter


class Watch:
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
        with suppress(Exception):  # of an object that changes in this moment
            self._memory = Memory(self.tensors)
            self._last = self._columns()
            self._seen = self._memory.look()

    def holds(self) -> bool:
        """Whether all is as it was."""
        try:
            # in this order: there is something to look at while the tensors are where they were
            return self._columns() == self._last and self._memory.look() == self._seen
        except Exception:  # something is no more, or changes in this moment
            return False

    def _columns(self) -> tuple[Any, ...]:
        flat = chain.from_iterable
        return (
            global_state(),
            list(map(id, map(type, self.objects))),
            list(map(id, map(dict_of, self.objects))),
            list(map(len, self.sized)),
            list(map(id, flat([get(space) for get, space in self.namespaces]))),
            list(map(len, self.dicts)),
            list(map(id, flat(map(dict.keys, self.dicts)))),
            list(map(id, flat(map(dict.values, self.dicts)))),
            [read(value) for read, value in self.others],
            list(map(_dtype, self._followed)),
            list(map(_requires_grad, self._followed)),
            list(map(_shape, self._followed)),
            list(map(_stride, self._followed)),
            list(map(trace_of, self.tensors)),
            list(map(form_of, self.tensors)),
        )


def global_state() -> tuple[Any, ...]:
    """The settings of torch that change what a forward computes, and the hooks of all modules."""
    hooks = map(id, chain(_EVERYWHERE.values(), _BEFORE_EVERYWHERE.values()))
    return (torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled(), *hooks)


# what is looked at
def getter_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """What reads some entries of a dict at once."""
    getter = itemgetter(*names)
    return getter if len(names) > 1 else lambda space: (getter(space),)


def ids_of_mapping(value: Mapping[str, Any]) -> list[int]:
    """What changes with any entry."""
    return [*map(id, value.keys()), *map(id, value.values())]


def ids_of_function(value: types.FunctionType) -> tuple[int, ...]:
    """What changes when a function gets other code, defaults or attributes."""
    return id(value.__code__), id(value.__defaults__), id(value.__kwdefaults__), id(value.__dict__)


def id_of_content(cell: types.CellType) -> int:
    """What changes when a variable gets another value."""
    return id(content_of(cell))


def id_of_mro(kind: type) -> int:
    """What changes when a class gets other bases."""
    return id(mro_of(kind))


def id_of_target(reference: weakref.ref[Any]) -> int:
    """What changes when what is referred to is no more."""
    return id(target_of(reference))


def id_of_slot(place: tuple[Any, Any]) -> int:
    """What changes when a slot gets another value."""
    return id(slot_of(*place))


CHANGES: dict[type, Callable[[Any], Any]] = {
    types.MappingProxyType: lambda v: ids_of_mapping(copy_of_proxied(v)),
    OrderedDict: lambda v: [*map(id, OrderedDict.__iter__(v)), *map(id, dict.values(v))],
    list: lambda v: list(map(id, list.__iter__(v))),
    deque: lambda v: list(map(id, deque.__iter__(v))),
    set: lambda v: list(map(id, set.__iter__(v))),
    bytearray: bytearray.__repr__,
    numpy.ndarray: lambda v: (v.shape, v.dtype, numpy.ndarray.tobytes(v)),
}
"""What shows that one of these was changed, beside dicts."""


_stride = Tensor.stride
_dtype, _shape, _requires_grad = map(property_getter, ("dtype", "shape", "requires_grad"))
_EVERYWHERE, _BEFORE_EVERYWHERE = global_hooks()
