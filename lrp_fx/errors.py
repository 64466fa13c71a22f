"""Every error that lrp_fx raises on purpose. All derive from :class:`LRPError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = [
    "CaptureError",
    "CompositeError",
    "InputError",
    "LRPError",
    "NonFiniteError",
    "OptionError",
    "RunError",
    "TargetError",
    "UnexpectedError",
    "UnsupportedOperationError",
]

NO_MEMORY = (MemoryError, torch.OutOfMemoryError)
"""Errors that mean a lack of memory. They are not the user's mistake, so nothing wraps them."""
_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def lacks_memory(error: BaseException) -> bool:
    """Whether an error means a lack of memory, by its type or by the words of torch's message."""
    return isinstance(error, NO_MEMORY) or any(words in str(error) for words in _WORDS)


LONGEST = 200
"""The largest number of characters of a value that a message shows."""


def shortened(text: str, longest: int = LONGEST) -> str:
    """The beginning of a text that may be long."""
    return text if len(text) <= longest else f"{text[:longest]} …"


def in_words(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {shortened(str(error).strip().partition(chr(10))[0])}"


def name_of_function(function: object) -> str:
    """The name of a function of the user."""
    return str(getattr(function, "__qualname__", repr(function)))


@contextmanager
def blamed(function: str) -> Iterator[None]:
    """Turn every failure inside into an ``InputError`` that names a function of the user.

    Errors of this library and a lack of memory pass.

    Args:
        function: its role and its name.
    """
    try:
        yield
    except LRPError:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        raise InputError(f"{function} failed with {in_words(error)}") from error


class LRPError(Exception):
    """Base class of every error that the library raises on purpose."""


class InputError(LRPError, ValueError):
    """The inputs cannot be explained: their type, shape or values."""


class OptionError(LRPError, ValueError):
    """An option has an invalid value."""


class TargetError(LRPError, AssertionError, IndexError):
    """The target does not fit the output.

    For this mistake Captum raises sometimes an ``AssertionError`` and sometimes an ``IndexError``.
    This error is both, so code that catches either of them keeps working.
    """


class CompositeError(LRPError, ValueError):
    """A composite does not fit the model.

    For example, its name is unknown, a matcher matches no layer, or a rule cannot be used on an
    operation.
    """


class CaptureError(LRPError, RuntimeError):
    """The model could not be captured as a graph that computes the same values as the model."""


class UnsupportedOperationError(CaptureError):
    """The graph contains an operation through which no relevance can be propagated."""


class RunError(LRPError, RuntimeError):
    """A file cannot be written, or a run over a data set cannot start or continue.

    The place on disk is locked, full or unreadable, or holds results of another run. What was
    committed stays, and the run can be resumed.
    """


class UnexpectedError(LRPError, RuntimeError):
    """Something failed that should not have failed; the original error is the ``__cause__``."""


class NonFiniteError(LRPError, ArithmeticError):
    """The relevance contains NaN or infinity; the message names the node where it first appeared."""
