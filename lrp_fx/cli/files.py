"""The files of a run: pictures, maps as data, folders, and the summary of all that a folder holds."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from lrp_fx._common import __version__, write_whole
from lrp_fx.cli.explained import Explained
from lrp_fx.cli.names import OWN, Names
from lrp_fx.cli.talk import as_json, shown
from lrp_fx.errors import InputError
from lrp_fx.visualize import explanation_figure, save

SUMMARY, TABLE = "summary.json", "summary.csv"
COLUMNS = ("input", "row", "target", "target_name", "output", "probability", "start", "error")


@dataclass(frozen=True)
class Files:
    """Writes results into a folder. Each file appears complete or not at all.

    Args:
        out: the folder.
        names: the names of results in it.
        forms: the files that are written for each.
    """

    out: Path
    names: Names
    forms: tuple[str, ...]

    def write(self, explained: Explained) -> list[Path]:
        """Write one explanation.

        Returns:
            The files, the picture first.

        Raises:
            InputError: if they cannot be written.
        """
        name = self.names.of(explained.sample.file, explained.sample.row)
        written: list[Path] = []
        for form in self.forms:
            if form == "npy":
                written += self._maps(explained, name)
            elif form == "folder":
                written.append(explained.explanation.save(self.out / name))
            else:
                written += self._figures(explained, name, form)
        return written

    def _figures(self, explained: Explained, name: str, form: str) -> list[Path]:
        """All maps of an image in one figure; of other inputs a figure for each map."""
        picture = explained.explanation.picture
        if picture is not None:
            figure = explanation_figure(
                Image.fromarray(picture),
                {title: each[0] for title, each in explained.maps.items()},
                title=explained.title,
                target=explained.target_name,
            )
            return [save(figure, self.out / f"{name}.{form}")]
        return [
            save(explained.with_map(title).show(), self.out / f"{part}.{form}")
            for title, part in _parts(name, explained.maps)
        ]

    def _maps(self, explained: Explained, name: str) -> list[Path]:
        """The maps as arrays, each of the shape of the input."""
        written = []
        for title, part in _parts(name, explained.maps):
            file = io.BytesIO()
            np.save(file, explained.maps[title].float().numpy(), allow_pickle=False)
            written.append(write_whole(self.out / f"{part}.npy", file.getvalue(), InputError))
        return written


def _parts(name: str, maps: Mapping[str, object]) -> list[tuple[str, str]]:
    """Title and name of each map; that of the first is the name itself."""
    stem, _, end = name.rpartition(".")
    return [
        (title, name if number == 0 else f"{stem}.{_slug(title)}.{end}")
        for number, title in enumerate(maps)
    ]


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def make_folder(out: Path, what: str) -> None:
    """Make a folder for results.

    Raises:
        InputError: if it cannot be made; the message says what was to be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        is_file = isinstance(error, FileExistsError)
        why = "it is not a folder" if is_file else getattr(error, "strerror", None) or error
        raise InputError(f"cannot write {what} to {shown(out)}: {why}") from error


def read_summary(out: Path) -> list[dict[str, Any]]:
    """The results of earlier runs in the summary of a folder; none without a summary.

    Raises:
        InputError: if a file of its name is something else, which is not to be replaced.
    """
    file = out / SUMMARY
    if not os.path.lexists(file):
        return []
    try:
        found = json.loads(file.read_bytes()) if file.is_file() else None
    except (OSError, ValueError, RecursionError):
        found = None
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
        raise InputError(
            f"{shown(file)} is not a summary of lrp-fx, so it is not replaced: move it away, or choose "
            "another folder with --out"
        )
    return results


def document(command: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of a command, for the summary and for ``--json``."""
    failed = sum("error" in each for each in results)
    return {
        "command": command,
        "version": __version__,
        "explained": len(results) - failed,
        "failed": failed,
        "results": list(results),
    }


def write_summary(out: Path, command: str, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write what the folder holds: these results, and those of earlier runs that they do not replace.

    Returns:
        The file; a table (.csv) lies beside it.

    Raises:
        InputError: if it cannot be written.
    """
    make_folder(out / OWN, "the summary")
    with FileLock(out / OWN / "summary.lock"):  # another command may write it at the same time
        merged = {_key(each): each for each in (*read_summary(out), *results)}
        listed = list(merged.values())
        write_whole(out / SUMMARY, as_json(document(command, listed)).encode(), InputError)
        write_whole(out / TABLE, _table(listed).encode(errors="replace"), InputError)
    return out / SUMMARY


def _key(result: Mapping[str, Any]) -> str:
    """Two results of one key are of the same input with the same options."""
    files = result.get("files")
    if isinstance(files, list) and files:  # paths depend on where the command was called
        return json.dumps([Path(str(each)).name for each in files])
    return json.dumps([result.get("input"), result.get("row"), None])


def _table(results: Iterable[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*COLUMNS, "share_at_input", "file"])
    for each in results:
        relevance = each.get("relevance")
        share = relevance.get("share_at_input") if isinstance(relevance, Mapping) else None
        files = each.get("files")
        first = files[0] if isinstance(files, list) and files else ""
        table.writerow([*(each.get(name) for name in COLUMNS), share, first])
    return file.getvalue()
