"""What relevance costs: whole attributions of this library, of torch's gradient and of other tools.

    python benchmarks/speed time --models vgg16 resnet50 --batches 8 --threads 1 2
    python benchmarks/speed memory
    python benchmarks/speed growth
    python benchmarks/speed fixed
    python benchmarks/speed page

Each command adds what it measures to a file of results; the page is written from that file, and
takes in ``notes.md`` beside this file, which is written by hand, as it is.
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
import fixed
import growth
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

ONLY = f"some only, of {', '.join(CONTESTANTS)}"


def main() -> None:
    settings = parser().parse_args()
    if "rounds" in settings and settings.rounds[0] < 3:
        raise SystemExit("quartiles need at least 3 rounds")
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
        record(settings.results, "time", cell.key, run)
        if run is not None:
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
            record(settings.results, "memory", key, run)
            if run is not None:
                show_memory(key, contestant.name, run, time.perf_counter() - began)


def show_memory(key: str, name: str, run: dict[str, Any], seconds: float) -> None:
    reasons = {**run.get("absent", {}), **run.get("failed", {})}
    if name in run["bytes"]:
        later, first = (run[each][name] / 1e6 for each in ("bytes", "first"))
        reasons[name] = f"{later:.0f} MB, first call {first:.0f} MB"
    say(f"{key} {name:24} {reasons[name]} ({seconds:.0f} s)")


def measure_growth(settings: argparse.Namespace) -> None:
    for name in settings.curves:
        began = time.perf_counter()
        run = alone(growth.run, name, settings.seconds, settings.rounds, settings.threads)
        record(settings.results, "growth", name, run)
        if run is not None:
            for contestant, seconds in run["seconds"].items():
                low, median, high = growth.exponents(run["sizes"], seconds)
                say(f"{name:8} {contestant:14} time ∝ size^{median:.2f} ({low:.2f} to {high:.2f})")
        say(f"    took {time.perf_counter() - began:.0f} s")


def measure_fixed(settings: argparse.Namespace) -> None:
    for name in settings.models:
        run = alone(fixed.build, name, 5, settings.threads)
        record(settings.results, "fixed", f"build {name}", run)
        if run is not None:
            say(
                f"{name}: "
                + ", ".join(f"{k} {quartiles(v).median:.2f} s" for k, v in run["seconds"].items())
            )
    for name, rule in product(settings.models, fixed.RULES):
        if NETWORKS[name].kind != "convolutional":
            continue
        run = alone(fixed.overhead, name, rule, settings.seconds, settings.rounds, settings.threads)
        record(settings.results, "fixed", f"overhead {name} {rule}", run)
        for other in list(run["seconds"])[1:] if run else ():
            to = ratios(run["seconds"]["attribute"], run["seconds"][other])
            say(
                f"{name} {rule}: attribute is {to.median:.3f} × {other} ({to.low:.3f} to {to.high:.3f})"
            )


def record(path: Path, kind: str, key: str, run: dict[str, Any] | None) -> None:
    """Into the file of results, which is read anew: another command may have written to it."""
    if run is None:
        say(f"{kind} {key}: the process was killed, most likely for want of memory")
        return
    results = Results.read(path)
    results.add(kind, key, run)
    results.write(path)


def write_page(settings: argparse.Namespace) -> None:
    import page

    page.write(Results.read(settings.results), settings.out)
    say(f"written: {settings.out}/performance.md and its figures")


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
    timing.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="CONTESTANT", help=ONLY)
    timing.add_argument("--keep-memory", action="store_true", help="freed memory is not returned")

    taken = command("memory", measure_memory, "peak memory, each contestant in its own process")
    taken.add_argument("--models", nargs="+", choices=NETWORKS, default=["vgg16", "resnet50"])
    taken.add_argument("--batches", type=int, nargs="+", default=[8])
    taken.add_argument("--threads", type=int, default=2)
    taken.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="CONTESTANT", help=ONLY)

    grown = command("growth", measure_growth, "time and memory over batch, side, depth, …")
    grown.add_argument("--curves", nargs="+", choices=growth.CURVES, default=list(growth.CURVES))
    constant = command("fixed", measure_fixed, "time to build, and overhead of the graph")
    constant.add_argument(
        "--models", nargs="+", choices=NETWORKS, default=["vgg16", "resnet50", "mobilenet_v2"]
    )
    for each in (grown, constant):
        each.add_argument("--threads", type=int, default=1)
    for each, seconds in ((timing, 20), (grown, 60), (constant, 15)):
        each.add_argument(
            "--seconds", type=float, default=seconds, help="for the rounds of one cell"
        )
        each.add_argument("--rounds", type=int, nargs=2, default=(3, 31), metavar=("MIN", "MAX"))

    written = command("page", write_page, "write the page and its figures from the results")
    written.add_argument("--out", type=Path, default=Path("docs"), help="directory for the page")
    return options


if __name__ == "__main__":
    main()
