"""The file of results: runs by kind and cell, so that a grid can be measured in pieces."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.tables import options, say
from harness.timing import Quartiles, alone, quartiles, ratios

Run = dict[str, Any]
KINDS = ("time", "memory", "growth", "fixed")


@dataclass
class Results:
    """All that was measured. Figures are compared within one run only, never across runs."""

    cells: dict[str, dict[str, list[Run]]] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Results:
        return Results(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Results()

    def write(self, path: Path) -> None:
        """One run in a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for kind in (kind for kind in KINDS if kind in self.cells):
            cells = (
                f"  {json.dumps(key)}: [\n"
                + ",\n".join(f"   {json.dumps(run)}" for run in runs)
                + "\n  ]"
                for key, runs in self.cells[kind].items()
            )
            lines.append(f" {json.dumps(kind)}: {{\n" + ",\n".join(cells) + "\n }")
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

    def add(self, kind: str, key: str, run: Run) -> None:
        """Add a run to its cell; older runs in which nobody else took part are dropped."""
        present = members(run)
        kept = [each for each in self.of(kind, key) if members(each) - present]
        self.cells.setdefault(kind, {})[key] = [*kept, run]

    def of(self, kind: str, key: str) -> list[Run]:
        """The runs of a cell, the newest last."""
        return self.cells.get(kind, {}).get(key, [])

    def newest(self, kind: str, key: str, *names: str) -> Run | None:
        """The newest run that measured all these."""
        found = [run for run in self.of(kind, key) if set(names) <= run.get("seconds", {}).keys()]
        return found[-1] if found else None

    def ratio(self, key: str, name: str, other: str, kind: str = "time") -> Quartiles | None:
        """The time of one as a multiple of another's in the same rounds."""
        run = self.newest(kind, key, name, other)
        return ratios(run["seconds"][name], run["seconds"][other]) if run else None

    def seconds(self, key: str, name: str, kind: str = "time") -> Quartiles | None:
        run = self.newest(kind, key, name)
        return quartiles(run["seconds"][name]) if run else None

    def bytes(self, key: str, name: str, part: str = "bytes") -> int | None:
        """The peak memory of one; each was alone in its process."""
        found = [run[part][name] for run in self.of("memory", key) if name in run.get(part, ())]
        return found[-1] if found else None


def members(run: Run) -> set[str]:
    """Who took part in a run, with or without success."""
    return {name for part in ("seconds", "failed", "bytes") for name in run.get(part, ())}


def measure(
    path: Path, kind: str, key: str, function: Callable[..., Run], *arguments: Any
) -> Run | None:
    """Run a function in a process of its own, and add what it finds to the file of results."""
    try:
        run = alone(function, *arguments)
    except ChildProcessError as error:  # most likely for want of memory
        say(f"{kind} {key}: {error}")
        return None
    results = Results.read(path)  # anew: another command may have written to it
    results.add(kind, key, run)
    results.write(path)
    return run


def with_results(text: str | None) -> argparse.ArgumentParser:
    """The options of the scripts that share the file of results."""
    found = options(text)
    found.add_argument("--results", type=Path, default=Path("docs/performance.json"))
    found.add_argument("--only-tables", action="store_true", help="measure nothing")
    return found


def add_effort(parser: argparse.ArgumentParser, seconds: float) -> None:
    """How long to measure."""
    parser.add_argument("--seconds", type=float, default=seconds, help="for all rounds of one cell")
    parser.add_argument("--rounds", type=int, nargs=2, default=(3, 31), metavar=("MIN", "MAX"))
