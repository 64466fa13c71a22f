"""The CSV of each machine says what the file of results says."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

from by_machine import lines_of
from harness.results import Results

ROOT = Path(__file__).parents[2]


def test_the_csv_of_each_machine_is_that_of_the_results() -> None:
    """As ``python benchmarks/by_machine.py`` writes it; ratios come from the rounds of one run."""
    found: dict[str, list[dict[str, str]]] = {}
    for machine, line in lines_of(Results.read(ROOT / "docs" / "performance.json")):
        row = {name: str(value) for name, value in asdict(line).items()}
        found.setdefault(machine, []).append(row)
    assert found
    for machine, rows in found.items():
        path = ROOT / "benchmarks" / "results" / f"{machine}.csv"
        with path.open(newline="", encoding="utf-8") as file:
            assert list(csv.DictReader(file)) == rows


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    """2 of 1, 2 of 2 and 9 of 3 seconds: the median of 2, 1 and 3, not the ratio of medians."""
    where = {"processor": "x", "model": "A (R) B", "cores": 2, "capability": "AVX2"}
    run = {
        "environment": {**where, "versions": {"torch": "2", "Python": "3"}},
        "seconds": {"gradient": [1.0, 2.0, 3.0], "mine": [2.0, 2.0, 9.0]},
    }
    (_, base), (machine, mine) = lines_of(Results({"time": {"cell": [run]}}))
    assert machine == "a-r-b-avx2-2-cores"
    assert (base.per_gradient, mine.per_gradient, mine.median, mine.rounds) == (1.0, 2.0, 2.0, 3)
