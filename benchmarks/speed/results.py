"""The file of results: runs by kind and cell, so that a grid can be measured in pieces."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timing import Quartiles, quartiles, ratios

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
        older = self.of(kind, key)
        present = members(run)
        kept = [each for each in older if members(each) - present]
        self.cells.setdefault(kind, {})[key] = [*kept, run]

    def of(self, kind: str, key: str) -> list[Run]:
        """The runs of a cell, the newest last."""
        return self.cells.get(kind, {}).get(key, [])

    def newest(self, kind: str, key: str, *names: str) -> Run | None:
        """The newest run that measured all these."""
        found = [run for run in self.of(kind, key) if set(names) <= run.get("seconds", {}).keys()]
        return found[-1] if found else None

    def ratio(self, key: str, name: str, other: str) -> Quartiles | None:
        """The time of one as a multiple of another's in the same rounds."""
        run = self.newest("time", key, name, other)
        return ratios(run["seconds"][name], run["seconds"][other]) if run else None

    def seconds(self, key: str, name: str) -> Quartiles | None:
        run = self.newest("time", key, name)
        return quartiles(run["seconds"][name]) if run else None

    def bytes(self, key: str, name: str, part: str = "bytes") -> int | None:
        """The peak memory of one; each was alone in its process."""
        found = [run[part][name] for run in self.of("memory", key) if name in run[part]]
        return found[-1] if found else None

    def environments(self) -> list[dict[str, Any]]:
        """Those of all runs, each once."""
        found: list[dict[str, Any]] = []
        for cells in self.cells.values():
            for run in (run for runs in cells.values() for run in runs):
                shown = {k: v for k, v in run["environment"].items() if k != "kept"}
                if shown not in found:
                    found.append(shown)
        return found


def members(run: Run) -> set[str]:
    """Who took part in a run, with or without success."""
    return {name for part in ("seconds", "absent", "failed", "bytes") for name in run.get(part, ())}
