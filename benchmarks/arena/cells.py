"""The file of results: a line of JSON for each cell, so that what was done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from arena.task import Kind


class Place(NamedTuple):
    """Where a figure stands."""

    suite: str
    task: str


class Key(NamedTuple):
    """Whose figure it is, and of what."""

    place: Place
    tool: str
    method: str
    measure: str


@dataclass(frozen=True)
class Column:
    """A measure as the page shows it; see :class:`arena.task.Measure`."""

    title: str
    higher: bool | None = True
    digits: int = 3
    paired: bool = False


@dataclass(frozen=True)
class Facts:
    """What the page says of a task, and what has to be measured there."""

    title: str
    kind: Kind
    facts: str
    measures: Mapping[str, Column]


@dataclass(frozen=True)
class Cell:
    """What one method reached in one measure of one task.

    Args:
        values: one for each sample; none if the method failed.
        error: why it failed.
    """

    values: tuple[float, ...] = ()
    error: str = ""


@dataclass
class Results:
    """All that was measured; the newest of a key counts.

    Args:
        path: of the file.
    """

    path: Path
    facts: dict[Place, Facts] = field(default_factory=dict)
    cells: dict[Key, Cell] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Results:
        """A line that was cut off, because the process was ended while writing, is left out."""
        found = Results(path)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                found._take(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def _take(self, line: dict[str, object]) -> None:
        place = Place(str(line["suite"]), str(line["task"]))
        match line:
            case {"facts": dict(facts)}:
                columns = {name: Column(**each) for name, each in facts.pop("measures").items()}
                self.facts[place] = Facts(**facts, measures=columns)
            case {"tool": str(tool), "method": str(method), "measure": str(measure)}:
                values, error = line["values"], line["error"]
                assert isinstance(values, list)
                self.cells[Key(place, tool, method, measure)] = Cell(tuple(values), str(error))

    def describe(self, place: Place, facts: Facts) -> None:
        self.facts[place] = facts
        self._append(_facts_line(place, facts))

    def add(self, key: Key, cell: Cell) -> None:
        self.cells[key] = cell
        self._append(_cell_line(key, cell))

    def forget(self, forgotten: Callable[[Place, Cell | None], bool]) -> None:
        """Drop facts (without a cell) and cells, and write the file anew."""
        self.facts = {p: each for p, each in self.facts.items() if not forgotten(p, None)}
        self.cells = {k: each for k, each in self.cells.items() if not forgotten(k.place, each)}
        lines = [_facts_line(*item) for item in self.facts.items()]
        lines += [_cell_line(*item) for item in self.cells.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(lines), encoding="utf-8")

    def _append(self, line: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)


def _facts_line(place: Place, facts: Facts) -> str:
    return json.dumps({**place._asdict(), "facts": asdict(facts)}, ensure_ascii=False) + "\n"


def _cell_line(key: Key, cell: Cell) -> str:
    place, *rest = key
    names = dict(zip(("tool", "method", "measure"), rest, strict=True))
    values = [float(f"{value:.5g}") for value in cell.values]
    line = {**place._asdict(), **names, "values": values, "error": cell.error}
    return json.dumps(line, ensure_ascii=False) + "\n"
