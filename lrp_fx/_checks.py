"""Checks of single values that users pass; each ends in an error that names the value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from types import NoneType
from typing import Any, TypeGuard

import torch
from torch import Tensor

from lrp_fx.errors import OptionError


def is_int(value: object) -> TypeGuard[int]:
    """Whether the value is a whole number, also one of NumPy's; booleans are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_number(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value is a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise OptionError(f"{name} must be a number, got {value!r}")


def check_count(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value is an int of at least one."""
    if not is_int(value) or int(value) < 1:
        raise OptionError(f"{name} must be an int of at least 1, got {value!r}")


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    # NaN and infinity go into any sum, which takes a single pass; a sum of finite values may overflow
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def check_flag(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value is True or False."""
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, known: Sequence[object]) -> None:
    """Raise an ``OptionError`` unless the value is one of those that are known."""
    # an array compares entry by entry
    if not isinstance(value, (str, torch.dtype, NoneType)) or value not in known:
        words = ", ".join(repr(each) for each in known)
        raise OptionError(f"{name} must be one of {words}, got {value!r}")


def check_callable(name: str, value: object) -> None:
    """Raise an ``OptionError`` unless the value can be called."""
    if not callable(value):
        raise OptionError(f"{name} must be callable, got {value!r}")


def entries(value: Any) -> Iterator[Any] | None:
    """The entries of a value one after the other; None where it has none, as a number or a 0-d tensor."""
    try:
        found: Iterator[Any] = iter(value)
    except TypeError:
        return None
    return found
