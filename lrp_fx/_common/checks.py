"""Checks of single values that users pass; the errors name the argument and its value."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, TypeGuard

import torch
from torch import Tensor

from lrp_fx.errors import OptionError

_PLAIN: tuple[type, ...] = (bool, int, float)


def is_int(value: object) -> TypeGuard[int]:
    """Whether the value is an integer. NumPy integers count, booleans do not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_number(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value is a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise OptionError(f"{name} must be a number, got {value!r}")
    try:
        float(value)
    except OverflowError:
        raise OptionError(f"{name} is too large for a floating-point number: {value!r}") from None


def make_plain(owner: object) -> None:
    """Replace other kinds of real numbers in the fields of a frozen dataclass by Python's own.

    NumPy's numbers and fractions are no literals of generated code, and tensors refuse fractions.

    Args:
        owner: the instance, which is being made.
    """
    for name, value in vars(owner).items():
        if isinstance(value, Real) and type(value) not in _PLAIN:
            with suppress(OverflowError):  # the check of the field names it
                object.__setattr__(owner, name, int(value) if is_int(value) else float(value))


def check_nonnegative(name: str, value: Any) -> None:
    """Raise an ``OptionError`` unless the value is a finite number of at least zero."""
    check_number(name, value)
    if not 0 <= value < float("inf"):
        raise OptionError(f"{name} must be a finite number of at least 0, got {value!r}")


def check_count(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value is an int of at least one."""
    if not is_int(value) or int(value) < 1:
        raise OptionError(f"{name} must be an int of at least 1, got {value!r}")


def check_seed(seed: object) -> None:
    """Raise an ``OptionError`` unless the value is an int that a random generator takes."""
    if not is_int(seed) or not -(2**63) <= seed < 2**63:
        raise OptionError(f"seed must be an int of at most 63 bits, got {seed!r}")


def all_finite(*tensors: Tensor) -> bool:
    """Whether the tensors contain neither NaN nor infinity. If so, this waits for a device once."""
    if len({tensor.device for tensor in tensors}) > 1:
        return all(map(all_finite, tensors))
    # a finite sum proves it in a single pass; an infinite sum may just be an overflow
    total: Any = sum(tensor.sum() for tensor in tensors)
    if not isinstance(total, Tensor) or bool(torch.isfinite(total)):
        return True
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def check_flag(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value is True or False."""
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, known: Sequence[object]) -> None:
    """Raise an ``OptionError`` unless the value is one of those that are known."""
    # the type is checked first, because arrays compare entry by entry
    if not isinstance(value, (str, torch.dtype, NoneType)) or value not in known:
        words = ", ".join(repr(each) for each in known)
        raise OptionError(f"{name} must be one of {words}, got {value!r}")


def check_callable(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value is callable."""
    if not callable(value):
        raise OptionError(f"{name} must be callable, got {value!r}")


def check_made(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value is a callable object, not a class still to be made."""
    check_callable(name, value)
    if isinstance(value, type):
        raise OptionError(f"{name} must be an object, got the class {value.__name__}: call it")


def check_file(name: str, path: str | os.PathLike[str]) -> None:
    """Raise an ``OptionError`` unless a file of this name can be in its folder."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise OptionError(f"{name} must be a file, got {path!r}")
    place = Path(os.fsdecode(path))
    if not place.parent.is_dir():
        raise OptionError(f"{name} must lie in a folder that exists, got '{place}'")
    if place.is_dir():
        raise OptionError(f"{name} must be a file, '{place}' is a folder")


def entries(value: Any) -> Iterator[Any] | None:
    """An iterator over the value; None for a value without entries, such as a number or 0-d tensor."""
    try:
        found: Iterator[Any] = iter(value)
    except TypeError:
        return None
    return found
