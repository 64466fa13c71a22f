"""Measure runs over data sets: ``python benchmarks/scale.py``, the numbers of docs/scale.md.

Crops of the example photographs are decoded from files and explained on EfficientNet-Lite0 by the
bare loop and by ``attribute_dataset``, interleaved; one thread for each worker.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from lrp_fx import LRPFx
from lrp_fx.dataset import attribute_dataset, merge
from lrp_fx.zoo import load

PHOTOGRAPHS = Path(__file__).parents[1] / "examples" / "photographs"
BATCH = 8


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


def bare(files: list[Path]) -> float:
    """Samples a second of the loop that a user would write."""
    network = load("efficientnet-lite0")
    lrp = LRPFx(network.model)
    began = time.perf_counter()
    for start in range(0, len(files), BATCH):
        images = [Image.open(file) for file in files[start : start + BATCH]]
        x = torch.stack([network.preprocess(image) for image in images])
        with torch.no_grad():
            target = network.model(x).argmax(1)
        lrp.attribute(x, target)
    return len(files) / (time.perf_counter() - began)


def local(folder: Path, **options: object) -> tuple[float, int]:
    """Samples a second of a run, and the bytes that it wrote."""
    network = load("efficientnet-lite0")
    count = len(list(folder.iterdir()))
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        attribute_dataset(
            LRPFx(network.model),
            folder,
            Path(out) / "run",
            preprocess=network.preprocess,
            batch_size=BATCH,
            part_size=4 * BATCH,
            **options,
        )
        rate = count / (time.perf_counter() - began)
        return rate, sum(f.stat().st_size for f in Path(out).rglob("*") if f.is_file())


def sharded(folder: Path, shards: int) -> float:
    """Samples a second of some processes at once, without their start."""
    count = len(list(folder.iterdir()))
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--shard", f"{n}/{shards}", str(folder), out],
                stdout=subprocess.PIPE,
            )
            for n in range(shards)
        ]
        started = [float(p.communicate()[0]) for p in processes]
        rate = count / (time.perf_counter() - began - max(started))
        merge(out)
        return rate


def one_shard(shard: str, folder: Path, out: Path) -> None:
    """A shard; prints how long imports, weights and the capture took."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    network = load("efficientnet-lite0")
    lrp = LRPFx(network.model)
    lrp.attribute(torch.zeros(BATCH, 3, 224, 224), 0)
    print(time.perf_counter() - began)
    attribute_dataset(
        lrp,
        folder,
        out,
        preprocess=network.preprocess,
        batch_size=BATCH,
        part_size=4 * BATCH,
        shard=shard,
    )


def main() -> None:
    """Print all numbers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard")
    parser.add_argument("places", nargs="*", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.shard:
        one_shard(options.shard, *options.places)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = crops(folder, options.count)
        bare(files[:BATCH])
        pairs = [(bare(files), local(folder)[0]) for _ in range(options.rounds)]
        print(
            f"bare loop {median(a for a, _ in pairs):.2f}/s, run {median(b for _, b in pairs):.2f}/s"
        )
        print(f"ratio {median(b / a for a, b in pairs):.3f}")
        for keep, dtype in (
            ("maps", "float32"),
            ("maps", "float16"),
            ("channel_sums", "float32"),
            ("channel_sums", "float16"),
            ("summary", "float32"),
        ):
            rate, size = local(folder, keep=keep, dtype=dtype)
            print(f"{keep} {dtype}: {size / options.count:.0f} bytes a sample, {rate:.2f}/s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory {peak:.0f} MB after all of it, {os.cpu_count()} cores")
        if options.rounds > 1:
            rates = [(sharded(folder, 1), sharded(folder, 2)) for _ in range(options.rounds)]
            print(f"two workers / one worker: {median(b / a for a, b in rates):.2f}")


if __name__ == "__main__":
    main()
