"""Samples of a data set, and what every source of them can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lrp_fx._common import is_int
from lrp_fx.errors import InputError


@dataclass(frozen=True)
class Sample:
    """One sample, or why it cannot be read.

    Args:
        id: its name in the data set.
        inputs: the model's input without the batch dimension; None if it cannot be read.
        label: its class, if the data set says one.
        reason: why it cannot be read.
    """

    id: str
    inputs: Tensor | None
    label: int | None = None
    reason: str | None = None


class Source(Protocol):
    """A data set whose samples are read by their number, in any order and by any process."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; empty if the data set has none."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample:
        """A sample.

        Raises:
            InputError: if it is broken; other errors of the user's code count as broken too.
        """

    def name(self, index: int) -> str:
        """The id of a sample; works for broken ones too."""

    def content(self) -> object:
        """The content by which this data set differs from another one, to be hashed."""

    def stamp(self, samples: range) -> object:
        """Sizes and times of the files with these samples, to be hashed; None without files."""


@runtime_checkable
class Stream(Protocol):
    """A data set that can only be read from its beginning, always in the same order."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; empty if the data set has none."""

    def samples(self) -> Iterator[Sample]:
        """All samples in order; broken ones carry a reason."""

    def content(self) -> object:
        """The content by which this data set differs from another one, to be hashed."""


def spread(count: int, most: int) -> list[int]:
    """At most ``limit`` places, evenly spread from the first to the last."""
    return sorted({n * (count - 1) // max(most - 1, 1) for n in range(min(most, count))})


def stamp_of(file: Path) -> tuple[int, int] | None:
    """The size of a file and the time of its last change; None if there is no file."""
    try:
        found = file.stat()
    except (OSError, ValueError):  # also names with zero bytes
        return None
    return found.st_size, found.st_mtime_ns


def as_label(value: object) -> int | None:
    """A class index of a data set; None if there is none.

    Raises:
        InputError: for anything but a non-negative integer.
    """
    if value is None:
        return None
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_floating_point():
        value = value.item()
    if not is_int(value) or not 0 <= int(value) < 2**31:
        raise InputError(f"a label must be the index of a class, got {str(value)[:40]!r}")
    return int(value)


def check_labels(labels: Sequence[int] | None, count: int | None) -> tuple[int, ...] | None:
    """The labels that a user passed beside the data.

    Raises:
        InputError: unless there is one class index for each sample.
    """
    if labels is None:
        return None
    if count is None:
        raise InputError("labels= need a data set with a length; let a stream yield (input, label)")
    listed = labels.tolist() if isinstance(labels, Tensor) else labels
    if isinstance(listed, (str, bytes)) or not hasattr(listed, "__iter__"):
        raise InputError(f"labels must be a list of class indices, got {type(labels).__name__}")
    found = tuple(as_label(each) for each in listed)
    if len(found) != count or None in found:
        raise InputError(
            f"labels must be {count} class indices, one for each sample, got {len(found)}"
        )
    return tuple(each for each in found if each is not None)


def as_inputs(value: object) -> Tensor:
    """A tensor or an array of one sample as the model's input.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise InputError(
                "a sample must be a dense tensor with values: call .to_dense() or the like"
            )
        if value.is_floating_point() and value.dtype.itemsize == 1:
            raise InputError(f"torch cannot compute with {value.dtype}: convert to float32")
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InputError("a sample must have no masked entries: fill them by .filled(value)")
    if hasattr(value, "dtype") and hasattr(value, "__array__"):
        array = value.__array__()
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise InputError(f"a sample must hold real numbers, not {array.dtype}")
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))
    hint = "; of Hugging Face: data.with_format('torch')" if isinstance(value, list) else ""
    raise InputError(
        f"a sample must be a tensor, an array or an image, not {type(value).__name__}{hint}"
    )
