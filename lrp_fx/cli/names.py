"""The names of results. They depend on the input and the options alone, never on the run."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lrp_fx.cli.inputs import ARRAYS, IMAGES, MADE

LONGEST = 100
"""So many letters of a file's name are kept; file systems allow about 255 bytes."""


@dataclass(frozen=True)
class Names:
    """Names for results in a folder.

    A result is named after its file. Digits follow, which are computed from the place of the file
    and from the options, so that no result replaces one of another file or of other options. A file
    that lies beside the folder of results, alone with its name, and is explained without options
    needs no digits.

    Args:
        out: the folder of the results.
        settings: the options that change results, as text; empty for the usual ones.
    """

    out: Path
    settings: str = ""
    _folders: dict[Path, list[str]] = field(default_factory=dict)

    def of(self, file: Path, row: int | None = None) -> str:
        """The name of the result for a file, or for one sample of it, without a suffix."""
        real = Path(os.path.realpath(file))
        beside = Path(os.path.realpath(self.out)).parent
        try:
            place = os.path.relpath(real, beside)
        except ValueError:  # on another drive
            place = str(real)
        stem = file.stem[:LONGEST]
        while len(os.fsencode(stem)) > LONGEST:
            stem = stem[:-1]
        plain = place == real.name and stem == file.stem and not self.settings
        if not plain or self._rivals(real) > 1:
            key = f"{Path(place).as_posix()}\0{self.settings}"
            stem += "-" + hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:8]
        return stem + ("" if row is None else f".{row}") + MADE

    def _rivals(self, file: Path) -> int:
        """How many files beside it have its name, whatever their suffixes and letter cases.

        Some file systems do not distinguish upper and lower case.
        """
        if file.parent not in self._folders:
            with suppress(OSError):  # a folder whose files may be read, but not listed
                self._folders[file.parent] = [
                    Path(name).stem.casefold()
                    for name in os.listdir(file.parent)
                    if Path(name).suffix.lower() in IMAGES | ARRAYS
                ]
        if file.parent not in self._folders:
            return len(IMAGES)
        return self._folders[file.parent].count(file.stem.casefold())
