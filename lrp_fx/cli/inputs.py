"""The inputs of commands: photographs, arrays and tables, found in folders and read one by one."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx.cli.photographs import check_readable, open_photograph
from lrp_fx.cli.talk import shown
from lrp_fx.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
ARRAYS = frozenset({".csv", ".npy"})
IN_FOLDERS = IMAGES | {".npy"}
"""The files that are taken from folders. Tables mostly list photographs, so they must be named."""
MADE = ".lrp"
"""The names of all results end in this and a suffix, so that no result replaces a photograph."""
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Sample:
    """One input of a model.

    Args:
        file: the file that it is from.
        inputs: a photograph, or an array ``(1, …)``.
        row: which sample of the file it is; None for the only one.
        words: the names of a table's columns.
        remarks: the changes when it was read.
    """

    file: Path
    inputs: Image.Image | Tensor
    row: int | None = None
    words: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The sample in a message."""
        return shown(self.file) + ("" if self.row is None else f"[{self.row}]")


def find_images(paths: Sequence[Path], suffixes: frozenset[str] = IMAGES) -> list[Path]:
    """The files in ``paths``, each once. Folders are searched recursively.

    Hidden files and results of earlier runs in folders are skipped. A path that does not exist, and
    a folder that may not be read, is kept, so that reading it raises an error about it.

    Args:
        paths: files and folders.
        suffixes: of the files that are taken from folders.

    Raises:
        InputError: if there are no files at all.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for file in _walk(path, suffixes) if os.path.isdir(path) else (path,):
            found.setdefault(_identity(file), file)
    if not found:
        searched = ", ".join(shown(path) for path in paths)
        raise InputError(f"there are no images ({', '.join(sorted(suffixes))}) in {searched}")
    return list(found.values())


def _identity(file: Path) -> str:
    """The real path; the path as it is where there is none."""
    try:
        return os.path.realpath(file)
    except (OSError, ValueError):
        return str(file)


def _walk(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    refused: list[Path] = []
    files: list[Path] = []
    for place, folders, names in os.walk(
        folder, onerror=lambda error: refused.append(Path(str(error.filename)))
    ):
        folders[:] = [
            each for each in folders if not each.startswith(".") and not each.endswith(MADE)
        ]
        files += [
            Path(place, name)
            for name in names
            if not name.startswith(".")
            and Path(name).suffix.lower() in suffixes
            and not Path(name).stem.endswith(MADE)
        ]
    yield from sorted(file for file in files if not file.exists() or file.is_file())
    yield from refused


def read_samples(file: Path, *, single: bool = False) -> Iterator[Sample]:
    """The samples in a file.

    Args:
        file: a photograph, an array (.npy) or a table (.csv).
        single: whether an array is one sample, without a dimension of samples.

    Raises:
        InputError: if the file cannot be read.
    """
    kind = file.suffix.lower()
    if kind not in ARRAYS:
        photograph = open_photograph(file)
        yield Sample(file, photograph.image, remarks=photograph.remarks)
        return
    check_readable(file)
    words: tuple[str, ...] = ()
    try:
        if kind == ".npy":
            array = _array(file)
        else:
            array, words = _table(file)
    except OSError as error:
        raise InputError(f"cannot read {shown(file)}: {error.strerror or error}") from error
    tensor = torch.from_numpy(array)
    samples = tensor[None] if single or tensor.ndim == 1 else tensor
    if not samples.numel():
        raise InputError(
            f"cannot read {shown(file)}: it holds no samples, its shape is {array.shape}"
        )
    for row in range(len(samples)):
        yield Sample(file, samples[row : row + 1], None if len(samples) == 1 else row, words)


def _array(file: Path) -> NDArray[np.generic]:
    """The numbers in a .npy file: integers as int64, all others as they are."""
    try:
        array = np.load(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # damaged headers make the parser raise anything
        raise InputError(
            f"cannot read {shown(file)}: it is not a plain .npy array of numbers"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or array.ndim == 0:
        raise InputError(f"cannot read {shown(file)}: it is not a plain .npy array of numbers")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(
            f"cannot read {shown(file)}: it holds integers that need more than 63 bits"
        )
    whole, wide = array.dtype.kind in "iu", array.dtype == np.float64
    return np.array(array, dtype="int64" if whole else "float64" if wide else "float32", order="C")


def _table(file: Path) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """The numbers of a table, (rows, columns), and the names of its columns if it has a head."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {shown(file)}: it is not UTF-8 text") from error
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise InputError(f"cannot read {shown(file)}: it is not a table ({error})") from error
    words: tuple[str, ...] = ()
    if rows and any(_number(cell) is None for cell in rows[0]):
        words = tuple(cell.strip() for cell in rows.pop(0))
    if not rows:
        raise InputError(f"cannot read {shown(file)}: it holds no rows of numbers")
    width = len(words) or len(rows[0])
    values = []
    for number, row in enumerate(rows):
        if len(row) != width:
            raise InputError(
                f"cannot read {shown(file)}: row {number} has {len(row)} cells instead of {width}"
            )
        found = [_number(cell) for cell in row]
        for column, value in enumerate(found):
            if value is None:
                name = words[column] if words else column
                raise InputError(
                    f"cannot read {shown(file)}: {row[column][:40]!r} in row {number}, column {name}, is "
                    "not a number"
                )
        values.append(found)
    return np.array(values, dtype=np.float32), words


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
