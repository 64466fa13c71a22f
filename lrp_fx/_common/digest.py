"""Digests: one short text for all that decides a result, to tell two computations apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType

import torch
from torch import Tensor, nn

from lrp_fx.errors import OptionError

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
"""What its ``repr`` states in full."""


def digest(*values: object) -> str:
    """A digest of the content of values.

    Tensors and arrays count by their entries, dataclasses by all their fields but those with
    ``compare=False``, functions by their code and the values that they hold, other objects by their
    attributes. What a function finds in its module does not count.

    Raises:
        OptionError: for an object that says nothing of its content.
    """
    found = hashlib.sha256()
    for part in _content(values, set()):
        found.update(part + b"\0")
    return found.hexdigest()[:16]


def digest_of_metric(metric: object) -> str:
    """A digest of a metric and its settings.

    Raises:
        OptionError: if the metric is neither a dataclass nor a function, and its ``repr`` is that of any
            object of its class.
    """
    if is_dataclass(metric) or isinstance(metric, (FunctionType, partial)):
        return digest(metric)
    if " at 0x" in repr(metric):
        raise OptionError(
            f"storage= needs a metric that states its settings, and {metric!r} does not: make it a "
            "dataclass, or give it a __repr__ with all settings"
        )
    return digest(_of_class(type(metric)), repr(metric))


def code_of(function: object) -> object:
    """The code of a function, and the numbers and texts that it holds, to be hashed."""
    if isinstance(function, MethodType):
        return code_of(function.__func__), code_of(function.__self__)
    if isinstance(function, partial):
        plain = [each for each in (*function.args, *function.keywords.items()) if _is_plain(each)]
        return code_of(function.func), plain
    if not isinstance(function, FunctionType):
        state = getattr(function, "__dict__", {})
        return _of_class(type(function)), {k: v for k, v in state.items() if _is_plain(v)}
    held = [_held(cell) for cell in function.__closure__ or ()]
    values = [*held, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    return function.__code__, [each for each in values if _is_plain(each)]


def _content(value: object, seen: set[int]) -> Iterator[bytes]:
    """The content of a value, in parts."""
    if isinstance(value, PLAIN) and not isinstance(value, Enum):
        yield repr(value).encode()
        return
    yield type(value).__qualname__.encode()
    if id(value) in seen:  # it holds itself
        return
    seen = seen | {id(value)}
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        flat = value.detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _content(key, seen)
            yield from _content(item, seen)
    elif isinstance(value, Set):
        yield from sorted(b" ".join(_content(item, seen)) for item in value)
    elif isinstance(value, (tuple, list)):
        yield str(len(value)).encode()
        for item in value:
            yield from _content(item, seen)
    else:
        for part in _parts(value):
            yield from _content(part, seen)


def _parts(value: object) -> tuple[object, ...]:
    """What an object consists of."""
    if isinstance(value, type):
        return (f"{value.__module__}.{value.__qualname__}",)
    if isinstance(value, Enum):
        return (str(value),)
    if isinstance(value, nn.Module):
        state = {**dict(value.named_parameters()), **dict(value.named_buffers())}
        plain = [
            {
                name: each
                for name, each in vars(module).items()
                if name != "training" and _is_plain(each)
            }
            for module in value.modules()
        ]
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
        return text, [_of_class(type(module)) for module in value.modules()], state, plain
    if isinstance(value, ModuleType):
        return (value.__name__,)
    if is_dataclass(value) and not isinstance(value, type):
        counted = {each.name: getattr(value, each.name) for each in fields(value) if each.compare}
        return (_of_class(type(value)), counted)
    if isinstance(value, CodeType):
        return value.co_code, value.co_consts, value.co_names
    if isinstance(value, FunctionType):
        held = [_held(cell) for cell in value.__closure__ or ()]
        defaults = (value.__defaults__, value.__kwdefaults__)
        return value.__qualname__, value.__code__, held, defaults, vars(value)
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    if isinstance(value, BuiltinFunctionType):
        return (value.__module__, value.__qualname__)
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if hasattr(value, "__array__"):  # of NumPy
        array = value.__array__()
        content = array.tolist() if array.dtype.hasobject else array.tobytes()
        return str(array.dtype), array.shape, content
    if hasattr(value, "__dict__"):
        return _of_class(type(value)), dict(vars(value))
    if " at 0x" in repr(value):
        raise OptionError(
            f"what decides a result must say what it holds, and {value!r} does not: use dataclasses, "
            "tensors, numbers, texts or functions"
        )
    return (repr(value),)


def _is_plain(value: object) -> bool:
    items = value if isinstance(value, (tuple, list)) else (value,)
    return all(isinstance(item, PLAIN) for item in items)


def _held(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def _of_class(kind: type) -> tuple[object, ...]:
    """The name of a class, and the code of its methods; that of this package has a version."""
    code = [
        (name, member.__code__)
        for base in kind.__mro__
        if base.__module__.partition(".")[0] not in ("builtins", "lrp_fx", "torch")
        for name, member in vars(base).items()
        if isinstance(member, FunctionType)
    ]
    return (f"{kind.__module__}.{kind.__qualname__}", code)
