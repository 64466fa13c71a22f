"""What relevance costs: whole attributions of this library, of torch's gradient and of other tools.

    python benchmarks/speed time --models vgg16 resnet50 --batches 8 --threads 1 2
    python benchmarks/speed memory
    python benchmarks/speed growth
    python benchmarks/speed fixed
    python benchmarks/speed page

Each command adds what it measures to a file of results; the page is written from that file.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cells
import memory
from contestants import CONTESTANTS, chosen
from networks import NETWORKS
from results import Results
from timing import quartiles, ratios


MEASURED = [
    *("epsilon", "epsilon_plus", "epsilon_plus-recompute", "epsilon_plus-gradient", "z_plus"),
    *(
        "attn_lrp",
        "zennit-epsilon_plus",
        "captum-epsilon",
        "autolrp-epsilon",
        "autolrp-epsilon_plus",
    ),
]
"""Whose memory is measured unless others are named."""


def main() -> None:
    settings = parser().parse_args()
    settings.command(settings)


def alone(function: Any, *arguments: Any) -> Any:
    """The result of a function that runs in a new process; None if that was killed."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure_time(settings: argparse.Namespace) -> None:
    if settings.rounds[0] < 3:
        raise SystemExit("quartiles need at least 3 rounds")
    only = tuple(settings.only) if settings.only else None
    effort = cells.Effort(settings.seconds, *settings.rounds, only)
    grid = [
        cells.Cell(network, batch, threads, settings.keep_memory)
        for network, batch, threads in product(settings.models, settings.batches, settings.threads)
    ]
    for i, cell in enumerate(grid, 1):
        began = time.perf_counter()
        say(f"[{i}/{len(grid)}] {cell.key}")
        run = alone(cells.run, cell, effort)
        if run is None:
            say("    the process was killed, most likely for want of memory")
            continue
        results = Results.read(settings.results)  # anew: another command may have written to it
        results.add("time", cell.key, run)
        results.write(settings.results)
        show(run, time.perf_counter() - began)


def show(run: dict[str, Any], seconds: float) -> None:
    for name, times in run["seconds"].items():
        to = ratios(times, run["seconds"]["gradient"])
        say(
            f"    {name:24} {quartiles(times).median:8.3f} s   {to.median:6.2f} × gradient "
            f"({to.low:.2f} to {to.high:.2f}, {len(times)} rounds)"
        )
    for name, reason in {**run["absent"], **run["failed"]}.items():
        say(f"    {name:24} {reason}")
    say(f"    took {seconds:.0f} s")


def measure_memory(settings: argparse.Namespace) -> None:
    if not memory.measurable():
        raise SystemExit("peak memory is measured on Linux only")
    for name, batch in product(settings.models, settings.batches):
        key = f"{name} batch={batch}"
        for contestant in chosen(NETWORKS[name], settings.only or MEASURED):
            began = time.perf_counter()
            run = alone(memory.run, contestant.name, name, batch, settings.threads)
            if run is None:
                say(f"{key} {contestant.name}: the process was killed")
                continue
            results = Results.read(settings.results)
            results.add("memory", key, run)
            results.write(settings.results)
            show_memory(key, contestant.name, run, time.perf_counter() - began)


def show_memory(key: str, name: str, run: dict[str, Any], seconds: float) -> None:
    reasons = {**run.get("absent", {}), **run.get("failed", {})}
    if name in run["bytes"]:
        later, first = (run[each][name] / 1e6 for each in ("bytes", "first"))
        reasons[name] = f"{later:.0f} MB, first call {first:.0f} MB"
    say(f"{key} {name:24} {reasons[name]} ({seconds:.0f} s)")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="benchmarks/speed", description=__doc__.partition("\n")[0]
    )
    commands = options.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=function)
        added.add_argument("--results", type=Path, default=Path("docs/performance.json"))
        return added

    timing = command("time", measure_time, "time whole attributions, interleaved")
    timing.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    timing.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    timing.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    timing.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="CONTESTANT")
    timing.add_argument("--seconds", type=float, default=20, help="for the rounds of one cell")
    timing.add_argument("--rounds", type=int, nargs=2, default=[3, 31], metavar=("MIN", "MAX"))
    timing.add_argument("--keep-memory", action="store_true", help="freed memory is not returned")

    taken = command("memory", measure_memory, "peak memory, each contestant in its own process")
    taken.add_argument("--models", nargs="+", choices=NETWORKS, default=["vgg16", "resnet50"])
    taken.add_argument("--batches", type=int, nargs="+", default=[8])
    taken.add_argument("--threads", type=int, default=2)
    taken.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="CONTESTANT")
    return options


if __name__ == "__main__":
    main()
