"""Manifests: tables in CSV or Parquet that list images with their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrp_fx._packages import needed
from lrp_fx.dataset.images import ImageFiles, Preprocess
from lrp_fx.errors import InputError

PATHS = ("path", "file", "filename", "image")
LABELS = ("label", "class", "target")
IDS = ("id",)
ENDINGS = (".csv", ".tsv", ".parquet")


def manifest(file: Path, preprocess: Preprocess | None) -> ImageFiles:
    """The images that a table lists.

    It has a column ``path`` (or ``file``, ``filename``, ``image``), relative to the folder of the
    manifest, and may have columns ``label`` (or ``class``, ``target``; indices, or names, whose
    classes are then in alphabetical order) and ``id``. A file outside the folder of the manifest is
    never read.

    Raises:
        InputError: if the table cannot be read, has no rows, or not these columns.
        OptionError: if pyarrow is missing.
    """
    if preprocess is None:
        raise InputError(
            "images need preprocess=, the function that makes the model's input of one"
        )
    table = _table(file)
    path = _column(table, PATHS)
    if path is None:
        raise InputError(
            f"'{file}' has no column {', '.join(map(repr, PATHS))}, but "
            f"{', '.join(map(repr, table.column_names[:8])) or 'none'}"
        )
    paths = [_text(value) for value in table.column(path).to_pylist()]
    if not paths:
        raise InputError(f"'{file}' lists no images")
    label, id_ = _column(table, LABELS), _column(table, IDS)
    labels, names = (None, ()) if label is None else _labels(file, table.column(label).to_pylist())
    ids = None if id_ is None else [_text(value) for value in table.column(id_).to_pylist()]
    return ImageFiles(file.parent, paths, preprocess, labels, names, ids)


def _table(file: Path) -> Any:
    """The table of a file; all columns of a CSV are texts."""
    with needed("manifests need"):
        import pyarrow
        from pyarrow import csv, parquet
    try:
        if file.suffix.lower() == ".parquet":
            return parquet.read_table(file)
        parse = csv.ParseOptions(delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        with csv.open_csv(file, parse_options=parse) as reader:
            columns = reader.schema.names
        texts = csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pyarrow.string()), strings_can_be_null=True
        )
        return csv.read_csv(file, parse_options=parse, convert_options=texts)
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        first = str(error).partition("\n")[0][:160]
        raise InputError(f"cannot read the manifest '{file}': {first}") from error


def _column(table: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if table.column_names.count(name) == 1), None)


def _text(value: object) -> str:
    """A path or an id of a manifest; what is missing or no text leads to no file."""
    return "" if value is None else str(value)


def _labels(file: Path, values: list[Any]) -> tuple[list[int | None], tuple[str, ...]]:
    """The class indices, and the names if the classes are given by name."""
    given = [value for value in values if value not in (None, "")]
    numbers = [_index(value) for value in given]
    if None not in numbers:
        return [None if value in (None, "") else _index(value) for value in values], ()
    if not all(isinstance(value, str) for value in given):
        raise InputError(f"the labels of '{file}' must be indices or names of classes")
    names = tuple(sorted(set(given)))
    places = {name: place for place, name in enumerate(names)}
    return [places.get(value) for value in values], names


def _index(value: object) -> int | None:
    """A class index; None if it is a name."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return None
