"""Arrays whose first dimension counts the samples: in memory, ``.npy``, HDF5 and Zarr."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lrp_fx._common import digest, needed
from lrp_fx.dataset.sample import Sample, as_inputs, as_label, spread, stamp_of
from lrp_fx.errors import InputError, OptionError

CODECS = frozenset(
    (
        *(
            "bytes",
            "transpose",
            "sharding_indexed",
            "crc32c",
            "blosc",
            "zstd",
            "gzip",
            "zlib",
            "lz4",
        ),
        *("bz2", "lzma", "shuffle", "delta", "bitround", "fixedscaleoffset"),
    )
)
"""The codecs of Zarr that are decoded: none of them runs code of the file."""
PROBED = 64
"""The number of samples by which an array is compared with another one."""
DATA, LABEL = ("data", "inputs", "images", "x", "relevance"), ("label", "labels", "y")


class ArraySource:
    """An array (N, …). Each process opens the file itself.

    Args:
        open: returns the array and the labels (N,), or None for them.
        file: the file or folder it is in; None for one in memory.
    """

    names: tuple[str, ...] = ()

    def __init__(self, open: Callable[[], tuple[Any, Any]], file: Path | None = None) -> None:
        self._open, self._file = open, file
        self._opened: tuple[int, Any, Any] | None = None
        array, labels = self._arrays()
        shape = tuple(array.shape)
        if len(shape) < 2 or shape[0] < 1:
            raise InputError(
                f"the data must have shape (N, …) with at least one sample, not {shape}"
            )
        if array.is_complex() if isinstance(array, Tensor) else array.dtype.kind not in "fiub":
            raise InputError(f"the data must hold real numbers, not {array.dtype}")
        if isinstance(array, Tensor) or np.ma.isMaskedArray(array):
            as_inputs(array)
        if labels is not None and tuple(labels.shape) != shape[:1]:
            raise InputError(f"{shape[0]} labels are needed, got shape {tuple(labels.shape)}")

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy in another process, which opens the file itself."""
        return {**vars(self), "_opened": None}

    def _arrays(self) -> tuple[Any, Any]:
        process = os.getpid()
        if self._opened is None or self._opened[0] != process:  # files do not survive a fork
            self._opened = (process, *self._open())
        return self._opened[1:]

    def __len__(self) -> int:
        return int(self._arrays()[0].shape[0])

    def name(self, index: int) -> str:
        """The number of the sample."""
        return str(index)

    def content(self) -> object:
        """Shape, dtype and samples: all that are in memory, else some from the first to the last."""
        array, labels = self._arrays()
        some: list[object]
        if isinstance(array, Tensor) or type(array) is np.ndarray:
            starts = range(0, len(self), PROBED)
            some = [digest(as_inputs(array[start : start + PROBED])) for start in starts]
        else:
            some = [as_inputs(array[place]) for place in spread(len(self), PROBED)]
        marks = None if labels is None else np.asarray(labels[:])
        return tuple(array.shape), str(array.dtype), some, marks

    def stamp(self, samples: range) -> object:
        """Sizes and times of the files of the array, when it was first asked; None for one in memory."""
        return self._stamp

    @cached_property
    def _stamp(self) -> object:
        if self._file is None:
            return None
        inner = sorted(self._file.rglob("*")) if self._file.is_dir() else ()
        return [stamp_of(file) for file in (self._file, *inner)]

    def read(self, index: int) -> Sample:
        """The sample of a row."""
        array, labels = self._arrays()
        label = None if labels is None else as_label(labels[index].item())
        return Sample(self.name(index), as_inputs(array[index]), label)


def in_memory(array: Any) -> ArraySource:
    """An existing array."""
    return ArraySource(_Given(array))


def npy(file: Path) -> ArraySource:
    """An array in a ``.npy`` file, which is read from the disk as it is needed."""
    return ArraySource(_Npy(file), file)


def hdf5(file: Path, key: str | None) -> ArraySource:
    """A dataset in an HDF5 file.

    Args:
        file: the file.
        key: the path in it; None for the only one, or one of the usual names.
    """
    return ArraySource(_Hdf5(file, key), file)


def zarr(folder: Path, key: str | None) -> ArraySource:
    """An array in a Zarr store.

    Args:
        folder: the store.
        key: the path in it; None for the only one, or one of the usual names.
    """
    return ArraySource(_Zarr(folder, key), folder)


class _Given:
    def __init__(self, array: Any) -> None:
        self.array = array

    def __call__(self) -> tuple[Any, Any]:
        return self.array, None


class _Npy:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> tuple[Any, Any]:
        try:
            return np.load(self.file, mmap_mode="r", allow_pickle=False), None
        except Exception as error:  # whatever the parsers of damaged headers raise
            raise InputError(f"'{self.file}' holds no plain array of numbers") from error


class _Hdf5:
    def __init__(self, file: Path, key: str | None) -> None:
        self.file, self.key = file, key

    def __call__(self) -> tuple[Any, Any]:
        with needed("HDF5 files need"):
            import h5py
        with ExitStack() as stack:  # closes the file if it is of no use
            try:
                opened = stack.enter_context(h5py.File(self.file, "r"))
                plain = {name: opened[name] for name in _own(h5py, opened)}
                arrays = {k: _Rows(v) for k, v in plain.items() if isinstance(v, h5py.Dataset)}
            except Exception as error:  # whatever the parsers of damaged files raise
                raise InputError(f"'{self.file}' is not an HDF5 file, or is damaged") from error
            found = _chosen(self.file, arrays, self.key)
            labels = _labels(arrays, found)
            stack.pop_all()
        return found, labels


def _own(h5py: Any, group: Any, under: str = "") -> Iterator[str]:
    """The paths of the datasets that a file itself holds: links could lead to any other file."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        kind = group.get(name, getclass=True)
        if kind is h5py.Group and under.count("/") < 8:  # a group may hold itself
            yield from _own(h5py, group[name], f"{under}{name}/")
        elif kind is h5py.Dataset and not group[name].is_virtual and not group[name].external:
            yield f"{under}{name}"


class _Zarr:
    def __init__(self, folder: Path, key: str | None) -> None:
        self.folder, self.key = folder, key

    def __call__(self) -> tuple[Any, Any]:
        with needed("Zarr stores need"):
            import zarr
        try:
            opened = zarr.open(str(self.folder), mode="r")
            plain = {"": opened} if isinstance(opened, zarr.Array) else dict(opened.arrays())
            for array in plain.values():
                _check_codecs(self.folder, array.metadata.to_dict())
            arrays = {name: _Rows(array) for name, array in plain.items()}
        except InputError:
            raise
        except Exception as error:  # whatever the parsers of damaged metadata raise
            raise InputError(f"'{self.folder}' is not a Zarr store, or is damaged") from error
        found = _chosen(self.folder, arrays, self.key)
        return found, _labels(arrays, found)


class _Rows:
    """An array of a file whose broken chunks are errors of this library."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, index: int | slice) -> Any:
        try:
            return np.asarray(self.array[index])
        except Exception as error:  # whatever the decoders of damaged chunks raise
            raise InputError("its chunk of the file cannot be read, or is damaged") from error


def _check_codecs(folder: Path, metadata: object) -> None:
    """Raise an ``InputError`` for an array whose decoding could run code, such as pickled objects."""
    for codec in _codecs(metadata):
        if codec.removeprefix("numcodecs.") not in CODECS:
            raise InputError(f"'{folder}' is encoded by {codec!r}, which is not read")


def _codecs(value: object) -> Iterator[str]:
    """The names of all codecs in the metadata of an array, also of those inside codecs."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key in ("codecs", "index_codecs", "filters", "compressor"):
                yield from _names(each)
            yield from _codecs(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _codecs(each)


def _names(value: object) -> Iterator[str]:
    many = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    for each in many:
        found = (
            each
            if isinstance(each, Mapping)
            else each.to_dict()
            if hasattr(each, "to_dict")
            else {}
        )
        if not found and hasattr(each, "get_config"):
            found = each.get_config()
        yield str(found.get("name", found.get("id", type(each).__name__)))


def _chosen(place: Path, arrays: Mapping[str, Any], key: str | None) -> Any:
    """The array that is meant."""
    if key is not None:
        if key not in arrays:
            raise OptionError(f"'{place}' has no array {key!r}, but {', '.join(arrays) or 'none'}")
        return arrays[key]
    usual = [arrays[name] for name in DATA if name in arrays]
    if usual or len(arrays) == 1:
        return usual[0] if usual else next(iter(arrays.values()))
    raise OptionError(f"name one of the arrays of '{place}' by key=: {', '.join(arrays) or 'none'}")


def _labels(arrays: Mapping[str, Any], data: Any) -> Any:
    """The labels beside the data, in an array of their own."""
    found: Sequence[Any] = [arrays[name] for name in LABEL if name in arrays]
    fits = [each for each in found if each is not data and each.shape == data.shape[:1]]
    return np.asarray(fits[0][:]) if fits and np.dtype(fits[0].dtype).kind in "iu" else None
