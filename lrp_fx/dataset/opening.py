"""From what the user calls data to a source of samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset

from lrp_fx._common import check_callable
from lrp_fx.dataset import arrays
from lrp_fx.dataset.images import Preprocess, image_folder
from lrp_fx.dataset.manifest import ENDINGS, manifest
from lrp_fx.dataset.objects import Items, IterableStream, MapSource, check_columns
from lrp_fx.dataset.sample import Sample, Source, Stream, check_labels
from lrp_fx.dataset.webdataset import Shards, expanded
from lrp_fx.errors import InputError

KINDS = (
    "a folder of images, a manifest (.csv, .tsv, .parquet), WebDataset shards (.tar), an array (.npy, "
    ".h5, .zarr), a tensor, or a data set of torch or Hugging Face"
)


@dataclass(frozen=True)
class Labelled:
    """A source with labels that were passed beside it.

    Args:
        source: the samples.
        labels: one for each.
    """

    source: Source
    labels: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; empty if the data set has none."""
        return self.source.names

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """The id of a sample."""
        return self.source.name(index)

    def content(self) -> object:
        """That of the source, and the labels."""
        return self.source.content(), self.labels

    def stamp(self, samples: range) -> object:
        """Sizes and times of the files with these samples."""
        return self.source.stamp(samples)

    def read(self, index: int) -> Sample:
        """The sample with its label."""
        found = self.source.read(index)
        return Sample(found.id, found.inputs, self.labels[index])


def open_data(
    data: object,
    *,
    preprocess: Preprocess | None = None,
    labels: Sequence[int] | None = None,
    key: str | None = None,
) -> Source | Stream:
    """A source of the samples of a data set.

    Args:
        data: a path, an array, a tensor, or a data set object.
        preprocess: makes the model's input of an image.
        labels: the classes, if the data set does not say them.
        key: the array of an HDF5 file or Zarr store, or the column of the inputs.

    Raises:
        InputError: if it is none of these, is empty, or cannot be read.
        OptionError: for an argument of the wrong type.
    """
    if preprocess is not None:
        check_callable("preprocess", preprocess)
    check_columns(key)
    source = _opened(data, preprocess, key)
    given = check_labels(labels, None if isinstance(source, Stream) else len(source))
    return source if given is None or isinstance(source, Stream) else Labelled(source, given)


def _opened(data: Any, preprocess: Preprocess | None, key: str | None) -> Source | Stream:
    if isinstance(data, (str, os.PathLike)):
        return _of_path(os.fsdecode(data), preprocess, key)
    if isinstance(data, (Tensor, np.ndarray)) or _is_stored_array(data):
        return arrays.in_memory(data)
    if isinstance(data, (list, tuple)) and data and all(_is_tar(each) for each in data):
        return Shards([Path(os.fsdecode(each)).absolute() for each in data], preprocess)
    items = Items(preprocess, key)
    if isinstance(data, IterableDataset) and not hasattr(type(data), "__len__"):
        return IterableStream(data, items)
    if (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, (bytes, dict))
    ):
        return MapSource(data, items)
    if isinstance(data, IterableDataset) or type(data).__name__ == "IterableDataset":
        return IterableStream(data, items)
    part = next(iter(data), None) if isinstance(data, dict) else None
    hint = "" if part is None else f": pass one of its parts, such as data[{part!r}]"
    raise InputError(f"data must be {KINDS}, got {type(data).__name__}{hint}")


def _of_path(text: str, preprocess: Preprocess | None, key: str | None) -> Source:
    try:
        path = Path(
            text
        ).absolute()  # whatever becomes of the working directory, here or on a cluster
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or a zero byte
        raise InputError(f"{text!r} is not a path") from error
    if not text or "\0" in text:
        raise InputError(f"{text!r} is not a path")
    ending = path.suffix.lower()
    if is_folder:
        if any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
            return arrays.zarr(path, key)
        tars = sorted(path.glob("*.tar"))
        return Shards(tars, preprocess) if tars else image_folder(path, preprocess)
    if ending == ".tar" and ("{" in text or "*" in text):
        return Shards(expanded(str(path)), preprocess)
    if not is_file:
        raise InputError(f"there is no file or folder '{text}'")
    if ending in ENDINGS:
        return manifest(path, preprocess)
    if ending == ".tar":
        return Shards([path], preprocess)
    if ending == ".npy":
        return arrays.npy(path)
    if ending in (".h5", ".hdf5"):
        return arrays.hdf5(path, key)
    raise InputError(f"'{text}' is not a known kind of data: data must be {KINDS}")


def _is_tar(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and os.fsdecode(value).endswith(".tar")


def _is_stored_array(data: object) -> bool:
    """Whether it is an array of zarr or h5py, by its module: neither has to be installed."""
    home = type(data).__module__.partition(".")[0]
    return home in ("zarr", "h5py") and hasattr(data, "shape") and hasattr(data, "dtype")
