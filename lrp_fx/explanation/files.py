"""The files of a saved explanation: arrays, names, locks, and writing that is complete or not there."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx._common import appearing, writing
from lrp_fx.errors import InputError, OptionError

FORMAT = 1
"""The version of the folder's format."""
MANIFEST, RELEVANCE, INPUTS, PICTURE = "manifest.json", "relevance.npy", "inputs.npy", "picture.npy"
HEATMAP, OVERLAY = "heatmap.png", "overlay.png"
STORABLE = ("f2", "f4", "f8", "b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")
"""The arrays that are tensors too, of any byte order."""
_WRITERS = Lock()
"""Only one thread at a time puts files in their places."""


def path_of(folder: str | os.PathLike[str]) -> Path:
    """The folder as a path."""
    try:
        return Path(os.fsdecode(folder))
    except TypeError:
        raise OptionError(f"folder must be a path, got {folder!r}") from None


@contextmanager
def locked(place: Path, *, write: bool) -> Iterator[None]:
    """Be the only writer of a folder, or one of its readers while there is no writer.

    The lock is the operating system's on the folder itself: it leaves no file, and ends with the
    process. Where there is none, only the threads of this process wait for each other.
    """
    if sys.platform == "win32":
        with _WRITERS:
            yield
        return
    import fcntl

    folder = os.open(place, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(folder, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def put(place: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files, which appear together when all are whole, the manifest last."""
    with writing(place, InputError):
        place.mkdir(parents=True, exist_ok=True)
        with locked(place, write=True):
            with appearing(place / MANIFEST, InputError) as manifest:
                for name, content in contents.items():
                    manifest.with_name(name).write_bytes(content)
            for name in {PICTURE, OVERLAY} - contents.keys():  # of an earlier explanation
                (place / name).unlink(missing_ok=True)


def npy(values: Tensor | NDArray[np.uint8]) -> bytes:
    """The file of an array."""
    file = io.BytesIO()
    np.save(file, _stored(values) if isinstance(values, Tensor) else values, allow_pickle=False)
    return file.getvalue()


def _stored(tensor: Tensor) -> NDArray[np.generic]:
    """The tensor as an array that .npy can hold: bfloat16 as float32, which has all its values."""
    plain = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: NDArray[np.generic] = plain.numpy()
    return array


def native(array: NDArray[Any]) -> NDArray[Any]:
    """A copy in the order of bytes and entries that torch takes."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
