"""Manifests: tables in CSV or Parquet that list images with their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrp_fx._common import needed
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
    cells = table.column(path).to_pylist()
    if not all(isinstance(cell, (str, type(None))) for cell in cells):
        raise InputError(f"the column {path!r} of '{file}' must hold paths, as texts")
    paths = [cell or "" for cell in cells]
    if not paths:
        raise InputError(f"'{file}' lists no images")
    label, id_ = _column(table, LABELS), _column(table, IDS)
    labels, names = (None, ()) if label is None else _labels(file, table.column(label).to_pylist())
    ids = None
    if id_ is not None:
        given = table.column(id_).to_pylist()
        ids = [file if each is None else str(each) for file, each in zip(paths, given, strict=True)]
    return ImageFiles(file.parent, paths, preprocess, labels, names, ids)


def _table(file: Path) -> Any:
    """The table of a file; all columns of a CSV are texts."""
    with needed("manifests need"):
        import pyarrow
        from pyarrow import csv, parquet
    try:
        if file.suffix.lower() == ".parquet":
            return parquet.read_table(file)
        delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
        parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        with csv.open_csv(file, parse_options=parse) as reader:
            columns = reader.schema.names
        texts = csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pyarrow.string()), strings_can_be_null=True
        )
        return csv.read_csv(file, parse_options=parse, convert_options=texts)
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        first = str(error).partition("\n")[0][:160]
        raise InputError(
            f"cannot read the manifest '{file}': {first}; it must be a table in UTF-8, with as many "
            "cells in each row as in the first"
        ) from error


def _column(table: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if table.column_names.count(name) == 1), None)


def _labels(file: Path, values: list[Any]) -> tuple[list[int | None], tuple[str, ...]]:
    """The class indices, and the names if the classes are given by name.

    Indices may be written as ``2.0``, as they are in a column with gaps. A number that is not a class is
    the fault of its row alone.

    Raises:
        InputError: if names and numbers are mixed, or for anything else: which class is meant?
    """
    cells = [value.strip() if isinstance(value, str) else value for value in values]
    given = [cell for cell in cells if not _is_gap(cell)]
    numbers = {cell: _number(cell) for cell in given if isinstance(cell, (str, int, float))}
    if len(numbers) == len(set(map(str, given))) and None not in numbers.values():
        return [None if _is_gap(cell) else numbers[cell] for cell in cells], ()
    if not all(isinstance(cell, str) for cell in given) or any(
        number is not None for number in numbers.values()
    ):
        raise InputError(
            f"the labels of '{file}' must be indices, or names of classes, but not some of both"
        )
    names = tuple(sorted(set(given)))
    places = {name: place for place, name in enumerate(names)}
    return [places.get(cell) for cell in cells], names


def _is_gap(cell: object) -> bool:
    return cell is None or cell == "" or cell != cell


def _number(cell: object) -> int | None:
    """The whole number in a cell; None if it is a name or a fraction."""
    if isinstance(cell, bool):
        return None
    try:
        found = float(cell) if isinstance(cell, (str, int, float)) else 0.5
    except ValueError:
        return None
    return int(found) if found.is_integer() else None
