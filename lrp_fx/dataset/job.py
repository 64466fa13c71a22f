"""The job: what a run computes, written once and compared with every later call."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lrp_fx._common import check_count, is_int, write_whole
from lrp_fx.attribution import check_same
from lrp_fx.dataset.explaining import KEEP, STORED, Keep, Stored
from lrp_fx.errors import OptionError, RunError


@dataclass(frozen=True)
class Layout:
    """How a folder is written. One that was written in another way is refused, not misread.

    Args:
        version: of the files and their fields.
        chunk_bytes: of a chunk, which a reader decodes at once, unless one sample has more.
        codec: of Blosc.
        level: of the codec.
        shuffle: the order of the bits or bytes before that.
    """

    version: int = 2
    chunk_bytes: int = 2**18
    codec: Literal["zstd"] = "zstd"
    level: int = 1
    shuffle: Literal["bitshuffle"] = "bitshuffle"


LAYOUT = Layout()
FILE = "job.json"
LARGEST = 2**28
"""A longer file, in bytes, is refused before it is read."""


@dataclass(frozen=True)
class Job:
    """The computation of a run.

    Args:
        identity: digests of all that decides the results, see :func:`lrp_fx.attribution.identity_of`.
        count: how many samples there are; None while a stream has not ended.
        batch_size: samples that are explained at once.
        part_size: samples that are committed at once, a multiple of the batch size.
        threads: of each worker.
        keep: the results that are stored.
        dtype: of the stored arrays.
        shapes: of each array, by name, without the dimension of the samples.
        names: of the classes.
    """

    identity: Mapping[str, str]
    count: int | None
    batch_size: int
    part_size: int
    threads: int
    keep: Keep
    dtype: Stored
    shapes: Mapping[str, tuple[int, ...]]
    names: tuple[str, ...] = ()

    @property
    def parts(self) -> int | None:
        """How many parts the run has; None while a stream has not ended."""
        return None if self.count is None else -(-self.count // self.part_size)

    def samples(self, part: int) -> range:
        """The numbers of the samples of a part."""
        end = (part + 1) * self.part_size
        return range(part * self.part_size, end if self.count is None else min(end, self.count))

    def batches(self, part: int) -> Iterator[range]:
        """The numbers of the samples of each batch of a part."""
        samples = self.samples(part)
        for start in range(samples.start, samples.stop, self.batch_size):
            yield range(start, min(start + self.batch_size, samples.stop))

    def write(self, folder: Path) -> None:
        """Write the job into a folder.

        Raises:
            RunError: if it cannot be written.
        """
        text = json.dumps({"format": asdict(LAYOUT), **asdict(self)}, indent=1)
        write_whole(folder / FILE, text.encode())

    def check(self, folder: Path, other: Job) -> None:
        """Raise a ``RunError`` that says what is different in another job."""
        fields = ("batch_size", "part_size", "keep", "dtype")
        both = (
            {**job.identity, **{name.replace("_", " "): getattr(job, name) for name in fields}}
            for job in (self, other)
        )
        check_same(f"the run in '{folder}'", *both)


def load_job(folder: Path) -> Job:
    """The job of a folder.

    Raises:
        RunError: if there is none, or if it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise RunError(f"'{folder}' holds no run: there is no {FILE}")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError
        found = json.loads(path.read_bytes())
        if found.pop("format") != asdict(LAYOUT):
            raise ValueError
        job = Job(**found)
        shapes = {name: tuple(shape) for name, shape in job.shapes.items()}
        job = Job(**{**vars(job), "shapes": shapes, "names": tuple(map(str, job.names))})
        numbers = [job.batch_size, job.part_size, job.threads]
        numbers += [] if job.count is None else [job.count]
        sizes = [size for shape in shapes.values() for size in shape]
        fits = all(is_int(each) and each > 0 for each in (*numbers, *sizes))
        fits &= job.part_size % job.batch_size == 0 and job.keep in KEEP and job.dtype in STORED
        fits &= all(isinstance(each, str) for pair in job.identity.items() for each in pair)
        if not fits:
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(f"'{path}' is not a job of this version, or is damaged") from error
    return job


@dataclass(frozen=True)
class Shard:
    """The part of a run that one of several processes computes: parts from ``index`` in steps of ``of``.

    Args:
        index: from 0.
        of: how many processes there are.
    """

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        check_count("the number of shards", self.of)
        if not is_int(self.index) or not 0 <= self.index < self.of:
            raise OptionError(f"the shard must lie between 0 and {self.of - 1}, got {self.index!r}")

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


def shard_of(shard: object, environment: Mapping[str, str]) -> Shard:
    """The shard that a user names: ``(i, n)``, ``"i/n"``, ``"auto"``, or None for everything.

    Args:
        shard: what the user passed.
        environment: where ``"auto"`` looks: torchrun's ``RANK`` and ``WORLD_SIZE``, or SLURM's
            ``SLURM_ARRAY_TASK_ID`` with ``_MIN`` and ``_COUNT``, or ``SLURM_PROCID`` and
            ``SLURM_NTASKS``.

    Raises:
        OptionError: for anything else, or if the environment says nothing.
    """
    if shard is None:
        return Shard()
    if isinstance(shard, Shard):
        return shard
    if shard == "auto":
        return _from_environment(environment)
    parts: Sequence[Any] = ()
    if isinstance(shard, str):
        texts = shard.split("/")
        if len(texts) == 2 and all(
            each.isascii() and 0 < len(each) < 10 and each.isdigit() for each in texts
        ):
            parts = [int(each) for each in texts]
    elif isinstance(shard, (tuple, list)):
        parts = shard
    if len(parts) != 2 or not all(map(is_int, parts)):
        raise OptionError(f"shard must be 'i/n' with i from 0 to n - 1, or 'auto', got {shard!r}")
    return Shard(int(parts[0]), int(parts[1]))


def _from_environment(environment: Mapping[str, str]) -> Shard:
    pairs = (
        ("RANK", "WORLD_SIZE", None),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
        ("SLURM_PROCID", "SLURM_NTASKS", None),
    )
    for index, of, first in pairs:
        if index in environment and of in environment:
            try:
                start = int(environment.get(first, "0")) if first else 0
                return Shard(int(environment[index]) - start, int(environment[of]))
            except ValueError as error:
                raise OptionError(f"{index} and {of} must be numbers") from error
    raise OptionError(
        "shard='auto' finds neither RANK and WORLD_SIZE (torchrun) nor SLURM_ARRAY_TASK_ID and "
        "SLURM_ARRAY_TASK_COUNT (SLURM): name the shard as 'i/n'"
    )
