"""Puts back what the model's code writes to objects that a copy shares with the user's model.

A structural copy shares classes, Python modules and most functions with the model. So code that
appends to a list of a class, fills a mutable default, sets an attribute of a function or logs to a
module of the user writes to the originals. Their entries are noted before the run, and put back
after it. Entries are compared by identity, and no code of the user runs but ``__hash__`` and
``__eq__`` of keys. The values of shared tensors, such as those of classes, are copied before.
"""

from __future__ import annotations

import operator
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.contents import (
    NOTHING,
    base_of,
    content_of,
    dict_of,
    dict_of_class,
    mro_of,
    slot_of,
    slots_of,
)
from lrp_fx.capture.copier import MAX_BYTES, Hooks
from lrp_fx.capture.exclusive import alone
from lrp_fx.capture.origin import is_standard
from lrp_fx.capture.signature import OF_CLASSES, Walk, present
from lrp_fx.capture.structural_copy import copied_call
from lrp_fx.graph import global_hooks

_Read = Callable[[Any], list[Any]]
_Write = Callable[[Any, list[Any]], None]


@contextmanager
def restoring(model: nn.Module, arguments: Arguments, left_out: Hooks) -> Iterator[None]:
    """Put back afterwards what the code inside writes to objects that copies of a model share.

    Only one thread at a time is inside. What other threads write to the shared objects meanwhile is
    taken back too.

    Args:
        model: the user's model.
        arguments: its arguments.
        left_out: forward hooks that do not run.
    """
    with alone():
        own = set(map(id, arguments.tensors))

        def note(path: str | None, tensor: Tensor) -> Tensor:
            own.add(id(tensor))
            return tensor

        copies = copied_call(
            model, arguments, arguments.tensors, replace_tensor=note, left_out=left_out
        )
        shared = _Shared(own)
        shared.signature(
            (*copies, *chain.from_iterable(map(dict.values, map(dict, global_hooks()))))
        )
        noted, tensors = shared.noted, shared.tensors
        del copies, shared
        try:
            yield
        finally:
            for owner, read, write, before in noted:
                with suppress(Exception):  # another thread is changing it
                    now = read(owner)
                    if len(now) != len(before) or not all(map(operator.is_, now, before)):
                        write(owner, before)
            for tensor, values in tensors:
                with suppress(Exception):  # such as a meta tensor
                    if not torch.equal(tensor, values):
                        tensor.data.copy_(values)


class _Shared(Walk):
    """Visits everything that a copy refers to, and notes the entries of what can change.

    The objects of the copy itself are noted too, which does no harm: nothing else refers to them.

    Args:
        own: the ids of the tensors that a copy has for itself.
    """

    def __init__(self, own: set[int]) -> None:
        super().__init__({})
        self.own, self.bytes = own, MAX_BYTES
        self.noted: list[tuple[Any, _Read, _Write, list[Any]]] = []
        self.tensors: list[tuple[Tensor, Tensor]] = []

    def _note(self, owner: Any, read: _Read, write: _Write) -> None:
        self.noted.append((owner, read, write, read(owner)))

    def _visit_object(self, value: Any, mro: tuple[type, ...]) -> None:
        if str(dict_of_class(mro[0]).get("__module__")).startswith("lrp_fx."):
            return  # such as the table of all copies, behind ``id`` in the copy of a function
        base = base_of(mro)
        own = None if base is type else dict_of(value)
        if base in _CONTENTS:
            self._note(value, *_CONTENTS[base])
        if type(own) is dict and base is not types.ModuleType:
            self._note(own, *_CONTENTS[dict])
        if base not in _CONTENTS and slots_of(mro):
            self._note(value, _read_slots, _write_slots)
        super()._visit_object(value, mro)

    def _visit_tensor(self, tensor: Tensor) -> None:
        self._waiting += self._parts(dict_of(tensor).values())
        if id(tensor) not in self.own and tensor.nbytes <= self.bytes:
            self.bytes -= tensor.nbytes
            self.tensors.append((tensor, tensor.detach().clone()))

    def _visit_definitions(self, kind: type) -> None:
        if not is_standard(kind) and ("definitions", id(kind)) not in self._numbers:
            self._note(kind, _read_class, _write_class)
        super()._visit_definitions(kind)

    def _visit_globals(self, part: tuple[dict[str, Any], frozenset[str], bool]) -> None:
        space, names, is_installed = part
        if not is_installed:
            self._note((space, names), _read_globals, _write_globals)
        super()._visit_globals(part)


def _halves(parts: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The pairs of keys and values in the entries of a mapping: first all keys, then all values."""
    count = len(parts) // 2
    return zip(parts[:count], parts[count:], strict=True)


def _write_dict(value: dict[Any, Any], parts: list[Any]) -> None:
    base = OrderedDict if isinstance(value, OrderedDict) else dict
    base.clear(value)
    for key, item in _halves(parts):
        base.__setitem__(value, key, item)


def _write_deque(value: deque[Any], parts: list[Any]) -> None:
    deque.clear(value)
    deque.extend(value, parts)


def _write_set(value: set[Any], parts: list[Any]) -> None:
    set.clear(value)
    set.update(value, parts)


def _write_function(function: types.FunctionType, parts: list[Any]) -> None:
    function.__defaults__, function.__kwdefaults__ = parts


def _write_cell(cell: types.CellType, parts: list[Any]) -> None:
    if parts[0] is NOTHING:
        del cell.cell_contents
    else:
        cell.cell_contents = parts[0]


def _read_slots(value: Any) -> list[Any]:
    return [slot_of(descriptor, value) for descriptor in slots_of(mro_of(type(value)))]


def _write_slots(value: Any, parts: list[Any]) -> None:
    for descriptor, part in zip(slots_of(mro_of(type(value))), parts, strict=True):
        with suppress(AttributeError, TypeError):  # empty as before, or read-only
            descriptor.__delete__(value) if part is NOTHING else descriptor.__set__(value, part)


def _entries_of_class(kind: type) -> dict[str, Any]:
    return {name: v for name, v in dict_of_class(kind).items() if name not in OF_CLASSES}


def _read_class(kind: type) -> list[Any]:
    entries = _entries_of_class(kind)
    return [*entries.keys(), *entries.values()]


def _write_class(kind: type, parts: list[Any]) -> None:
    _put_back(
        _entries_of_class(kind),
        dict(_halves(parts)),
        lambda name, value: type.__setattr__(kind, name, value),
        lambda name: type.__delattr__(kind, name),
    )


def _read_globals(part: tuple[dict[str, Any], frozenset[str]]) -> list[Any]:
    space, names = part
    found = list(present(space, names))
    return [*found, *map(space.__getitem__, found)]


def _write_globals(part: tuple[dict[str, Any], frozenset[str]], parts: list[Any]) -> None:
    space, _ = part
    now = dict(_halves(_read_globals(part)))
    _put_back(now, dict(_halves(parts)), space.__setitem__, space.__delitem__)


def _put_back(
    now: Mapping[str, Any],
    before: Mapping[str, Any],
    give: Callable[[str, Any], None],
    remove: Callable[[str], None],
) -> None:
    """Give a namespace back the values that differ, and remove the names that are new."""
    for name in now.keys() - before.keys():
        remove(name)
    for name, value in before.items():
        if now.get(name, NOTHING) is not value:
            give(name, value)


_DICT: tuple[_Read, _Write] = (lambda v: [*dict.keys(v), *dict.values(v)], _write_dict)
_CONTENTS: dict[type, tuple[_Read, _Write]] = {
    dict: _DICT,
    defaultdict: _DICT,
    OrderedDict: (lambda v: [*OrderedDict.keys(v), *OrderedDict.values(v)], _write_dict),
    list: (lambda v: [*list.__iter__(v)], lambda v, parts: list.__setitem__(v, slice(None), parts)),
    deque: (lambda v: [*deque.__iter__(v)], _write_deque),
    set: (lambda v: [*set.__iter__(v)], _write_set),
    types.FunctionType: (lambda v: [v.__defaults__, v.__kwdefaults__], _write_function),
    types.CellType: (lambda v: [content_of(v)], _write_cell),
}
"""Mutable types written in C: how to read the entries of an object, and how to write them."""
