"""The sections of the page behind the first: aims, memory, growth, fixed cost, the allocator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import aims
import figures
from cells import Cell
from contestants import CONTESTANTS
from growth import CURVES, exponent, exponents
from networks import NETWORKS
from results import Results, Run
from timing import Quartiles, quartiles, ratios
from words import shown, table, threads_of, title

# --- aims ---------------------------------------------------------------------------------------


def aim_section(results: Results) -> list[str]:
    keys = [Cell.of(key) for key in results.cells.get("time", {})]
    threads = sorted({cell.threads for cell in keys if cell.batch == aims.BATCH and not cell.kept})

    def verdict(aim: aims.Aim, value: Quartiles | None) -> str:
        if value is None:
            return "–"
        return shown(value) + (", reached" if aim.reached(value.median) else ", **not reached**")

    def row(aim: aims.Aim, counts: Sequence[int]) -> list[str]:
        limit = f"{'≥' if aim.at_least else '≤'} {aim.limit:.2f}"
        return [aim.text, limit, *(verdict(aim, aim.measure(results, count)) for count in counts)]

    lines = []
    timed = [row(aim, threads) for aim in aims.TIMES]
    timed = [found for found in timed if set(found[2:]) - {"–"}]
    if timed:
        lines += [f"Batch {aims.BATCH}:", ""]
        lines += table(["ratio", "aim", *map(threads_of, threads)], timed)
    others = [row(aim, [1]) for aim in aims.OTHERS]
    others = [found for found in others if found[2] != "–"]
    if others:
        lines += ["Others:", "", *table(["", "aim", "measured"], others)]
    return ["## What was aimed at", "", *lines] if lines else []


# --- memory -------------------------------------------------------------------------------------


def memory_section(results: Results) -> list[str]:
    keys = list(results.cells.get("memory", {}))
    if not keys:
        return []
    lines = [
        "## Peak memory",
        "",
        "Each in a process of its own: by how much the peak of a call is above the model alone, in MB; "
        "in brackets as a multiple of the input gradient's. What a tool keeps for itself, such as "
        "modified weights, counts. The second column of a network is the first call, in which this "
        "library reads and verifies the model.",
        "",
    ]
    head, rows = [""], []
    for key in keys:
        name, batch = key.split(" batch=")
        head += [f"{NETWORKS[name].title}, batch {batch}", "first call"]
    for name in CONTESTANTS:
        cells = []
        for key in keys:
            used, base = results.bytes(key, name), results.bytes(key, "gradient")
            first = results.bytes(key, name, "first")
            factor = f" ({used / base:.2f})" if used is not None and base else ""
            cells += ["–" if used is None else f"{used / 1e6:.0f}{factor}"]
            cells += ["–" if first is None else f"{first / 1e6:.0f}"]
        if set(cells) != {"–"}:
            rows.append([title(name), *cells])
    lines += table(head, rows)
    reasons = {
        f"- {title(name)} was not measured: {reason}"
        for runs in results.cells["memory"].values()
        for run in runs
        for name, reason in {**run.get("absent", {}), **run.get("failed", {})}.items()
    }
    return [*lines, *sorted(reasons), *([""] if reasons else [])]


# --- growth -------------------------------------------------------------------------------------


def growth_section(results: Results, out: Path) -> list[str]:
    names = [name for name in CURVES if results.of("growth", name)]
    if not names:
        return []
    figures.curves(results, names, out / "performance_growth.png")
    lines = [
        "## Growth",
        "",
        "The exponent k of cost ∝ sizeᵏ, by least squares on logarithms: 1 is proportional growth, and "
        "less where a fixed cost still counts. For the side of images the size is the number of pixels, "
        "for depth the work of the forward pass.",
        "",
        "![Time and memory over size](performance_growth.png)",
        "",
    ]
    rows = []
    for name in names:
        run = results.of("growth", name)[-1]
        points = CURVES[name].points
        for contestant, seconds in run["seconds"].items():
            bytes_ = run["bytes"][contestant]
            rows.append(
                [
                    CURVES[name].title,
                    f"{points[0]} to {points[-1]}",
                    "input gradient" if contestant == "gradient" else f"`{contestant}`",
                    shown(exponents(run["sizes"], seconds)),
                    f"{exponent(run['sizes'], bytes_):.2f}" if min(bytes_) > 0 else "–",
                    shown(ratios(seconds[-1], seconds[0]), 1),
                ]
            )
    return [
        *lines,
        *table(
            ["what grows", "from, to", "", "k of time", "k of memory", "time, last / first"], rows
        ),
    ]


# --- fixed cost ---------------------------------------------------------------------------------


def fixed_section(results: Results) -> list[str]:
    cells = results.cells.get("fixed", {})
    builds = {key.split()[1]: runs[-1] for key, runs in cells.items() if key.startswith("build")}
    loops = {key: runs[-1] for key, runs in cells.items() if key.startswith("overhead")}
    lines = ["## Fixed cost", ""] if cells else []
    if builds:
        lines += ["Seconds, batch 1:", ""]
        steps = {"build": "to read the model and build the LRP graph", "first": "first attribution"}
        steps["later"] = "a later one"
        rows = [
            [NETWORKS[name].title, *(shown(quartiles(run["seconds"][step])) for step in steps)]
            for name, run in builds.items()
        ]
        lines += table(["", *steps.values()], rows)
    if loops:
        lines += [
            "`attribute` as a multiple of the same kernels in a straight line (what it executes was "
            "recorded and is replayed without any decision or check), and of a loop written by hand "
            "for this network and rule; batch 1, identical results:",
            "",
        ]
        rows = []
        for key, run in loops.items():
            _, name, rule = key.split()
            rows.append([NETWORKS[name].title, f"`{rule}`", str(run["kernels"])])
            rows[-1] += [overhead(run, other) for other in ("straight line", "by hand")]
        lines += table(["", "", "kernels", "/ straight line", "/ by hand"], rows)
    return lines


def overhead(run: Run, other: str) -> str:
    seconds = run["seconds"]
    return shown(ratios(seconds["attribute"], seconds[other]), 3) if other in seconds else "–"


# --- memory returned or kept --------------------------------------------------------------------


def kept_section(results: Results) -> list[str]:
    """What the allocator of the C library does to the ratios, where both were measured."""
    cells = [Cell.of(key) for key in results.cells.get("time", {})]
    pairs = [
        (Cell(cell.network, cell.batch, cell.threads), cell)
        for cell in cells
        if cell.kept and Cell(cell.network, cell.batch, cell.threads) in cells
    ]
    if not pairs:
        return []
    lines = [
        "## Memory returned, memory kept",
        "",
        "The C library returns large tensors to the system when they are freed and fetches them again, "
        "page by page. All figures above are with that default. With `--keep-memory` (`mallopt`) freed "
        "memory stays with the process. The two were measured one after the other, each in its own "
        "process:",
        "",
    ]
    rows = []
    for default, kept in pairs:
        place = f"{NETWORKS[kept.network].title}, batch {kept.batch}, {threads_of(kept.threads)}"
        for name in CONTESTANTS:
            found = [results.seconds(cell.key, name) for cell in (default, kept)]
            relative = [results.ratio(cell.key, name, "gradient") for cell in (default, kept)]
            if all(found) and all(relative):
                rows.append([place, title(name), *(shown(each, 3) for each in found)])
                rows[-1] += map(shown, relative)
    head = ["", "", "seconds, default", "seconds, kept", "× gradient, default", "× gradient, kept"]
    return [*lines, *table(head, rows)]
