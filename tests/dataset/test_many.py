"""Many images, in processes: as the bare loop, in memory that does not grow, whoever is killed."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.dataset import Run, attribute_dataset, merge
from lrp_fx.errors import RunError
from tests.dataset.helpers import same

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ROOT / "examples" / "photographs"
FEW, MANY, BATCH = 200, 5000, 8
OPTIONS: dict[str, Any] = {"batch_size": BATCH, "part_size": 5 * BATCH}
LEAST = 0.9
"""The throughput of a run, as a share of that of the bare loop, in processor time."""
GROWTH = 32
"""Megabytes that a process may grow by while it explains thousands of images: caches of the allocator."""
BROKEN = 20
"""One image in so many is broken."""


class Network(nn.Module):
    """From (N, 3, 64, 64) to ten logits.

    Args:
        width: the channels of the first layer.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                *(
                    nn.Conv2d(3, width, 3),
                    nn.ReLU(),
                    nn.Conv2d(width, 2 * width, 3, stride=2),
                    nn.ReLU(),
                ),
                *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10)),
            )

    def forward(self, x: Tensor) -> Tensor:
        """The logits, (N, 10)."""
        return self.layers(x)


def prepare(image: Image.Image) -> Tensor:
    """The middle of a photograph."""
    left, top = (image.width - 64) // 2, (image.height - 64) // 2
    pixels = np.array(image.convert("RGB").crop((left, top, left + 64, top + 64)))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - 0.5


def crops(folder: Path, count: int) -> list[Path]:
    """Files with random crops of the photographs; five in a hundred are broken."""
    folder.mkdir()
    chance, files = random.Random(0), []
    originals = [Image.open(file).convert("RGB") for file in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    for number in range(count):
        image = originals[number % len(originals)]
        left, top = (chance.randrange(side - 80) for side in image.size)
        files.append(folder / f"{number:05}.jpg")
        image.crop((left, top, left + 80, top + 80)).save(files[-1], quality=90)
    for file in files[BROKEN - 1 :: BROKEN]:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    return files


def local(folder: Path, out: Path, **options: Any) -> Run:
    run = attribute_dataset(
        LRPFx(Network().eval()), folder, out, preprocess=prepare, **OPTIONS, **options
    )
    assert run is not None
    return run


def check_against_the_bare_loop(run: Run, files: list[Path]) -> None:
    """The same bits as ``attribute`` on the whole images of each batch."""
    lrp, model = LRPFx(Network().eval()), Network().eval()
    status = run.column("status")
    assert run.column("index") == list(range(len(files)))
    assert run.column("id") == [file.name for file in files]
    assert [n for n, each in enumerate(status) if each != "ok"] == list(
        range(BROKEN - 1, len(files), BROKEN)
    )
    for start in range(0, len(files), 10 * BATCH):
        whole = [n for n in range(start, start + BATCH) if status[n] == "ok"]
        x = torch.stack([prepare(Image.open(files[n])) for n in whole])
        expected = lrp.attribute(x, model(x).argmax(1))
        assert np.array_equal(run.relevance(whole), expected.numpy())


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def found_by_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes that others start find this file and the library."""
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
        yield


def test_two_hundred_images(tmp_path: Path, one_thread: None) -> None:
    files = crops(tmp_path / "data", FEW)
    whole = local(tmp_path / "data", tmp_path / "whole")
    check_against_the_bare_loop(whole, files)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_five_thousand_images_by_both_engines(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, sizes = crops(tmp_path / "data", MANY), []

    def watch(done: int, total: int | None, failed: int) -> None:
        sizes.append(resident())

    whole = local(tmp_path / "data", tmp_path / "whole", progress=watch)
    check_against_the_bare_loop(whole, files)
    first, last = (median(part) for part in (sizes[50:100], sizes[-50:]))
    print(f"resident memory: {first:.0f} MB after 400 to 800 images, {last:.0f} MB at the end")
    assert last - first < GROWTH
    read_ahead = local(tmp_path / "data", tmp_path / "ahead", workers=2)
    assert same(read_ahead, whole)
    pytest.importorskip("ray")
    with found_by_workers(monkeypatch):
        distributed = local(tmp_path / "data", tmp_path / "ray", engine="ray", explainers=2)
    assert same(distributed, whole)


def resident() -> float:
    """The resident memory of this process, in megabytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: the peak
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


@pytest.mark.slow
def test_a_run_is_nearly_as_fast_as_the_bare_loop(tmp_path: Path, one_thread: None) -> None:
    """In processor time, interleaved; the bare loop decodes and crops too, and keeps nothing."""
    files = crops(tmp_path / "data", 2 * FEW)
    for file in files[BROKEN - 1 :: BROKEN]:
        file.unlink()
    files = sorted((tmp_path / "data").iterdir())
    lrp = LRPFx(Network(width=80).eval())  # some 20 ms an image, a fifth of EfficientNet-Lite0

    def bare() -> None:
        for start in range(0, len(files), BATCH):
            x = torch.stack([prepare(Image.open(each)) for each in files[start : start + BATCH]])
            lrp.attribute(x, 1)

    def run(number: int) -> None:
        options: dict[str, Any] = {"preprocess": prepare, "target": 1, **OPTIONS}
        attribute_dataset(lrp, tmp_path / "data", tmp_path / f"run{number}", **options)

    def seconds(call: Callable[[], None]) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    bare()
    run(-1)  # imports
    ratios = [seconds(bare) / seconds(lambda n=n: run(n)) for n in range(3)]  # type: ignore[misc]
    print("throughput over that of the bare loop:", *(f"{each:.3f}" for each in ratios))
    assert median(ratios) > LEAST


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_workers_of_ray_that_are_killed(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty times, at random moments: each is started again, and every sample is there once."""
    pytest.importorskip("ray")
    crops(tmp_path / "data", FEW)
    whole = local(tmp_path / "data", tmp_path / "whole")
    pids, ended, killed = tmp_path / "pids", threading.Event(), []
    pids.mkdir()
    monkeypatch.setenv("PIDS", str(pids))

    def kill() -> None:
        chance = random.Random(0)
        while not ended.wait(0.05) and len(killed) < 20:
            for each in sorted(set(map(int, os.listdir(pids))) - {os.getpid(), *killed}):
                if not ended.wait(chance.uniform(0, 1)):
                    os.kill(each, signal.SIGKILL)
                    killed.append(each)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with found_by_workers(monkeypatch):
            for _ in range(20):  # Ray gives up a part that was lost too often: the same again
                try:
                    run = attribute_dataset(
                        LRPFx(Network().eval()),
                        tmp_path / "data",
                        tmp_path / "run",
                        preprocess=prepare_slowly,
                        engine="ray",
                        explainers=2,
                        batch_size=BATCH,
                        part_size=BATCH,
                    )
                    break
                except RunError as error:
                    if "run the same again" not in str(error):
                        raise
    finally:
        ended.set()
        killer.join()
    print(len(killed), "workers were killed")
    assert len(killed) >= 5
    assert run is not None
    assert same(run, whole)


def prepare_slowly(image: Image.Image) -> Tensor:
    """Notes which process reads, and takes its time."""
    Path(os.environ["PIDS"], str(os.getpid())).touch()
    time.sleep(0.02)
    return prepare(image)


PROGRAM = """
from pathlib import Path
import sys, torch
torch.set_num_threads(1)
from lrp_fx import LRPFx
from lrp_fx.dataset import attribute_dataset
from tests.dataset.test_many import OPTIONS, Network, prepare
attribute_dataset(LRPFx(Network().eval()), *sys.argv[1:], preprocess=prepare, shard="auto", **OPTIONS)
"""


@pytest.mark.slow
def test_the_recipe_of_torchrun(tmp_path: Path, one_thread: None) -> None:
    """As on the page: each process takes its shard from the environment, and ``merge`` joins them."""
    files = crops(tmp_path / "data", FEW)
    (tmp_path / "program.py").write_text(PROGRAM)
    subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node",
                "2",
            ),
            *(tmp_path / "program.py", tmp_path / "data", tmp_path / "run"),
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )
    run = merge(tmp_path / "run")
    check_against_the_bare_loop(run, files)
    assert same(run, local(tmp_path / "data", tmp_path / "whole"))
