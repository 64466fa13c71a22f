"""How time and peak memory of an attribution grow with the size of what is explained.

    python benchmarks/growth.py --out docs/performance.md
    python benchmarks/growth.py --curves batch depth

The table has the exponent k of cost ∝ size to the k, the figure the curves.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness.contestants import CONTESTANTS, quietly
from harness.figures import COLORS
from harness.memory import peak
from harness.networks import NETWORKS, RESNETS, Network
from harness.results import Results, Run, add_effort, measure, with_results
from harness.tables import put, say, shown, table
from harness.timing import Quartiles, environment, interleaved, quartiles, ratios
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lrp_fx import LRPFx


@dataclass(frozen=True)
class Curve:
    """One quantity that grows, and all else fixed.

    Args:
        title: what grows.
        points: its values.
        unit: of the points.
        contestants: who is measured.
        case: from a point to the network and the batch size.
    """

    title: str
    points: tuple[int, ...]
    unit: str
    contestants: tuple[str, ...]
    case: Callable[[int], tuple[Network, int]]


CNN = ("gradient", "epsilon_plus")
CURVES = {
    "batch": Curve(
        "batch size, ResNet-18",
        (1, 2, 4, 8, 16, 32),
        "samples",
        CNN,
        lambda batch: (RESNETS["resnet18"], batch),
    ),
    "side": Curve(
        "image side, ResNet-18",
        (112, 160, 224, 320, 448),
        "pixels a side",
        CNN,
        lambda side: (replace(RESNETS["resnet18"], side=side), 1),
    ),
    "depth": Curve(
        "depth, ResNet-18 to ResNet-152",
        (18, 34, 50, 101, 152),
        "layers, placed by forward work",
        CNN,
        lambda depth: (RESNETS[f"resnet{depth}"], 1),
    ),
    "length": Curve(
        "sequence length, BERT",
        (64, 128, 256, 512, 1024),
        "tokens",
        ("gradient", "attn_lrp"),
        lambda length: (replace(NETWORKS["bert"], length=length), 1),
    ),
    "targets": Curve(
        "number of targets, ResNet-50",
        (1, 2, 5, 10, 20),
        "targets",
        ("epsilon", "z_plus", "epsilon_plus"),
        lambda count: (RESNETS["resnet50"], 1),
    ),
}


# --- measuring ----------------------------------------------------------------------------------


def run(name: str, seconds: float, rounds: tuple[int, int], threads: int) -> Run:
    """Seconds of each round and peak bytes, of every contestant at every point.

    All points are measured in turn in each round, so that what disturbs one disturbs its neighbours.
    """
    quietly()
    torch.set_num_threads(threads)
    curve = CURVES[name]
    calls: dict[str, Callable[[], object]] = {}
    sizes = []
    for point in curve.points:
        network, batch = curve.case(point)
        model, x = network.make(), network.inputs(batch)
        sizes.append(size(name, point, model, x))
        for contestant in curve.contestants:
            call: Callable[[], object]
            if name == "targets":
                call = partial(LRPFx(model, contestant).attribute_many, x, range(point))
            else:
                call = partial(CONTESTANTS[contestant].call(network, model), x)
            call()
            calls[f"{contestant} {point}"] = call
    bytes_ = {each: peak(call) for each, call in calls.items()}
    found = interleaved(calls, rounds, seconds)

    def by_contestant(values: dict[str, Any]) -> dict[str, list[Any]]:
        return {c: [values[f"{c} {point}"] for point in curve.points] for c in curve.contestants}

    return {
        "environment": environment(),
        "sizes": sizes,
        "seconds": by_contestant(found),
        "bytes": by_contestant(bytes_),
    }


def size(name: str, point: int, model: nn.Module, x: Tensor) -> float:
    """What the cost of a point is compared with; of depth the 10⁹ multiplications forward."""
    if name != "depth":
        return float(point**2) if name == "side" else float(point)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() / 2e9


def measure_all(settings: argparse.Namespace) -> None:
    for name in settings.curves:
        began = time.perf_counter()
        effort = settings.seconds, settings.rounds, settings.threads
        found = measure(settings.results, "growth", name, run, name, *effort)
        for contestant, seconds in found["seconds"].items() if found else ():
            k = shown(exponents(found["sizes"], seconds))
            say(f"{name:8} {contestant:14} time ∝ size^{k}")
        say(f"    took {time.perf_counter() - began:.0f} s")


# --- table and figure ---------------------------------------------------------------------------


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms, by least squares."""
    x = [math.log(size) for size in sizes]
    y = [math.log(value) for value in values]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - middle_x) ** 2 for a in x)


def exponents(sizes: Sequence[float], seconds: Sequence[Sequence[float]]) -> Quartiles:
    """Of the time, one for each round."""
    return quartiles([exponent(sizes, each) for each in zip(*seconds, strict=True)])


def newest(results: Results) -> dict[str, Run]:
    return {name: results.of("growth", name)[-1] for name in CURVES if results.of("growth", name)}


def lines_of(results: Results) -> list[str]:
    rows = []
    for name, found in newest(results).items():
        curve, sizes = CURVES[name], found["sizes"]
        for contestant, seconds in found["seconds"].items():
            bytes_ = found["bytes"][contestant]
            rows.append(
                [
                    curve.title,
                    f"{curve.points[0]} to {curve.points[-1]}",
                    "input gradient" if contestant == "gradient" else f"`{contestant}`",
                    shown(exponents(sizes, seconds)),
                    f"{exponent(sizes, bytes_):.2f}" if min(bytes_) > 0 else "–",
                    shown(ratios(seconds[-1], seconds[0]), 1),
                ]
            )
    head = ["what grows", "from, to", "", "k of time", "k of memory", "time, last / first"]
    return table(head, rows)


def draw(runs: dict[str, Run], path: Path) -> None:
    """Time (above) and peak memory (below) over size, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(runs), 5), layout="constrained")
    panels = figure.subplots(2, len(runs), squeeze=False)
    for column, (name, found) in enumerate(runs.items()):
        curve = CURVES[name]
        for contestant in found["seconds"]:
            times = [quartiles(each).median for each in found["seconds"][contestant]]
            megabytes = [each / 1e6 for each in found["bytes"][contestant]]
            color = COLORS["torch"] if contestant == "gradient" else None
            for axes, values in zip(panels[:, column], (times, megabytes), strict=True):
                axes.loglog(
                    found["sizes"], values, "o-", markersize=3, label=contestant, color=color
                )
        for axes in panels[:, column]:
            axes.set_xticks(found["sizes"], map(str, curve.points), fontsize=7)
            axes.minorticks_off()
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0, column].set_title(curve.title, fontsize=8)
        panels[0, column].legend(fontsize=7, frameon=False)
        panels[1, column].set_xlabel(curve.unit, fontsize=8)
    panels[0, 0].set_ylabel("seconds", fontsize=8)
    panels[1, 0].set_ylabel("peak memory, MB", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = with_results(__doc__)
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    parser.add_argument("--threads", type=int, default=1)
    add_effort(parser, seconds=60)
    settings = parser.parse_args()
    if not settings.only_tables:
        measure_all(settings)
    results = Results.read(settings.results)
    put(settings.out, "growth", {"": lines_of(results)})
    if settings.out is not None:
        draw(newest(results), settings.out.with_name(f"{settings.out.stem}_growth.png"))


if __name__ == "__main__":
    main()
