"""WebDataset shards: tar files whose members of one name are a sample."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
from torch import Tensor

from lrp_fx.dataset.images import Preprocess, image_of_bytes
from lrp_fx.dataset.sample import Sample, as_inputs, as_label, stamp_of
from lrp_fx.errors import InputError

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif")
ARRAYS = ("npy",)
LABELS = ("cls", "json")
LARGEST = 2**31
"""A larger member, in bytes, is refused."""
MOST_FILES = 10**6
"""A pattern of more shards is refused."""
Member = tuple[int, int, int]
"""The number of the shard, the offset and the size."""


class Shards:
    """Tar files. They are searched once; then each sample is read where it lies.

    Members that are images (``.jpg`` …) or arrays (``.npy``) are inputs, ``.cls`` is the class, as
    is ``"label"`` in ``.json``. All other members are left alone; nothing is unpickled.

    Args:
        files: the shards.
        preprocess: makes the model's input of an image.

    Raises:
        InputError: if a shard cannot be read, or if there are no samples.
    """

    names: tuple[str, ...] = ()

    def __init__(self, files: Sequence[Path], preprocess: Preprocess | None) -> None:
        self._files, self._preprocess = list(files), preprocess
        self._keys: list[str] = []
        self._members: list[dict[str, Member]] = []
        for number, file in enumerate(self._files):
            for key, members in _samples(number, file):
                if members.keys() & {*IMAGES, *ARRAYS}:
                    self._keys.append(key)
                    self._members.append(members)
        if not self._keys:
            raise InputError(f"there are no images or arrays in {', '.join(map(str, files))}")

    def __len__(self) -> int:
        return len(self._keys)

    def name(self, index: int) -> str:
        """The name of the members without their endings."""
        return self._keys[index]

    def content(self) -> object:
        """The names and sizes of all members, and the code of ``preprocess``."""
        return self._keys, self._members, self._preprocess

    def stamp(self, samples: range) -> object:
        """Sizes and times of the files with these samples."""
        shards = {number for n in samples for number, _, _ in self._members[n].values()}
        return [stamp_of(self._files[number]) for number in sorted(shards)]

    def read(self, index: int) -> Sample:
        """The sample of some members.

        Raises:
            InputError: if they are broken.
        """
        members = self._members[index]
        inputs = self._inputs(members)
        label = None
        if "cls" in members:
            text = self._bytes(members["cls"]).strip()
            label = as_label(int(text) if text.isdigit() and len(text) < 10 else text)
        elif "json" in members:
            try:
                found = json.loads(self._bytes(members["json"]))
            except (ValueError, RecursionError) as error:
                raise InputError("its .json is not JSON") from error
            label = as_label(found.get("label")) if isinstance(found, dict) else None
        return Sample(self._keys[index], inputs, label)

    def _inputs(self, members: dict[str, Member]) -> Tensor:
        for ending, member in members.items():
            if ending in IMAGES:
                return image_of_bytes(self._bytes(member), self._preprocess)
            if ending in ARRAYS:
                try:
                    return as_inputs(np.load(io.BytesIO(self._bytes(member)), allow_pickle=False))
                except InputError:
                    raise
                except Exception as error:  # whatever the parsers of damaged headers raise
                    raise InputError("its .npy holds no plain array of numbers") from error
        raise AssertionError

    def _bytes(self, member: Member) -> bytes:
        number, offset, size = member
        try:
            with open(self._files[number], "rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise InputError(f"cannot read the shard: {error.strerror or error}") from error
        if len(content) != size:
            raise InputError("the shard ends within the sample")
        return content


def _samples(number: int, file: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """The samples of a shard: consecutive members of one name."""
    current, members = "", dict[str, Member]()
    try:
        with tarfile.open(file, "r:") as archive:
            for each in archive:
                name = each.name.rpartition("/")[2]
                key, dot, ending = name.partition(".")
                key = each.name[: len(each.name) - len(name)] + key
                if not each.isreg() or not key or not dot or each.size > LARGEST:
                    continue
                if key != current and members:
                    yield current, members
                if key != current:
                    current, members = key, {}
                members[ending.lower()] = (number, each.offset_data, each.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise InputError(
            f"cannot read the shard '{file}': "
            f"{getattr(error, 'strerror', None) or 'it is not a plain tar file'}"
        ) from error
    if members:
        yield current, members


def expanded(pattern: str) -> list[Path]:
    """The files of a pattern: ``train-{0000..0123}.tar``, ``train-*.tar``, or a single file."""
    pieces = re.split(r"\{(\d{1,9})\.\.(\d{1,9})\}", pattern, flags=re.ASCII)
    fixed, ranges = pieces[::3], list(zip(pieces[1::3], pieces[2::3], strict=True))
    if prod(max(int(last) - int(first) + 1, 0) for first, last in ranges) > MOST_FILES:
        raise InputError(f"the pattern {pattern!r} means too many files")
    found: list[Path] = []
    numbers = [
        [str(each).zfill(len(first)) for each in range(int(first), int(last) + 1)]
        for first, last in ranges
    ]
    for chosen in product(*numbers):
        text = fixed[0] + "".join(a + b for a, b in zip(chosen, fixed[1:], strict=True))
        path = Path(text)
        try:
            found += sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
        except ValueError as error:
            raise InputError(f"{pattern!r} is no pattern of files: {error}") from error
    if not found:
        raise InputError(f"there are no files {pattern!r}")
    return found
