"""The peak memory of an attribution.

    python benchmarks/memory.py --out docs/performance.md
    python benchmarks/memory.py --models vgg16 --only gradient epsilon_plus

Each contestant runs in a process of its own. There are two tables. *Resident*: what the system has
given to the process beyond the model; blocks that the C library has not given back count. *Allocated*:
what torch has allocated, by the events of its allocator, and what the contestant keeps between calls.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import torch
from harness.contestants import CONTESTANTS, Call, Contestant, chosen, first_line, quietly, title
from harness.memory import allocated, measurable, peak, resident, settle
from harness.networks import NETWORKS, Network
from harness.results import Results, Run, measure, with_results
from harness.tables import put, say, table
from harness.timing import environment
from torch import Tensor

MEASURED = [
    *("epsilon", "epsilon-recompute", "epsilon_plus", "epsilon_plus-recompute"),
    *("epsilon_plus-gradient", "z_plus", "attn_lrp", "zennit-epsilon_plus", "captum-epsilon"),
    *("autolrp-epsilon", "autolrp-epsilon_plus"),
]
"""Whose memory is measured unless others are named."""


def run(name: str, network_name: str, batch: int, threads: int) -> Run:
    """The bytes by which one contestant's peak is above the model alone.

    ``first`` is the peak of the first call, in which this library reads and verifies the model,
    ``bytes`` that of a later call; both count from the state with the model in memory and the
    contestant's code loaded. ``allocated`` is what a later call allocates, and what is kept.
    """
    quietly()
    torch.set_num_threads(threads)
    contestant, network = CONTESTANTS[name], NETWORKS[network_name]
    found: Run = {"environment": environment(), "bytes": {}, "first": {}, "allocated": {}}
    try:
        tiny = network.tiny()
        contestant.make(tiny, tiny.make())(tiny.inputs(1))
        own, x = network.make(), network.inputs(batch)
        settle()
        base = resident()
        call = contestant.make(network, own)
        for measured in ("first", "bytes"):
            found[measured][name] = peak(partial(call, x), base)
        found["allocated"][name] = allocated_by(contestant, network, x)
    except Exception as error:  # whatever another tool raises is its result here
        found["failed"] = {name: first_line(error)}
    return found


def allocated_by(contestant: Contestant, network: Network, x: Tensor) -> int:
    """The peak of what a later call allocates, and what stays of the preparation and first call."""
    model = network.make()
    calls: list[Call] = []

    def begin() -> None:
        calls.append(contestant.make(network, model))
        calls[0](x)

    _, stays = allocated(begin)
    largest, _ = allocated(partial(calls[0], x))
    return stays + largest


def measure_all(settings: argparse.Namespace) -> None:
    if not measurable():
        raise SystemExit("peak memory is measured on Linux only")
    for name, batch in product(settings.models, settings.batches):
        key = f"{name} batch={batch}"
        for contestant in chosen(NETWORKS[name], settings.only or MEASURED):
            arguments = contestant.name, name, batch, settings.threads
            found = measure(settings.results, "memory", key, run, *arguments)
            if found is not None:
                figures = (
                    f"{part} {found[part][contestant.name] / 1e6:.0f} MB"
                    for part in ("bytes", "first", "allocated")
                    if contestant.name in found[part]
                )
                reasons = found.get("failed", {}).values()
                say(f"{key} {contestant.name:24} {', '.join([*figures, *reasons])}")


def tables(results: Results) -> Iterator[tuple[str, list[str]]]:
    keys = list(results.cells.get("memory", {}))

    def cells(name: str, part: str, in_units: Callable[[int, int], str]) -> list[str]:
        """What one contestant took in each cell."""
        pairs = [[results.bytes(key, who, part) for who in (name, "gradient")] for key in keys]
        return [in_units(used, base) if used and base else "–" for used, base in pairs]

    def both(used: int, base: int) -> str:
        return f"{used / 1e6:.0f} ({used / base:.2f})"

    def megabytes(used: int, base: int) -> str:
        return f"{used / 1e6:.0f}"

    def ratio(used: int, base: int) -> str:
        return f"{used / base:.2f}"

    places = [(NETWORKS[key.split()[0]].title, key.rpartition("=")[2]) for key in keys]
    titles = [f"{network}, batch {batch}" for network, batch in places]
    columns = [("bytes", both), ("first", megabytes)]
    rows = [
        [title(name), *interlaced([cells(name, *column) for column in columns])]
        for name in CONTESTANTS
    ]
    yield (
        "resident",
        table(["", *interlaced([titles, ["first call"] * len(titles)])], measured(rows)),
    )
    rows = [
        [title(name), *cells(name, "allocated", megabytes if name == "gradient" else ratio)]
        for name in CONTESTANTS
    ]
    if measured(rows):
        yield "allocated", table(["", *titles], measured(rows))


def interlaced(columns: Sequence[Sequence[str]]) -> list[str]:
    """The first of each, then the second of each."""
    return [cell for each in zip(*columns, strict=True) for cell in each]


def measured(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The rows with a figure."""
    return [row for row in rows if set(row[1:]) != {"–"}]


def main() -> None:
    parser = with_results(__doc__)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=["vgg16", "resnet50"])
    parser.add_argument("--batches", type=int, nargs="+", default=[8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="CONTESTANT")
    settings = parser.parse_args()
    if not settings.only_tables:
        measure_all(settings)
    put(settings.out, "memory", dict(tables(Results.read(settings.results))))


if __name__ == "__main__":
    main()
