"""The words and tables that the sections of the page share."""

from __future__ import annotations

from collections.abc import Sequence

from contestants import CONTESTANTS
from timing import Quartiles


def shown(value: Quartiles | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    if value.low == value.high:
        return f"{value.median:.{digits}f}"
    return f"{value.median:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def threads_of(count: int) -> str:
    return f"{count} thread" + ("" if count == 1 else "s")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def title(name: str) -> str:
    return CONTESTANTS[name].title
