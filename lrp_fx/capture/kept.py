"""Captures kept in a folder: found by what they depend on, whole or not there, bounded in number and size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from lrp_fx._common import write_whole
from lrp_fx.capture.as_text import NotText, as_text, from_text
from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.errors import LRPError, OptionError
from lrp_fx.graph import TreeSpec

ENDING = ".capture"
MOST_FILES, MOST_BYTES = 256, 2**30
"""A folder keeps this many captures, and this many bytes of them; the least recently used ones go first."""
_TRIED = 4
"""How many captures for other shapes are tried. Each costs a forward pass if it does not hold."""


class KeptCaptures:
    """A folder of captures.

    A file has a check sum in its first line, so that a damaged one is noticed. Any number of processes
    may use the folder at once: a file appears when it is whole, and one that is gone is written again.

    Args:
        folder: the folder; it is made if it is not there.

    Raises:
        OptionError: if there can be no such folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(
                f"cache='{folder}' cannot be a folder: {error.strerror or error}"
            ) from error
        self.folder = folder

    def found(
        self, key: str, arguments: Arguments, tensors: dict[str, Tensor], outputs: TreeSpec
    ) -> Iterator[Captured]:
        """The captures for a key that can be read, those for the shapes of the arguments first.

        Args:
            key: what a capture depends on, see :func:`~lrp_fx.capture.lasting.lasting_key`.
            arguments: the model's arguments.
            tensors: the model's tensors by their paths.
            outputs: how the flat outputs are nested in the model's output.
        """
        own = self._file(key, arguments)
        others = sorted(self.folder.glob(f"{_start(key)}-*{ENDING}"), key=_used, reverse=True)
        for file in [own, *(each for each in others if each != own)][: 1 + _TRIED]:
            with suppress(OSError, ValueError, NotText):
                sum_, _, text = file.read_text(encoding="utf-8").partition("\n")
                if sum_ != _sum(key + text):
                    continue
                captured = from_text(text, tensors, outputs)
                with suppress(OSError):  # another user's
                    os.utime(file)
                yield captured

    def keep(self, key: str, arguments: Arguments, captured: Captured) -> None:
        """Write a capture, if it can be written: a folder that is full or read-only stays as it is."""
        with suppress(OSError, LRPError, NotText):
            text = as_text(captured)
            content = f"{_sum(key + text)}\n{text}".encode()
            write_whole(self._file(key, arguments), content)
            self._bound()

    def _file(self, key: str, arguments: Arguments) -> Path:
        shapes = repr([(tuple(each.shape), each.dtype) for each in arguments.tensors])
        return self.folder / f"{_start(key)}-{_sum(shapes)[:16]}{ENDING}"

    def _bound(self) -> None:
        """Remove the least recently used files beyond the bounds."""
        size = 0
        files = sorted(self.folder.glob(f"*{ENDING}"), key=_used, reverse=True)
        for place, file in enumerate(files):
            with suppress(OSError):  # another process removed it
                size += file.stat().st_size
                if place >= MOST_FILES or size > MOST_BYTES:
                    file.unlink()


def _start(key: str) -> str:
    return key[:32]


def _used(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # gone
        return 0.0


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
