"""Which maps are good? Every method on every suite, into docs/evaluation.md.

    python benchmarks/arena                              # measures what is missing, writes the page
    python benchmarks/arena --only geoscience logic      # some suites
    python benchmarks/arena --measures "SRG, blur" cost  # some measures first
    python benchmarks/arena --quick --out ""             # a trial with tiny networks, printed
    python benchmarks/arena --only-tables                # writes the page, measures nothing

Each cell, one measure of one method on one network, is written to a file of results as soon as it is
done. The same command goes on where the last one ended. ``--again`` measures a suite anew, ``--retry``
what failed. It runs on one thread, with fixed seeds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the scripts beside this folder look

import torch
from harness.contestants import quietly
from harness.tables import put

from arena.cells import Results
from arena.measuring import measure_suite
from arena.page import tables
from arena.suites import SUITES

CACHE = Path(".arena")
PAGE = Path("docs/evaluation.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES), metavar="SUITE")
    parser.add_argument("--tasks", nargs="+", help="only these of the suites, such as lite1")
    parser.add_argument("--methods", nargs="+", help="only these; several hours become minutes")
    parser.add_argument("--measures", nargs="+", help="only these, by their names in the tables")
    parser.add_argument("--quick", action="store_true", help="tiny: to see that all runs")
    parser.add_argument("--results", type=Path, help="the file of results")
    parser.add_argument("--again", action="store_true", help="measure the suites anew")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    parser.add_argument("--only-tables", action="store_true", help="measure nothing")
    parser.add_argument("--out", default=str(PAGE), help='the page; "" to print the tables')
    settings = parser.parse_args()
    torch.set_num_threads(1)
    quietly()
    usual = CACHE / ("quick.jsonl" if settings.quick else "results.jsonl")
    results = Results.read(settings.results or usual)
    if settings.again or settings.retry:
        results.forget(
            lambda place, cell: (
                place.suite in settings.only
                and (settings.again or (cell is not None and bool(cell.error)))
            )
        )
    chosen = {name: SUITES[name] for name in settings.only}
    if not settings.only_tables:
        for name, suite in chosen.items():
            measure_suite(
                name,
                suite,
                results,
                settings.tasks,
                settings.methods,
                settings.measures,
                quick=settings.quick,
            )
    page = Path(settings.out) if settings.out else None
    put(page, "arena/__main__", tables(chosen, SUITES, results))


if __name__ == "__main__":
    main()
