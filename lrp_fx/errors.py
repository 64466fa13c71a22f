"""Every error that lrp_fx raises on purpose. All derive from :class:`LRPError`."""

from __future__ import annotations

import torch

__all__ = [
    "CaptureError",
    "CompositeError",
    "InputError",
    "LRPError",
    "NonFiniteError",
    "OptionError",
    "TargetError",
    "UnexpectedError",
    "UnsupportedOperationError",
]

NO_MEMORY = (MemoryError, torch.OutOfMemoryError)
"""What a lack of memory is: nobody's mistake, so that it passes as it is."""
_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def lacks_memory(error: BaseException) -> bool:
    """Whether an error is a lack of memory; torch says so in words too."""
    return isinstance(error, NO_MEMORY) or any(words in str(error) for words in _WORDS)


class LRPError(Exception):
    """Base class of every error that the library raises on purpose."""


class InputError(LRPError, ValueError):
    """The inputs cannot be explained: their type, shape or values."""


class OptionError(LRPError, ValueError):
    """An option has a value that it cannot have."""


class TargetError(LRPError, AssertionError, IndexError):
    """The target does not fit the output.

    Captum raises now an ``AssertionError``, now an ``IndexError`` for the same mistake; code written
    against either one catches this.
    """


class CompositeError(LRPError, ValueError):
    """A composite does not fit the model: an unknown name, a matcher without a match, a wrong rule."""


class CaptureError(LRPError, RuntimeError):
    """The model could not be read as a graph that computes what the model computes."""


class UnsupportedOperationError(CaptureError):
    """The graph holds operations through which nobody has described relevance."""


class UnexpectedError(LRPError, RuntimeError):
    """Something failed that should not have: what failed is its ``__cause__``."""


class NonFiniteError(LRPError, ArithmeticError):
    """A NaN or an infinity in the relevance, with the node in which it first appeared."""
