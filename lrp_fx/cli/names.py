"""The names of results: plain ones where they are free, and never that of another result."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lrp_fx.cli.inputs import MADE
from lrp_fx.errors import InputError

LONGEST = 100
"""The letters of a file's name that are kept; file systems allow about 255 bytes."""
OWN = ".lrp_fx"
"""The hidden folder beside the results, which records the owner of each name."""
DIGITS = 8


@dataclass(frozen=True)
class Names:
    """Names for results in a folder.

    A result is named after its file. The first result of a name owns it: its key, which is computed
    from the place of the file and the options, is noted in a hidden folder. Any other result of this
    name gets digits of its own key. So no result replaces one of another file or of other options,
    also if two commands write into the folder at once, and the same call finds its names again.

    Args:
        out: the folder of the results.
        settings: the options that change results, as text; empty for the usual ones.
    """

    out: Path
    settings: str = ""

    def of(self, file: Path, row: int | None = None) -> str:
        """The name of the result for a file, or for one sample of it, without a suffix.

        Raises:
            InputError: if the folder cannot be written to.
        """
        stem = file.stem[:LONGEST]
        while len(os.fsencode(stem)) > LONGEST:
            stem = stem[:-1]
        end = ("" if row is None else f".{row}") + MADE
        key = self._key(file, row)
        for digits in ("", f"-{key[:DIGITS]}"):
            name = f"{stem}{digits}{end}"
            if self._owns(key, name):
                return name
        return f"{stem}-{key}{end}"

    def _key(self, file: Path, row: int | None) -> str:
        """What the place of the file, the sample and the options are, as digits."""
        parts = (place_of(file, self.out), "" if row is None else str(row), self.settings)
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()

    def _owns(self, key: str, name: str) -> bool:
        """Whether the result of this key has this name; a free name becomes its own."""
        same = _as_files_compare(name)
        note = self.out / OWN / hashlib.sha256(os.fsencode(same)).hexdigest()[:32]
        try:
            if not os.path.lexists(note):
                if same in self._found:
                    return False  # a file without a note is not ours to replace
                note.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError), note.open("x") as new:  # or another was faster
                    new.write(key)
            return note.read_text() == key
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"cannot write names to {self.out / OWN}: {why}") from error

    @cached_property
    def _found(self) -> frozenset[str]:
        """The names of the results that the folder held at first."""
        listed = os.listdir(self.out) if self.out.is_dir() else []
        return frozenset(
            _as_files_compare(name[: name.rindex(MADE) + len(MADE)])
            for name in listed
            if MADE in name[1:]
        )


def place_of(file: Path, out: Path) -> str:
    """Where a file is, seen from beside the folder of results."""
    real = os.path.realpath(file)
    try:
        place = os.path.relpath(real, Path(os.path.realpath(out)).parent)
    except ValueError:  # on another drive
        place = real
    return Path(place).as_posix()


def _as_files_compare(name: str) -> str:
    """The name as file systems compare it that distinguish neither letter cases nor accents' codes."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
