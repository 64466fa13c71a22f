"""What relevance costs: whole attributions of this library, of torch's gradient and of other tools.

    python benchmarks/attributions.py --out docs/performance.md
    python benchmarks/attributions.py --models vgg16 resnet50 --batches 8 --threads 1 2
    python benchmarks/attributions.py --only-tables --out docs/performance.md

A cell is a network, a batch size and a number of threads. It runs in a process of its own, and all its
contestants in turn. The seconds of every round (of the process, where it has one thread) go into the
file of results, from which tables and figure are made. What failed, and the cosines between maps of
the same method, are printed.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from harness.contestants import CONTESTANTS, chosen, first_line, quietly, title
from harness.figures import COLORS, bars
from harness.networks import NETWORKS, similarity
from harness.results import Results, Run, add_effort, measure, with_results
from harness.tables import put, say, shown, table
from harness.timing import environment, interleaved, quartiles, ratios, timed
from torch import Tensor

MAIN_BATCH = 8  # of the figure


@dataclass(frozen=True)
class Cell:
    """What is measured in one process: a network, samples in a call, threads of torch."""

    network: str
    batch: int
    threads: int

    @property
    def key(self) -> str:
        """Its place in the results."""
        return f"{self.network} batch={self.batch} threads={self.threads}"

    @staticmethod
    def of(key: str) -> Cell:
        network, batch, threads = (part.rpartition("=")[2] for part in key.split())
        return Cell(network, int(batch), int(threads))

    @property
    def title(self) -> str:
        return f"batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}"


# --- measuring ----------------------------------------------------------------------------------


def run(cell: Cell, seconds: float, rounds: tuple[int, int], only: list[str] | None) -> Run:
    """Measure a cell: the seconds of every round, who failed and why, and how alike the maps are."""
    quietly()
    torch.set_num_threads(cell.threads)
    network = NETWORKS[cell.network]
    model, x = network.make(), network.inputs(cell.batch)
    calls: dict[str, Any] = {}
    failed: dict[str, str] = {}
    alike: dict[str, float | None] = {}
    maps: dict[str, Tensor] = {}  # the first one of each method
    for contestant in chosen(network, only):
        name = contestant.name
        try:
            call = contestant.call(network, model)
            found = call(x)
        except Exception as error:  # whatever another tool raises is its result here
            failed[name] = first_line(error)
            continue
        finally:
            gc.collect()
        calls[name] = lambda call=call: call(x)
        first = maps.setdefault(contestant.method, found)
        if contestant.tool != "torch" and first is not found and first.shape == found.shape:
            cosine = similarity(first, found)
            alike[name] = None if math.isnan(cosine) else cosine
    maps.clear()
    clock = time.process_time if cell.threads == 1 else time.perf_counter
    times = interleaved(calls, rounds, seconds, measure=partial(timed, clock=clock))
    return {
        "environment": environment(),
        "seconds": {name: [float(f"{t:.5g}") for t in each] for name, each in times.items()},
        "failed": failed,
        "alike": alike,
    }


def measure_all(settings: argparse.Namespace) -> None:
    for place in product(settings.models, settings.batches, settings.threads):
        cell, began = Cell(*place), time.perf_counter()
        effort = settings.seconds, settings.rounds, settings.only
        found = measure(settings.results, "time", cell.key, run, cell, *effort)
        if found is not None:
            say(f"{cell.key}: took {time.perf_counter() - began:.0f} s")
            show(found)


def show(found: Run) -> None:
    for name, times in found["seconds"].items():
        to = shown(ratios(times, found["seconds"]["gradient"]))
        cosine = found["alike"].get(name, 1.0)
        alike = "map of zeros or NaN" if cosine is None else f"cosine {cosine:.3f}"
        say(f"    {name:24} {quartiles(times).median:8.3f} s   {to} × gradient   {alike}")
    for name, reason in found["failed"].items():
        say(f"    {name:24} {reason}")


# --- tables and figure --------------------------------------------------------------------------


def cells_of(results: Results) -> dict[str, list[Cell]]:
    """The cells that were measured, by network."""
    cells = [Cell.of(key) for key in results.cells.get("time", {})]
    cells.sort(key=lambda cell: (cell.threads, cell.batch))
    found = {name: [cell for cell in cells if cell.network == name] for name in NETWORKS}
    return {name: mine for name, mine in found.items() if mine}


def tables(results: Results) -> Iterator[tuple[str, list[str]]]:
    """Of each network one table in units of the gradient, and one in units of the forward pass."""
    for name, cells in cells_of(results).items():
        for unit in ("gradient", "forward"):
            head = ["", *(cell.title for cell in cells)]
            seconds = [shown(results.seconds(cell.key, unit), 3) for cell in cells]
            rows = [[f"{title(unit)}, seconds", *seconds]]
            for other in (each for each in CONTESTANTS if each != unit):
                found = [results.ratio(cell.key, other, unit) for cell in cells]
                if any(found):
                    rows.append([title(other), *map(shown, found)])
            yield f"{NETWORKS[name].title}, {unit}", table(head, rows)


def draw(results: Results, path: Path) -> None:
    """Time as a multiple of the input gradient's, one panel for each network."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    cells = [main_cell(found) for found in cells_of(results).values()]
    rows = {
        cell: [
            (contestant, ratio)
            for name, contestant in CONTESTANTS.items()
            if name != "gradient" and (ratio := results.ratio(cell.key, name, "gradient"))
        ]
        for cell in cells
    }
    heights = [len(found) + 1.5 for found in rows.values()]
    figure = Figure(figsize=(7.2, 0.21 * sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(len(cells), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (cell, found) in zip(panels, rows.items(), strict=True):
        places = range(len(found))
        colors = [COLORS[contestant.tool] for contestant, _ in found]
        bars(axes, places, [ratio for _, ratio in found], colors)
        axes.axvline(1, color="#333333", linewidth=1)
        axes.set_yticks(places, [each.title.replace("`", "") for each, _ in found], fontsize=7)
        axes.set_xlim(0, 1.15 * max(ratio.high for _, ratio in found))
        axes.invert_yaxis()
        axes.tick_params(axis="x", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        words = f"{NETWORKS[cell.network].title}, batch {cell.batch}, threads: {cell.threads}"
        axes.set_title(words, fontsize=8, loc="left")
    panels[-1].set_xlabel("time as a multiple of the input gradient (line: 1)", fontsize=8)
    handles = [Patch(color=color, label=tool) for tool, color in COLORS.items()]
    figure.legend(handles=handles, fontsize=7, frameon=False, loc="outside upper right", ncols=5)
    figure.savefig(path, dpi=110)


def main_cell(cells: Sequence[Cell]) -> Cell:
    """The one in the figure: batch 8 and one thread, or what comes next to it."""
    return min(cells, key=lambda cell: (cell.threads, abs(cell.batch - MAIN_BATCH)))


def main() -> None:
    parser = with_results(__doc__)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="CONTESTANT")
    add_effort(parser, seconds=20)
    settings = parser.parse_args()
    if not settings.only_tables:
        measure_all(settings)
    results = Results.read(settings.results)
    put(settings.out, "attributions", dict(tables(results)))
    if settings.out is not None:
        draw(results, settings.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
