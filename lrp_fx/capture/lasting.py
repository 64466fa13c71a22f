"""Lasting signatures: what a reading depends on, by names and contents that outlive the process.

A :class:`~lrp_fx.capture.signature.Signature` names objects by their identity, which another process
does not know. A lasting one names code by its content, with the lines that a plan shows, other objects by
their name, and every package on the way by its version.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from lrp_fx._common import __version__
from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.contents import PLAIN, dict_of, mro_of
from lrp_fx.capture.members import named_tensors
from lrp_fx.capture.signature import Walk
from lrp_fx.capture.traces import form_of
from lrp_fx.capture.watch import global_state
from lrp_fx.graph import OpOverload, OpOverloadPacket, packet_of

MOST_BYTES = 64 * 2**20
"""A larger tensor that the model's code holds outside of its modules cannot be signed."""
_LIKE_HASHES = 2**53, 2**61
"""Where nearly all hashes of Python lie."""
_BY_REPR = frozenset(
    {
        *(torch.dtype, torch.layout, torch.memory_format, torch.device, numpy.dtype, re.Pattern),
        *(types.GenericAlias, types.UnionType, OpOverload, OpOverloadPacket),
    }
)
"""Types whose ``repr`` says all."""

_NAMED = (
    *(types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType),
    *(types.ClassMethodDescriptorType, types.MemberDescriptorType, types.GetSetDescriptorType),
    numpy.ufunc,
)
"""Types whose objects have a name that says which they are."""


def lasting_key(model: nn.Module, arguments: Arguments, way: str) -> str | None:
    """A text that is the same in every process in which a reading of the model would be the same.

    It depends on the model's code and configuration, the forms of its tensors, the arguments that are
    not tensors, and the versions of Python, torch, lrp_fx and all packages whose code is seen. It does
    not depend on the values of parameters and buffers, nor on the shapes of the arguments.

    Args:
        model: the user's model; it is only read.
        arguments: its arguments.
        way: the option ``capture``.

    Returns:
        The key; None if something on which the reading depends has no lasting name.
    """
    followed = {id(tensor): path for path, tensor in named_tensors(model).items()}
    places = {id(tensor): f"argument {place}" for place, tensor in enumerate(arguments.tensors)}
    parts = []
    for walk, values in (
        (_LastingWalk(followed), (model,)),
        (_LastingWalk(places), (arguments.constants, arguments.spec)),
    ):
        signature = walk.signature(values)
        if not signature.is_complete:
            return None
        parts += [[_without_hash(entry) for entry in signature.entries], walk.versions()]
    fixed = (way, sys.version, torch.__version__, __version__, _own_code())
    return _digest(repr((fixed, parts)).encode())


def _without_hash(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """An entry without the number, if it looks like a ``hash``: configurations keep such numbers.

    They are others in each process. No network computes with a number that a float cannot hold.
    """
    is_hash = entry[0] == "int" and _LIKE_HASHES[0] <= abs(entry[1]) < _LIKE_HASHES[1]
    return ("int", "a hash") if is_hash else entry


class _LastingWalk(Walk):
    """A walk whose entries hold names and contents in place of identities."""

    def __init__(self, followed: Mapping[int, str]) -> None:
        super().__init__(followed)
        self._packages: set[str] = set()

    def versions(self) -> list[tuple[str, str]]:
        """The packages whose code was seen, with their versions."""
        found = ((name, _version_of(name)) for name in sorted(self._packages))
        return [(name, version) for name, version in found if version is not None]

    def _settings(self) -> tuple[Any, ...]:
        return global_state()[:2]  # the rest are global hooks, with which no reading is kept

    def _key(self, value: Any) -> Any:
        kind = type(value)
        if kind is types.CodeType:
            return _digest_of_code(value)
        if kind is types.FunctionType:
            self._note(value.__module__)
            return _digest_of_code(value.__code__)
        if type in mro_of(kind):
            module, name = (
                type.__getattribute__(value, each) for each in ("__module__", "__qualname__")
            )
            self._note(module)
            return f"{module}.{name}"
        if kind is types.ModuleType:
            self._note(value.__name__)
            return value.__name__
        if not _BY_REPR.isdisjoint(mro_of(kind)):
            return repr(value)
        own = getattr(value, "__name__", None) if kind in _NAMED else None
        return f"{kind.__module__}.{kind.__qualname__}", own

    def _members(self, own: Mapping[str, Any]) -> Iterable[Any]:
        return [
            (name, repr(member) if type(member) in PLAIN else self._key(member))
            for name, member in own.items()
        ]

    def _registered(self) -> Any:
        return None

    def _form(self, tensor: Tensor) -> Any:
        return (*form_of(tensor)[:-1], self._key(type(tensor)))

    def _values(self, tensor: Tensor) -> tuple[Any, ...]:
        if tensor.layout != torch.strided or tensor.nbytes > MOST_BYTES:
            self._is_complete = False
            return ()
        return (_digest(bytes_of(tensor)),)

    def _note(self, module: Any) -> None:
        if isinstance(module, str):
            self._packages.add(module.partition(".")[0])


def bytes_of(tensor: Tensor) -> bytes:
    """The values of a dense tensor, row by row."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def _version_of(package: str) -> str | None:
    version = (dict_of(sys.modules.get(package)) or {}).get("__version__")
    return str(version) if isinstance(version, str) else None


@functools.lru_cache(maxsize=8192)
def _digest_of_code(code: types.CodeType) -> str:
    """A digest of all that code does, and of its place: plans and errors name its lines."""
    place = code.co_filename if not code.co_filename.startswith("<") else ""
    what = (
        *(code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        *(code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        *(code.co_exceptiontable, code.co_linetable, code.co_firstlineno, code.co_qualname),
        *(place, _constants(code.co_consts)),
    )
    return _digest(repr(what).encode())


def _constants(value: Any) -> Any:
    """The constants of code, in an order that does not depend on the hashes of the process."""
    if isinstance(value, types.CodeType):
        return _digest_of_code(value)
    if isinstance(value, tuple):
        return tuple(map(_constants, value))
    if isinstance(value, frozenset):
        return "set", sorted(repr(_constants(each)) for each in value)
    return type(value).__name__, repr(value)


@functools.cache
def _own_code() -> str:
    """A digest of the files that capture, so that who changes them gets no older capture."""
    folders = (Path(__file__).parent, Path(packet_of.__code__.co_filename).parent)
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    return _digest(b"".join(file.read_bytes() for file in files))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
