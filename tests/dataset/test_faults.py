"""Nothing is lost: kills, full disks, interrupts, broken samples, two writers, another explainer."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lrp_fx._common as storage
from lrp_fx import LRPFx
from lrp_fx.dataset import attribute_dataset, merge, open_run
from lrp_fx.dataset.job import LAYOUT
from lrp_fx.errors import RunError
from tests.dataset.helpers import classifier, pictures, preprocess, same, samples

ROOT = Path(__file__).parents[2]
COUNT = 120
OPTIONS: dict[str, Any] = {"batch_size": 4, "part_size": 4}

PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from lrp_fx import LRPFx
from lrp_fx.dataset import attribute_dataset
from tests.dataset.helpers import classifier, samples
lrp, x = LRPFx(classifier()), samples(int(sys.argv[2]))
print("ready", flush=True)
attribute_dataset(lrp, x, sys.argv[1], batch_size=4, part_size=4)
"""


def started(run: Path, count: int = COUNT) -> subprocess.Popen[bytes]:
    """A process that explains the samples, when its work begins."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(run), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", process.communicate()
    return process


def killed_and_resumed(place: Path, kills: int, count: int) -> int:
    """Kill a run at random moments, then let it end in this process.

    So its identity is that of another process: a digest that depended on addresses or on the order of
    sets would refuse each resume.

    Returns:
        How many of the kills came before the end.
    """
    chance, early = random.Random(0), 0
    torch.set_num_threads(1)
    expected = attribute_dataset(LRPFx(classifier()), samples(count), place / "whole", **OPTIONS)
    assert expected is not None
    for _ in range(kills):
        process = started(place / "run", count)
        time.sleep(chance.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        early += process.wait() == -signal.SIGKILL
        process.communicate()
    found = attribute_dataset(LRPFx(classifier()), samples(count), place / "run", **OPTIONS)
    assert found is not None
    assert found.column("index") == list(range(count))
    assert same(found, expected)
    left = [path.name for path in (place / "run").rglob("*") if path.name.endswith(storage.PART)]
    assert not left
    return early


def test_a_killed_run_goes_on_and_has_every_sample_once(tmp_path: Path) -> None:
    assert killed_and_resumed(tmp_path, 1, COUNT)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    assert killed_and_resumed(tmp_path, 20, 2000) >= 10


@pytest.mark.parametrize("when", range(0, 14, 3))
def test_a_full_disk_ends_in_a_sentence_and_can_be_resumed(
    when: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever write fails: the sentence, no half of a file, and after that a whole run."""
    lrp, x = LRPFx(classifier()), samples(16)
    expected = attribute_dataset(lrp, x, tmp_path / "whole", **OPTIONS)
    assert expected is not None
    writes, synchronize = 0, os.fsync

    def full(handle: int) -> None:
        nonlocal writes
        writes += 1
        if writes > when:
            raise OSError(errno.ENOSPC, "No space left on device")
        synchronize(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"the disk is full: .*run the same again"):
        attribute_dataset(lrp, x, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    found = attribute_dataset(lrp, x, tmp_path / "run", **OPTIONS)
    assert found is not None
    assert same(found, expected)


@pytest.mark.slow
def test_a_limit_of_the_size_of_files(tmp_path: Path) -> None:
    """As on a full disk, by the system itself."""
    program = PROGRAM.replace(
        "print(",
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\nprint(",
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run"), "16"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        check=False,
    )
    assert ended.returncode == 1
    assert "lrp_fx.errors.RunError: the disk is full" in ended.stderr
    run = attribute_dataset(LRPFx(classifier()), samples(16), tmp_path / "run", **OPTIONS)
    assert run is not None
    assert run.failed == 0


@pytest.mark.slow
def test_a_small_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system in memory, where the user may mount one; resumed after room was made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a disk")
    try:
        lrp, x = LRPFx(classifier()), samples(600)
        with pytest.raises(RunError, match=r"the disk is full: .*run the same again"):
            attribute_dataset(lrp, x, disk / "run", **OPTIONS)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        run = attribute_dataset(lrp, x, disk / "run", **OPTIONS)
        whole = attribute_dataset(lrp, x, tmp_path / "whole", **OPTIONS)
        assert run is not None
        assert whole is not None
        assert same(run, whole)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_interrupt_says_what_is_safe(tmp_path: Path) -> None:
    lrp, x = LRPFx(classifier()), samples(16)
    calls = 0

    def interrupt(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match=r"2 of 4 parts are committed .* run the same again"
    ):
        attribute_dataset(lrp, x, tmp_path / "run", progress=interrupt, **OPTIONS)
    with pytest.raises(RunError, match="not complete"):
        open_run(tmp_path / "run")
    told: list[Any] = []
    run = attribute_dataset(lrp, x, tmp_path / "run", progress=lambda *a: told.append(a), **OPTIONS)
    assert run is not None
    assert told[-1] == (8, 8, 0)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    lrp, x, refused = LRPFx(classifier()), samples(16), []

    def second(*_: object) -> None:
        for shard in (None, "0/2"):
            with pytest.raises(RunError, match="another process or thread is writing to"):
                attribute_dataset(lrp, x, tmp_path / "run", shard=shard, **OPTIONS)
            refused.append(shard)
        with pytest.raises(RunError, match="another process or thread"):
            merge(tmp_path / "run")

    run = attribute_dataset(lrp, x, tmp_path / "run", progress=second, **OPTIONS)
    assert run is not None
    assert len(refused) == 8


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both start together: one is refused or both end well, and nothing is there twice."""
    processes = [started(tmp_path / "run") for _ in range(2)]
    errors = [process.communicate()[1].decode() for process in processes]
    assert 0 in [process.returncode for process in processes]
    for process, error in zip(processes, errors, strict=True):
        assert process.returncode == 0 or "RunError: another process" in error, error
    assert open_run(tmp_path / "run").column("index") == list(range(COUNT))


MERGES = """
import os, shutil, sys
from pathlib import Path
from lrp_fx.dataset import merge

place, synchronize, when = Path(sys.argv[1]), os.fsync, 0
while True:
    shutil.rmtree(place / "goal", ignore_errors=True)
    shutil.copytree(place / "0", place / "goal")
    process = os.fork()
    if not process:
        writes = 0

        def killed(handle):
            global writes
            if writes == when:
                os._exit(9)
            writes += 1
            synchronize(handle)

        os.fsync = killed
        merge(place / "goal", [place / "1"])
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    shutil.copytree(place / "goal", place / f"killed{when}")
    if ended != 9:
        raise SystemExit(ended)
    when += 1
"""


def test_a_killed_merge_goes_on(tmp_path: Path) -> None:
    """Killed before each of its writes: the next merge has every sample once."""
    lrp, x = LRPFx(classifier()), samples(16)
    expected = attribute_dataset(lrp, x, tmp_path / "whole", **OPTIONS)
    assert expected is not None
    for n in (0, 1):
        attribute_dataset(lrp, x, tmp_path / str(n), shard=(n, 2), **OPTIONS)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MERGES, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        check=True,
    )
    killed = sorted(tmp_path.glob("killed*"))
    assert len(killed) > 4  # two parts of two files each, the table, and one that ended
    for goal in killed:
        assert same(merge(goal, [tmp_path / "1"]), expected), goal.name


OTHERS: list[tuple[str, Any]] = [
    ("model", lambda run: attribute_dataset(LRPFx(classifier(1)), samples(8), run)),
    ("composite", lambda run: attribute_dataset(LRPFx(classifier(), "epsilon"), samples(8), run)),
    ("filter", lambda run: attribute_dataset(LRPFx(classifier(), top_k=0.1), samples(8), run)),
    (
        "options",
        lambda run: attribute_dataset(LRPFx(classifier(), start="one_hot"), samples(8), run),
    ),
    ("target", lambda run: attribute_dataset(LRPFx(classifier()), samples(8), run, target=1)),
    ("data set", lambda run: attribute_dataset(LRPFx(classifier()), samples(8, seed=2), run)),
    ("keep", lambda run: attribute_dataset(LRPFx(classifier()), samples(8), run, keep="summary")),
    ("dtype", lambda run: attribute_dataset(LRPFx(classifier()), samples(8), run, dtype="float16")),
    (
        r"batch size \(16, now 4\), part size \(64, now 4\)",
        lambda run: attribute_dataset(LRPFx(classifier()), samples(8), run, **OPTIONS),
    ),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    attribute_dataset(LRPFx(classifier()), samples(8), place)
    return place


@pytest.mark.parametrize(("what", "call"), OTHERS, ids=[what[:10] for what, _ in OTHERS])
def test_another_explainer_does_not_mix(what: str, call: Any, finished: Path) -> None:
    with pytest.raises(RunError, match=f"was made with another {what}"):
        call(finished)


def test_another_version_does_not_mix(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrp_fx.attribution.identity.__version__", "9.9")
    with pytest.raises(RunError, match=r"another version of lrp_fx \(.*, now 9.9\)"):
        attribute_dataset(LRPFx(classifier()), samples(8), finished)


def test_broken_images_go_to_the_table(tmp_path: Path) -> None:
    """Five in a hundred: each with its reason, and all others as without them."""
    files = pictures(tmp_path / "data", 40)
    content = files[5].read_bytes()
    files[3].write_bytes(b"no image")
    files[5].write_bytes(content[: len(content) // 2])
    files[7].unlink()
    files[7].symlink_to("/etc/hostname")
    files[9].unlink()
    os.mkfifo(files[9])
    files[11].write_bytes(b"")
    run = attribute_dataset(
        LRPFx(classifier()), tmp_path / "data", tmp_path / "run", preprocess=preprocess
    )
    assert run is not None
    broken = [n for n, status in enumerate(run.column("status")) if status == "failed"]
    assert broken == [3, 5, 7, 9, 11]
    reasons = run.column("reason")
    assert "out of the folder" in reasons[7]
    assert reasons[9] == "it is not a regular file"
    assert all("not an image, or it is damaged" in reasons[n] for n in (3, 5, 11))
    assert np.isfinite(run.relevance(run.explained())).all()
    files[3].write_bytes(content)
    again: dict[str, Any] = {"preprocess": preprocess}
    with pytest.raises(RunError, match="changed after they were explained"):
        attribute_dataset(LRPFx(classifier()), tmp_path / "data", tmp_path / "run", **again)
    mended = attribute_dataset(
        LRPFx(classifier()), tmp_path / "data", tmp_path / "run", retry=True, **again
    )
    assert mended is not None
    assert mended.column("status")[3] == "ok"


def test_samples_of_other_shapes_and_values(tmp_path: Path) -> None:
    items: list[Any] = [(x, 1) for x in samples(12)]
    items[2] = (torch.zeros(3, 9, 8), 1)
    items[3] = (samples(1)[0].double(), 1)
    items[4] = (torch.full((3, 8, 8), float("inf")), 1)
    items[5] = (samples(1)[0], 7)
    items[6] = (samples(1)[0], None)
    items[7] = "text"
    items[8] = (samples(1)[0], "dog")

    class Sometimes(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if index == 9:
                raise ConnectionError("the server is away")
            return super().__getitem__(index)

    class Data:
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> Any:
            return Sometimes(items)[index]

    data = Data()
    run = attribute_dataset(LRPFx(classifier()), data, tmp_path / "run", target="label")
    assert run is not None
    reasons = run.column("reason")
    assert [n for n in range(12) if reasons[n]] == list(range(2, 10))
    for n, part in enumerate(
        ("shape (3, 9, 8)", "dtype torch.float64", "NaN or infinity", "out of range", "no label"), 2
    ):
        assert part in reasons[n]
    assert reasons[9] == "ConnectionError: the server is away"
    found = attribute_dataset(
        LRPFx(classifier()), data, tmp_path / "run", target="label", retry=True
    )
    assert found is not None
    assert same(found, run)


DAMAGE: list[tuple[str, bytes]] = [
    ("job.json", b"{}"),
    ("job.json", b"[" * 10**5),
    ("job.json", b"\xff\x00"),
    ("job.json", b'{"format": 1, "identity": 3}'),
    ("samples.parquet", b"PAR1"),
    ("parts/000000.parquet", b""),
    ("relevance.zarr/relevance/c.0.0.0.0", b"x" * 99),
    ("relevance.zarr/relevance/zarr.json", b"{"),
]


@pytest.mark.parametrize(("name", "content"), DAMAGE)
def test_a_damaged_run_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    attribute_dataset(LRPFx(classifier()), samples(4), tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)

    def read() -> None:
        if name.startswith("parts"):
            merge(tmp_path / "run")
        run = open_run(tmp_path / "run")
        run.relevance(range(len(run)))

    with pytest.raises(RunError):
        read()


def test_a_run_of_another_layout_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunks would be misread, or mixed with others."""
    attribute_dataset(LRPFx(classifier()), samples(4), tmp_path / "run")
    monkeypatch.setattr("lrp_fx.dataset.job.LAYOUT", replace(LAYOUT, chunk_bytes=9))
    with pytest.raises(RunError, match="not a job of this version"):
        open_run(tmp_path / "run")
    with pytest.raises(RunError, match="not a job of this version"):
        attribute_dataset(LRPFx(classifier()), samples(4), tmp_path / "run")


def test_another_folder_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("dear")
    with pytest.raises(RunError, match="holds something other than a run"):
        attribute_dataset(LRPFx(classifier()), samples(4), tmp_path / "letters")
    assert os.listdir(tmp_path / "letters") == ["mine.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to"):
        attribute_dataset(LRPFx(classifier()), samples(4), tmp_path / "file")
    with pytest.raises(RunError, match="holds no run"):
        open_run(tmp_path / "letters")
