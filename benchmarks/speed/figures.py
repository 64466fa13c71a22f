"""The figures of the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cells import Cell
from contestants import CONTESTANTS
from growth import CURVES
from networks import NETWORKS
from results import Results
from timing import quartiles

COLORS = {
    "torch": "#8c8c8c",
    "lrp_fx": "#4c72b0",
    "zennit": "#dd8452",
    "Captum": "#55a868",
    "autolrp": "#c44e52",
}


def plain(title: str) -> str:
    return title.replace("`", "")


def bars(results: Results, cells: Sequence[Cell], path: Path) -> None:
    """Time as a multiple of the input gradient's, one panel for each cell."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

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
        medians = [ratio.median for _, ratio in found]
        spread = [
            [ratio.median - ratio.low for _, ratio in found],
            [ratio.high - ratio.median for _, ratio in found],
        ]
        colors = [COLORS[contestant.tool] for contestant, _ in found]
        axes.barh(range(len(found)), medians, 0.7, xerr=spread, color=colors, ecolor="#333333")
        for place, (_, ratio) in enumerate(found):
            axes.text(ratio.high, place, f"  {ratio.median:.2f}", va="center", fontsize=7)
        axes.axvline(1, color="#333333", linewidth=1)
        axes.set_yticks(range(len(found)), [plain(c.title) for c, _ in found], fontsize=7)
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


def curves(results: Results, names: Sequence[str], path: Path) -> None:
    """Time (above) and peak memory (below) over size, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(names), 5), layout="constrained")
    panels = figure.subplots(2, len(names), squeeze=False)
    for column, name in enumerate(names):
        curve, run = CURVES[name], results.of("growth", name)[-1]
        for contestant in run["seconds"]:
            times = [quartiles(each).median for each in run["seconds"][contestant]]
            color = COLORS["torch"] if contestant == "gradient" else None
            megabytes = [each / 1e6 for each in run["bytes"][contestant]]
            for axes, values in zip(panels[:, column], (times, megabytes), strict=True):
                axes.loglog(run["sizes"], values, "o-", markersize=3, label=contestant, color=color)
        for axes in panels[:, column]:
            axes.set_xticks(run["sizes"], map(str, curve.points), fontsize=7)
            axes.minorticks_off()
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0, column].set_title(curve.title, fontsize=8)
        panels[0, column].legend(fontsize=7, frameon=False)
        panels[1, column].set_xlabel(curve.unit, fontsize=8)
    panels[0, 0].set_ylabel("seconds", fontsize=8)
    panels[1, 0].set_ylabel("peak memory, MB", fontsize=8)
    figure.savefig(path, dpi=110)
