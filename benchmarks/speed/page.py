"""The page of all results. Its sentences are chosen from the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import aims
import figures
from cells import Cell
from contestants import CONTESTANTS
from networks import NETWORKS
from results import Results
from sections import aim_section, fixed_section, growth_section, kept_section, memory_section
from words import joined, shown, table, threads_of, title

NOTES = Path(__file__).with_name("notes.md")
ALIKE = 0.999  # cosine from which two maps count as the same
SHOWN = 110  # characters of an error


def write(results: Results, out: Path) -> None:
    """The page and its figures into a directory."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        "<!-- written by benchmarks/speed: change that, or its notes.md, not this page -->",
        "# What relevance costs",
        "",
        "Whole attributions, measured side by side, as multiples of the plain gradient of the logit for "
        "the input (`torch.autograd.grad` with frozen parameters, without a compiler). By count "
        "of convolutions and products the gradient is two forward passes, the forward and the adjoint. "
        "So is ε, which comes to 1 by that count; z⁺ has one more, for its denominators, and comes to "
        "1.5. Figures are medians of ratios that were taken within each round; in brackets the "
        "quartiles.",
        "",
        *time_sections(results, out),
        *aim_section(results),
        *memory_section(results),
        *growth_section(results, out),
        *fixed_section(results),
        *kept_section(results),
    ]
    if NOTES.exists():
        lines += [NOTES.read_text(encoding="utf-8").strip(), ""]
    lines += method_section(results)
    (out / "performance.md").write_text("\n".join(lines), encoding="utf-8")


# --- whole attributions -------------------------------------------------------------------------


def time_sections(results: Results, out: Path) -> list[str]:
    cells = [Cell.of(key) for key in results.cells.get("time", {})]
    by_network = {
        name: sorted(
            (cell for cell in cells if cell.network == name and not cell.kept),
            key=lambda cell: (cell.threads, cell.batch),
        )
        for name in NETWORKS
    }
    by_network = {name: found for name, found in by_network.items() if found}
    if not by_network:
        return []
    main = [main_cell(found) for found in by_network.values()]
    figures.bars(results, main, out / "performance.png")
    lines = [
        "## Whole attributions",
        "",
        *(f"- {main_sentence(results, cell)}" for cell in main),
        "",
    ]
    lines += ["![Time as a multiple of the input gradient](performance.png)", ""]
    for name, found in by_network.items():
        lines += [f"### {NETWORKS[name].title}", "", "As multiples of the input gradient:", ""]
        lines += ratio_table(results, found, "gradient")
        lines += ["<details><summary>As multiples of the forward pass</summary>", ""]
        lines += ratio_table(results, found, "forward")
        lines += ["</details>", "", *remarks(results, found)]
    return lines


def main_cell(cells: Sequence[Cell]) -> Cell:
    """The one that the summary speaks of: batch 8 and one thread, or what comes next to it."""
    return min(cells, key=lambda cell: (cell.threads, abs(cell.batch - aims.BATCH)))


def main_sentence(results: Results, cell: Cell) -> str:
    """Our own figures, then those of the others beside the same rules here."""
    sentences = [
        f"{NETWORKS[cell.network].title}, batch {cell.batch}, {threads_of(cell.threads)}:",
        own_sentence(results, cell),
        engine_sentence(results, cell),
        peer_sentence(results, cell),
    ]
    return " ".join(filter(None, sentences))


def own_sentence(results: Results, cell: Cell) -> str:
    found = [
        f"{contestant.title.removeprefix('lrp_fx ')}: {ratio.median:.2f}"
        for name, contestant in CONTESTANTS.items()
        if contestant.tool == "lrp_fx"
        and not name.endswith("-gradient")
        and (ratio := results.ratio(cell.key, name, "gradient"))
    ]
    return f"in units of the input gradient's time, {'; '.join(found)}." if found else ""


def engine_sentence(results: Results, cell: Cell) -> str:
    """The gradient engine beside the direct one."""
    found = [
        ratio.median
        for name, contestant in CONTESTANTS.items()
        if name.endswith("-gradient")
        and (ratio := results.ratio(cell.key, name, contestant.method))
    ]
    if not found:
        return ""
    low, high = (f"{each:.2f}" for each in (min(found), max(found)))
    factor = low if low == high else f"{low} to {high}"
    return f"The gradient engine takes {factor} times as long as the direct one."


def peer_sentence(results: Results, cell: Cell) -> str:
    found = [
        f"{contestant.title} {ratio.median:.2f}"
        + ("" if is_alike(results, cell, name) else " (for another map)")
        for name, contestant in CONTESTANTS.items()
        if contestant.tool not in ("torch", "lrp_fx")
        and (ratio := results.ratio(cell.key, name, contestant.method))
    ]
    return f"In units of the same rules here: {joined(found)}." if found else ""


def is_alike(results: Results, cell: Cell, name: str) -> bool:
    run = results.newest("time", cell.key, name)
    return run is None or agrees(run["alike"].get(name, 1.0))


def agrees(cosine: float | None) -> bool:
    """Whether two maps are multiples: who starts from one instead of the logit has another sign."""
    return cosine is not None and abs(cosine) >= ALIKE


def ratio_table(results: Results, cells: Sequence[Cell], other: str) -> list[str]:
    head = ["", *(f"batch {cell.batch}, {threads_of(cell.threads)}" for cell in cells)]
    rows = [
        [
            f"{title(other)}, seconds",
            *(shown(results.seconds(cell.key, other), 3) for cell in cells),
        ]
    ]
    for name in CONTESTANTS:
        if name == other:
            continue
        found = [results.ratio(cell.key, name, other) for cell in cells]
        if any(found):
            rows.append([title(name), *map(shown, found)])
    return table(head, rows)


def remarks(results: Results, cells: Sequence[Cell]) -> list[str]:
    """Who did not run, and whose map is another."""
    lines, said = [], set()
    for run in (run for cell in cells for run in reversed(results.of("time", cell.key))):
        for name, reason in {**run["absent"], **run["failed"]}.items():
            if name not in said and not any(results.seconds(c.key, name) for c in cells):
                text = reason if len(reason) <= SHOWN else reason[:SHOWN].rsplit(" ", 1)[0] + " …"
                lines.append(f"- {title(name)} was not measured: {text}")
                said.add(name)
        for name, cosine in run["alike"].items():
            if name not in said and not agrees(cosine):
                lines.append(
                    f"- The map of {title(name)} is not that of {title(CONTESTANTS[name].method)}: "
                    + (
                        "it holds NaN or nothing but zeros."
                        if cosine is None
                        else f"the cosine between them is {cosine:.3f}."
                    )
                )
                said.add(name)
    return [*lines, ""] if lines else []


# --- method -------------------------------------------------------------------------------------


def method_section(results: Results) -> list[str]:
    lines = ["## How this was measured", "", "```"]
    lines += [f"python benchmarks/speed {kind}" for kind in results.cells]
    lines += ["python benchmarks/speed page", "```", ""]
    for each in results.environments():
        versions = ", ".join(f"{tool} {version}" for tool, version in each["versions"].items())
        flags = ", ".join(each["flags"])
        lines += [
            f"{each['processor']} ({each['capability']}; {flags}), {each['cores']} cores; {versions}.",
            "",
        ]
    rounds = [
        len(times)
        for runs in results.cells.get("time", {}).values()
        for run in runs
        for times in run["seconds"].values()
    ]
    if rounds:
        lines += [
            f"float32, random weights, batch norms with the statistics of a batch. Each cell runs in a "
            f"process of its own, {min(rounds)} to {max(rounds)} rounds; in each round everyone runs in "
            "turn, in changing order, after one call to warm up. zennit gets its canonizers and "
            "registers its hooks once; Captum and autolrp run as documented. All rounds are in "
            "the file of results.",
            "",
        ]
    return lines
