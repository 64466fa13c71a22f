"""Tables, written between marks on pages whose sentences are written by hand.

A mark is ``<!-- table of benchmarks/<script>.py -->``, or with a name where a script has several
tables: ``<!-- table of benchmarks/<script>.py: <name> -->``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.timing import Quartiles

END = "<!-- end of the table -->"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> list[str]:
    """The lines of a table.

    Args:
        head: the titles of the columns.
        rows: as many cells each.
        align: "r" for a column of numbers, for each column; all to the left unless given.
    """
    rule = "".join("---:|" if side == "r" else "---|" for side in align or " " * len(head))
    return [_row(head), f"|{rule}", *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def shown(value: Quartiles | None, digits: int = 2) -> str:
    """A median with its quartiles in brackets."""
    if value is None:
        return "–"
    low, median, high = (f"{each:.{digits}f}" for each in value)
    return median if value.low == value.high else f"{median} ({low} to {high})"


def put(page: Path | None, script: str, tables: Mapping[str, Sequence[str]]) -> None:
    """Write tables between their marks on a page, or print them.

    Args:
        page: holds a mark for each table and the mark of the end behind it; None: print.
        script: its name, without the ending.
        tables: the lines of each, by name; "" for the only one of a script.
    """
    if page is None:
        for name, lines in tables.items():
            print("\n".join([*([name, ""] if name else []), *lines, ""]))
        return
    text = page.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin = f"<!-- table of benchmarks/{script}.py{': ' if name else ''}{name} -->"
        before, found, rest = text.partition(begin)
        inside, ended, after = rest.partition(END)
        if not found or not ended or "<!-- table of " in inside:
            raise SystemExit(f"{page} has no place for the table: add the lines {begin} and {END}")
        text = "\n".join([before + begin, "", *lines, "", END]) + after
    page.write_text(text, encoding="utf-8")


def options(
    text: str | None, rounds: int | None = None, models: Iterable[str] | None = None
) -> argparse.ArgumentParser:
    """The options that most scripts have.

    Args:
        text: the docstring of the script.
        rounds: how many there are unless another number is given; None: no such option.
        models: among which some may be chosen; None: no such option.
    """
    found = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    found.add_argument("--out", type=Path, help="the page whose tables are written anew")
    if rounds is not None:
        found.add_argument("--rounds", type=int, default=rounds)
    if models is not None:
        found.add_argument("--models", nargs="+", choices=list(models), default=list(models))
    return found


def say(text: str) -> None:
    """A line about the progress."""
    print(text, file=sys.stderr, flush=True)
