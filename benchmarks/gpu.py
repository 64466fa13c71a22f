"""What relevance costs on a GPU: latency, throughput, peak memory, and whether the maps equal the CPU's.

    python benchmarks/gpu.py --out docs/performance.md
    python benchmarks/gpu.py --models vgg16 --batches 1 32 --dtypes bfloat16
    python benchmarks/gpu.py --device cpu --models resnet18 --batches 2    # tries the script itself

A cell is a network, a batch size and a dtype, in a process of its own. All contestants run in turn, and
the program waits for the device before and behind each block of calls. ``graph`` replays a CUDA graph of
the same call: the kernels alone. The results are CSV, one line for each contestant of each cell.
"""

from __future__ import annotations

import copy
import csv
import gc
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import torch
from harness.contestants import CONTESTANTS, TARGET, Call, Contestant, chosen, first_line, quietly
from harness.networks import NETWORKS, RESNETS, Network
from harness.tables import options, put, say, table
from harness.timing import alone, environment, interleaved, quartiles, ratios
from torch import Tensor, nn

from lrp_fx import LRPFx

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SAME = 1e-4
"""Of max |R|: by how much a map may differ from that of the CPU, in float32."""
COMPARED = 4  # samples at most, because the CPU is slow
POST = Network("linear", "linear 512 → 256", "convolutional", lambda: nn.Linear(512, 256))
"""The layer that the blog post of 2021 measured."""
MODELS = {"linear": POST, **NETWORKS, **RESNETS}


@dataclass(frozen=True)
class Figure:
    """What one contestant took in one cell.

    Args:
        device: its name.
        torch: the version.
        network: its name.
        batch: samples in a call.
        dtype: of the model and the inputs.
        contestant: its name.
        milliseconds: the median of a call.
        low: the first quartile.
        high: the third quartile.
        per_gradient: the median of the ratios to the input gradient of the same round.
        megabytes: the most memory that torch held in a call, beyond the model and the inputs.
        error: max |R − R of the CPU| of max |R|; empty where it was not compared.
        failed: why there are no figures; empty if there are.
    """

    device: str
    torch: str
    network: str
    batch: int
    dtype: str
    contestant: str
    milliseconds: float | str = ""
    low: float | str = ""
    high: float | str = ""
    per_gradient: float | str = ""
    megabytes: float | str = ""
    error: float | str = ""
    failed: str = ""


def inputs(network: Network, batch: int) -> Tensor:
    if network is POST:
        return torch.randn(batch, 512, generator=torch.Generator().manual_seed(1))
    return network.inputs(batch)


def replayed(model: nn.Module, composite: str, x: Tensor) -> Call:
    """The call as a CUDA graph, for inputs in the memory of ``x``."""
    lrp = LRPFx(model, composite, check_finite=False)  # a graph cannot wait for a flag
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            lrp.attribute(x, TARGET)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        relevance = lrp.attribute(x, TARGET)

    def call(_: Tensor) -> Tensor:
        graph.replay()
        return relevance

    return call


def entrants(network: Network, x: Tensor, only: list[str] | None) -> Iterator[Contestant]:
    """The contestants, and each composite of this library once more as a CUDA graph."""
    for contestant in chosen(network, only):
        yield contestant
        if contestant.tool == "lrp_fx" and contestant.name == contestant.method and x.is_cuda:
            method = contestant.method
            yield Contestant(
                f"{method}-graph",
                "lrp_fx",
                method,
                f"{contestant.title}, CUDA graph",
                lambda _, model, method=method: replayed(model, method, x),
                contestant.kinds,
            )


def run(
    device: str,
    name: str,
    batch: int,
    dtype: str,
    effort: tuple[float, Any],
    only: list[str] | None,
) -> list[Figure]:
    """Measure a cell."""
    quietly()
    network, kind = MODELS[name], DTYPES[dtype]
    exact, given = network.make(), inputs(network, batch)
    model = copy.deepcopy(exact).to(device, kind)
    x = given.to(device) if network.kind == "text" else given.to(device, kind)
    words = torch.cuda.get_device_name(device) if x.is_cuda else environment()["processor"]
    place = (words, torch.__version__, name, batch, dtype)
    calls: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {}
    maps: dict[str, Tensor] = {}  # of the CPU
    for contestant in entrants(network, x, only):
        try:
            call = contestant.call(network, model)
            call(x)
            found[contestant.name] = {"megabytes": megabytes(call, x)}
            if contestant.tool == "lrp_fx" and kind == torch.float32:
                few = given[:COMPARED]
                if contestant.method not in maps:
                    maps[contestant.method] = CONTESTANTS[contestant.method].call(network, exact)(
                        few
                    )
                error = distance(call(x)[:COMPARED].cpu(), maps[contestant.method])
                found[contestant.name]["error"] = error
        except Exception as error:  # whatever another tool raises is its result here
            found[contestant.name] = {"failed": first_line(error)}
            continue
        finally:
            gc.collect()
        calls[contestant.name] = lambda call=call: call(x)
    seconds, rounds = effort
    times = interleaved(calls, rounds, seconds)
    for contestant_name, each in times.items():
        low, median, high = (1e3 * value for value in quartiles(each))
        found[contestant_name] |= {"milliseconds": median, "low": low, "high": high}
        found[contestant_name]["per_gradient"] = ratios(each, times["gradient"]).median
    return [Figure(*place, contestant_name, **parts) for contestant_name, parts in found.items()]


def distance(mine: Tensor, exact: Tensor) -> float:
    return float((mine.double() - exact.double()).abs().max() / exact.double().abs().max())


def megabytes(call: Call, x: Tensor) -> float | str:
    """The peak of one call beyond what is held before it."""
    if not x.is_cuda:
        return ""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call(x)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def tables(found: list[Figure]) -> list[str]:
    """A row for each contestant of each cell."""
    head = ["network", "batch", "dtype", "", "ms", "samples/s", "× gradient", "MB", "error"]
    rows = []
    for each in found:
        cells = [MODELS[each.network].title, str(each.batch), each.dtype, each.contestant]
        if isinstance(each.milliseconds, str):
            rows.append([*cells, each.failed, *[""] * 4])
            continue
        per_second = 1e3 * each.batch / each.milliseconds
        spread = f"{each.milliseconds:.3g} ({each.low:.3g} to {each.high:.3g})"
        figures = [spread, f"{per_second:,.0f}", f"{each.per_gradient:.2f}"]
        memory = f"{each.megabytes:.0f}" if each.megabytes != "" else "–"
        rows.append([*cells, *figures, memory, f"{each.error:.0e}" if each.error != "" else "–"])
    return table(head, rows, "lrllrrrrr")


def write(path: Path, found: list[Figure]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Figure)])
        writer.writeheader()
        writer.writerows(map(asdict, found))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["linear", *NETWORKS])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="CONTESTANT")
    parser.add_argument("--seconds", type=float, default=20, help="for all rounds of one cell")
    parser.add_argument("--rounds", type=int, nargs=2, default=(5, 51), metavar=("MIN", "MAX"))
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/results/gpu.csv"))
    chosen_ = parser.parse_args()
    if chosen_.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device: the GPU benchmark is left out")
    found: list[Figure] = []
    for name, batch, dtype in product(chosen_.models, chosen_.batches, chosen_.dtypes):
        effort = chosen_.seconds, tuple(chosen_.rounds)
        try:
            found += alone(run, chosen_.device, name, batch, dtype, effort, chosen_.only)
        except ChildProcessError as error:  # most likely for want of memory
            say(f"{name} batch={batch} {dtype}: {error}")
            continue
        write(chosen_.csv, found)
    put(chosen_.out, "gpu", {"": tables(found)})
    wrong = [each for each in found if isinstance(each.error, float) and not each.error <= SAME]
    for each in wrong:
        place = f"{each.network} batch={each.batch} {each.contestant}"
        say(f"{place}: differs from the CPU by {each.error:.1e} of max |R|")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
