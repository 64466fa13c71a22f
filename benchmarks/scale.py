"""Measure runs over data sets: ``python benchmarks/scale.py``, the numbers of docs/scale.md.

Crops of the example photographs are decoded from files and explained on EfficientNet-Lite0 by the
bare loop and by ``attribute_dataset``, interleaved, in processor time, which other work on the machine
disturbs less; one thread for each worker. The ratio of workers needs a machine that is idle otherwise.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lrp_fx import LRPFx
from lrp_fx.dataset import attribute_dataset, merge
from lrp_fx.zoo import LoadedModel, load

PHOTOGRAPHS = Path(__file__).parents[1] / "examples" / "photographs"
BATCH, TARGET = 8, 281
READY = "ready\n"
"""What a shard prints when its work can begin."""


def crops(folder: Path, count: int) -> list[Path]:
    """Files with random crops of the photographs."""
    chance = random.Random(0)
    originals = [Image.open(file).convert("RGB") for file in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    files = []
    for number in range(count):
        image = originals[number % len(originals)]
        left, top = (chance.randrange(side - 250) for side in image.size)
        file = folder / f"{number:05}.jpg"
        image.crop((left, top, left + 250, top + 250)).save(file, quality=90)
        files.append(file)
    return files


@dataclass(frozen=True)
class Cost:
    """Of one pass over the files: seconds of processor time, and bytes that were written."""

    seconds: float
    size: int = 0


def decoding(network: LoadedModel, files: list[Path]) -> Cost:
    """The part of the bare loop before the network."""
    began = time.process_time()
    for start in range(0, len(files), BATCH):
        inputs_of(network, files[start : start + BATCH])
    return Cost(time.process_time() - began)


def inputs_of(network: LoadedModel, files: list[Path]) -> Tensor:
    """The inputs of some files."""
    return torch.stack([network.preprocess(Image.open(file).convert("RGB")) for file in files])


def both(network: LoadedModel, lrp: LRPFx, files: list[Path], **options: object) -> list[Cost]:
    """A user's loop, which keeps nothing, and a run; they take turns batch by batch."""
    loop = 0.0

    def turn(done: int, total: int | None, failed: int) -> None:
        nonlocal loop
        began = time.process_time()
        lrp.attribute(inputs_of(network, files[done - BATCH : done]), TARGET)
        loop += time.process_time() - began

    with tempfile.TemporaryDirectory() as out:
        began = time.process_time()
        attribute_dataset(
            lrp,
            files[0].parent,
            Path(out) / "run",
            preprocess=network.preprocess,
            target=TARGET,
            batch_size=BATCH,
            part_size=4 * BATCH,
            progress=turn,
            **options,
        )
        seconds = time.process_time() - began - loop
        size = sum(f.stat().st_size for f in Path(out).rglob("*") if f.is_file())
    return [Cost(loop), Cost(seconds, size)]


def busy() -> tuple[float, float]:
    """Seconds of all processors since the start of the machine, and those with work."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    tick = os.sysconf("SC_CLK_TCK")
    return sum(fields) / tick, (sum(fields) - fields[3] - fields[4]) / tick


def losses(samples: int, each: float, workers: int, part: int, hours: float, start: float) -> float:
    """The share of time that lost workers cost, by simulation.

    A worker takes the next part that is missing. It is lost at a random moment, after ``hours`` in the
    mean; the part goes back to the others, and another worker begins after ``start`` seconds.

    Args:
        samples: of the data set.
        each: seconds for a sample.
        workers: how many there are.
        part: samples of a part.
        hours: the mean time until a worker is lost.
        start: seconds until it is replaced.
    """
    chance = random.Random(0)
    left, length = -(-samples // part), part * each
    free = [(0.0, chance.expovariate(1 / (3600 * hours))) for _ in range(workers)]
    heapify(free)
    last = 0.0
    while left:
        now, until = heappop(free)
        if now + length <= until:
            left -= 1
            last = max(last, now + length)
            heappush(free, (now + length, until))
        else:
            again = max(until, now) + start
            heappush(free, (again, again + chance.expovariate(1 / (3600 * hours))))
    return last / (samples * each / workers) - 1


def sharded(folder: Path, shards: int) -> float:
    """Samples a second of some processes at once, from when all have read the network."""
    count = len(list(folder.iterdir()))
    with tempfile.TemporaryDirectory() as out:
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--shard", f"{n}/{shards}", str(folder), out],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for n in range(shards)
        ]
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != READY:
                raise SystemExit("a shard ended before its work")
        began = time.perf_counter()
        for process in processes:  # all wait for this
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            process.communicate()
        rate = count / (time.perf_counter() - began)
        merge(out)
        return rate


def one_shard(shard: str, folder: Path, out: Path) -> None:
    """A shard; says when imports, weights and the capture are done, and waits for the others."""
    torch.set_num_threads(1)
    network = load("efficientnet-lite0")
    lrp = LRPFx(network.model)
    lrp.attribute(torch.zeros(BATCH, 3, 224, 224), 0)
    print(READY, end="", flush=True)
    sys.stdin.readline()
    attribute_dataset(
        lrp,
        folder,
        out,
        preprocess=network.preprocess,
        batch_size=BATCH,
        part_size=4 * BATCH,
        shard=shard,
    )


class Maps(Dataset[Tensor]):
    """Maps that the workers of a DataLoader make."""

    def __init__(self, lrp: LRPFx, count: int) -> None:
        self.lrp, self.count = lrp, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Tensor:
        return a_map(self.lrp)


def a_map(lrp: LRPFx) -> Tensor:
    """A map of one thread."""
    torch.set_num_threads(1)
    return lrp.attribute(torch.zeros(1, 3, 224, 224), TARGET)


def timed(function: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def sending() -> None:
    """Print what it costs to send an explainer to other processes."""
    lrp = LRPFx(load("efficientnet-lite0").model)
    first, next_ = timed(lambda: a_map(lrp)), timed(lambda: a_map(lrp))
    packed = pickle.dumps(lrp)
    there, back = timed(lambda: pickle.dumps(lrp)), timed(lambda: pickle.loads(packed))
    print(f"pickled {len(packed) / 1e6:.1f} MB: {there:.3f} s, and back {back:.3f} s")
    print(f"here: first map {first:.2f} s, next {next_:.2f} s")
    for method in ("fork", "spawn", "forkserver"):
        with ProcessPoolExecutor(1, get_context(method)) as pool:
            start = timed(pool.submit(os.getpid).result)
            maps = [timed(lambda: pool.submit(a_map, lrp).result()) for _ in range(2)]
        print(
            f"{method}: start {start:.2f} s, first map {maps[0]:.2f} s, sent again {maps[1]:.2f} s"
        )
    for method in ("fork", "spawn"):
        loader = DataLoader(
            Maps(lrp, 2), batch_size=None, num_workers=1, multiprocessing_context=method
        )
        found = iter(loader)
        maps = [timed(partial(next, found)) for _ in range(2)]
        print(f"DataLoader, {method}: first map {maps[0]:.2f} s, next {maps[1]:.2f} s")
    if find_spec("ray"):
        by_ray(lrp)


def by_ray(lrp: LRPFx) -> None:
    """Print what it costs to send an explainer to a worker of Ray."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    began = time.perf_counter()
    sent = ray.put(lrp)
    put = time.perf_counter() - began
    explain = ray.remote(a_map)
    maps = [timed(lambda: ray.get(explain.remote(sent))) for _ in range(2)]
    print(f"Ray: put {put:.2f} s, first task {maps[0]:.2f} s, next {maps[1]:.2f} s")
    ray.shutdown()


def main() -> None:
    """Print all numbers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("costs", "workers", "sending", "losses"))
    parser.add_argument("--shard")
    parser.add_argument("places", nargs="*", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.shard:
        one_shard(options.shard, *options.places)
        return
    with tempfile.TemporaryDirectory() as place:
        files = crops(Path(place), options.count)
        if options.only in (None, "costs"):
            costs(files, options.rounds)
        if options.only in (None, "workers"):
            for _ in range(options.rounds):
                before, one, two = busy(), sharded(Path(place), 1), sharded(Path(place), 2)
                whole, work = (now - then for now, then in zip(busy(), before, strict=True))
                print(
                    f"two workers / one worker: {two / one:.2f}; processors busy {work / whole:.0%}"
                )
    if options.only in (None, "sending"):
        sending()
    if options.only in (None, "losses"):
        for hours in (1, 10):
            share = losses(1_300_000, 0.1, 64, 64, hours, 60)
            print(f"64 workers, each lost after {hours} h: {share:.1%} more time")


def costs(files: list[Path], rounds: int) -> None:
    """Print the cost of a sample, interleaved with the bare loop."""
    network = load("efficientnet-lite0")
    lrp, count = LRPFx(network.model), len(files)
    both(network, lrp, files, keep="summary")  # imports and the capture
    for keep, dtype in (
        ("maps", "float32"),
        ("maps", "float16"),
        ("channel_sums", "float32"),
        ("channel_sums", "float16"),
        ("summary", "float32"),
    ):
        pairs = [both(network, lrp, files, keep=keep, dtype=dtype) for _ in range(rounds)]
        loop, run = (median(pair[n].seconds for pair in pairs) / count for n in (0, 1))
        share = median(a.seconds / b.seconds for a, b in pairs)
        print(
            f"{keep} {dtype}: {pairs[0][1].size / count:.0f} bytes a sample, {1000 * run:.0f} ms,"
        )
        print(f"  bare loop {1000 * loop:.0f} ms, throughput {share:.3f} of it")
    decoded = median(decoding(network, files).seconds for _ in range(rounds)) / count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"of which decoding: {1000 * decoded:.1f} ms; peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
