"""The file of results as CSV, one file for each machine: what was measured, on what, with which versions.

    python benchmarks/by_machine.py

It measures nothing itself. Each line holds the median and the quartiles of one contestant in one cell,
and the same in units of the input gradient where that ran in the same rounds.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.results import Results, Run, with_results
from harness.tables import say
from harness.timing import Quartiles, quartiles, ratios

BASE = "gradient"


@dataclass(frozen=True)
class Line:
    """One contestant in one cell; empty where a figure does not exist."""

    processor: str
    cores: int
    capability: str
    torch: str
    python: str
    kind: str
    cell: str
    contestant: str
    unit: str
    rounds: int
    low: float
    median: float
    high: float
    per_gradient: float | str = ""


def lines_of(results: Results) -> Iterator[tuple[str, Line]]:
    """The name of the machine and the line, for all that was measured."""
    for kind, cells in results.cells.items():
        for cell, runs in cells.items():
            for run in runs:
                alone = results.bytes(cell, BASE) if kind == "memory" else None
                for line in _lines(kind, cell, run, alone):
                    yield machine_of(run["environment"]), line


def _lines(kind: str, cell: str, run: Run, alone: int | None) -> Iterator[Line]:
    """The lines of a run.

    Args:
        kind: that of the cell.
        cell: its name.
        run: what was measured in it.
        alone: what the gradient took in a process of its own, as each contestant of this kind.
    """
    where = run["environment"]
    versions = where["versions"]
    place = (_processor(where), where["cores"], where["capability"])
    tools = (versions["torch"], versions["Python"], kind, cell)
    for unit in ("seconds", "bytes"):
        base = run.get(unit, {}).get(BASE, alone)
        for contestant, measured in run.get(unit, {}).items():
            if "sizes" in run:  # a curve: a cell for each size
                bases = base or [None] * len(run["sizes"])
                for size, mine, other in zip(run["sizes"], measured, bases, strict=True):
                    shown = _figures(mine, other)
                    at = (*tools[:3], f"{cell} {size:g}")
                    yield Line(*place, *at, contestant, unit, *shown)
            else:
                yield Line(*place, *tools, contestant, unit, *_figures(measured, base))


def _figures(mine: Any, base: Any) -> tuple[int, float, float, float, float | str]:
    """The number of rounds, the quartiles, and the median in units of the gradient."""
    rounds = mine if isinstance(mine, list) else [mine]
    bases = base if isinstance(base, list) or base is None else [base]
    found = quartiles(rounds) if len(rounds) > 1 else Quartiles(*rounds * 3)
    share: float | str = ""
    if bases is not None and len(bases) == len(rounds):
        pairs = ratios(rounds, bases) if len(rounds) > 1 else None
        share = _rounded(pairs.median if pairs else rounds[0] / bases[0])
    return len(rounds), *map(_rounded, found), share


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _processor(where: dict[str, Any]) -> str:
    return str(where.get("model") or where["processor"])


def machine_of(where: dict[str, Any]) -> str:
    """A name for the file: the kind of processor and the number of cores."""
    words = f"{_processor(where)} {where['capability']} {where['cores']} cores"
    return "-".join(re.findall(r"[a-z0-9_]+", words.lower()))


def main() -> None:
    parser = with_results(__doc__)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results"))
    settings = parser.parse_args()
    found: dict[str, list[Line]] = {}
    for machine, line in lines_of(Results.read(settings.results)):
        found.setdefault(machine, []).append(line)
    settings.folder.mkdir(parents=True, exist_ok=True)
    for machine, lines in found.items():
        path = settings.folder / f"{machine}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [each.name for each in fields(Line)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, lines))
        say(f"{path}: {len(lines)} lines")


if __name__ == "__main__":
    main()
