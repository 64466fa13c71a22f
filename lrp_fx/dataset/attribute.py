"""Explaining a whole data set: one process by default, shards of it, or Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from lrp_fx._common import check_choice, check_count, check_flag, digest, is_int
from lrp_fx.attribution import LRPFx, Target, identity_of
from lrp_fx.dataset.explaining import KEEP, STORED, BatchExplainer, Keep, Stored, Task
from lrp_fx.dataset.images import Preprocess
from lrp_fx.dataset.job import Job, shard_of
from lrp_fx.dataset.loading import Batch, Form, probe
from lrp_fx.dataset.opening import open_data
from lrp_fx.dataset.progress import Progress, shown
from lrp_fx.dataset.ray_engine import run_on_ray
from lrp_fx.dataset.run import Run, open_run
from lrp_fx.dataset.sample import Sample, Source, Stream
from lrp_fx.dataset.store import Store, opened
from lrp_fx.dataset.work import Work, run_parts, run_stream, stamp_of
from lrp_fx.errors import InputError, OptionError, RunError

BATCH, PART = 16, 64
"""Samples that are explained and committed at once, if the user does not say."""
SMALL, LARGEST = 2**28, 2**31
"""The relevance of a part, in bytes: what it has at most if the user does not say, and in any case."""


def attribute_dataset(
    lrp: LRPFx,
    data: object,
    out: str | os.PathLike[str],
    *,
    target: Target | str = "predicted",
    preprocess: Preprocess | None = None,
    labels: Sequence[int] | None = None,
    key: str | None = None,
    keep: str = "maps",
    layers: Sequence[str] = (),
    dtype: str = "float32",
    batch_size: int | None = None,
    part_size: int | None = None,
    workers: int = 0,
    shard: tuple[int, int] | str | None = None,
    retry: bool = False,
    progress: bool | Progress = False,
    engine: str = "local",
    explainers: int = 1,
    address: str | None = None,
) -> Run | None:
    """Explain every sample of a data set, and keep the results on disk. Nothing is lost.

    Samples are committed in parts. If the run is interrupted in any way, the same call continues
    after the last commit, and every sample is in the results exactly once. A broken sample is
    listed in the table with its reason. There is one writer at a time, and a run continues only
    with the same model, composite, filter, target, data and version. See ``docs/data_sets.md``.

    Args:
        lrp: the attribution; its model decides the device.
        data: a folder of images, a manifest (``.csv``, ``.tsv``, ``.parquet``) that lists them,
            WebDataset shards (``.tar``), an array or tensor (N, …) (also ``.npy``, ``.h5``,
            ``.zarr``), or a data set of torch or Hugging Face.
        out: the folder of the run, on a file system with renames and locks (POSIX).
        target: ``"predicted"``, ``"label"``, or a target for all samples.
        preprocess: from a PIL image to the model's input (C, H, W). It must be picklable for workers
            that are spawned.
        labels: the classes, if the data set does not say them.
        key: the array of an HDF5 file or Zarr store, or the column of the inputs.
        keep: ``"maps"`` of the inputs' shape, ``"channel_sums"`` R.sum(1), ``"concepts"`` (the
            relevance of each channel of ``layers``, for a :class:`ConceptLRPFx`), or ``"summary"``,
            the table alone.
        layers: of the concepts.
        dtype: of the stored relevance. For float16 the column ``error`` states the rounding,
            max |R − stored| / max |R|.
        batch_size: samples that are explained at once, 16 by default. It is halved while they do not
            fit into memory.
        part_size: samples that are committed at once; rounded up to full batches. By default 64, or
            fewer if their relevance would have more than 256 MiB.
        workers: processes that read and decode images, two batches ahead each; 0 for none.
        shard: ``(i, n)`` or ``"i/n"`` computes each n-th part from the i-th, ``"auto"`` asks
            torchrun or SLURM. When all shards have ended, :func:`merge` joins them.
        retry: explain again all parts with samples that failed, or whose files changed since.
        progress: True for a bar in the terminal, which needs rich, or a function.
        engine: ``"local"``, or ``"ray"`` for Ray Data. With equal threads both give the same bits.
        explainers: with ``"ray"``, how many actors explain.
        address: with ``"ray"``, of the cluster; None for this machine.

    Returns:
        The run; None for a shard.

    Raises:
        InputError: if the data cannot be read, or if none of the first samples can be explained.
        OptionError: for an option that does not fit.
        RunError: if the folder is locked, full, or holds another run.
        KeyboardInterrupt: if the user interrupts; its text says how to continue.
        LRPError: other errors of :meth:`lrp_fx.LRPFx.attribute` that concern the model or options.
    """
    check_choice("keep", keep, KEEP)
    check_choice("dtype", dtype, STORED)
    task = Task(_plain(target), cast(Keep, keep), _layers(layers), cast(Stored, dtype))
    task.check(lrp)
    for name, count in (("batch_size", batch_size), ("part_size", part_size)):
        if count is not None:
            check_count(name, count)
    check_count("explainers", explainers)
    if not is_int(workers) or not 0 <= workers <= 1024:
        raise OptionError(f"workers must be an int from 0 to 1024, got {workers!r}")
    check_flag("retry", retry)
    check_choice("engine", engine, ("local", "ray"))
    if engine == "local" and (explainers != 1 or address is not None):
        raise OptionError("explainers= and address= are for engine='ray'")
    chosen = shard_of(shard, os.environ)
    if shard is not None and engine == "ray":
        raise OptionError("engine='ray' shares the work out itself: pass no shard")
    try:
        folder = Path(os.fsdecode(out))
        if "\0" in str(folder):
            raise ValueError
    except (TypeError, ValueError):
        raise OptionError(f"out must be the path of a folder, got {out!r}") from None
    report = shown(progress)
    source = open_data(data, preprocess=preprocess, labels=labels, key=key)
    form, samples = probe(source)
    identity = _identity(lrp, task, source, form)
    sizes = (batch_size, part_size)

    def make(found: Job | None) -> Job:
        if found is not None:
            job = _job(found, identity, source, task, sizes, found.shapes)
            found.check(folder, job)
            return found
        shapes = _shapes(lrp, task, form, samples) if task.arrays else {}
        return _job(None, identity, source, task, sizes, shapes)

    with opened(folder, make, chosen) as store:
        mine = [part for part in sorted(store.done()) if part % chosen.of == chosen.index]
        changed = [part for part in mine if store.stamp(part) != stamp_of(source, store.job, part)]
        if retry:
            store.forget({*changed, *store.failed_parts()}.intersection(mine))
        elif changed:
            raise RunError(
                f"files of the data set changed after they were explained, in {len(changed)} of the "
                f"parts of the run in '{folder}': pass retry to explain these parts again, or choose "
                "another folder"
            )
        work = Work(lrp, task, source, form, int(workers))
        with _threads(store.job.threads), _interruptible(store), ExitStack() as stack:
            stack.callback(report.stop)
            if engine == "ray":
                run_on_ray(store, work, explainers, address, report)
            elif isinstance(source, Stream):
                store = run_stream(store, work, chosen, report)
            else:
                for _ in run_parts(store, work, list(store.missing(chosen)), report):
                    pass
        if chosen.of == 1 and not store.is_finished():
            store.finish()
    return open_run(folder) if chosen.of == 1 else None


def _plain(target: Any) -> Any:
    """A target whose integers are Python's own, so that its text is the same."""
    if isinstance(target, tuple):
        return tuple(map(_plain, target))
    return int(target) if is_int(target) else target


def _layers(layers: Any) -> tuple[str, ...]:
    if isinstance(layers, str):
        return (layers,)
    if not isinstance(layers, (list, tuple)) or not all(isinstance(each, str) for each in layers):
        raise OptionError(f"layers must be a list of paths of layers, got {layers!r}")
    return tuple(layers)


def _identity(lrp: LRPFx, task: Task, source: Source | Stream, form: Form) -> dict[str, str]:
    """The causes of the results of a run, by their names in a sentence."""
    return {
        **identity_of(lrp),
        "target": repr(task.target),
        "list of layers": ", ".join(task.layers),
        "data set": digest(source.content()),
        "form of the inputs": f"{form.shape} {form.dtype}",
    }


def _job(
    found: Job | None,
    identity: Mapping[str, str],
    source: Source | Stream,
    task: Task,
    sizes: tuple[int | None, int | None],
    shapes: Mapping[str, tuple[int, ...]],
) -> Job:
    """The job that a call asks for; options that it leaves open are those of the existing job."""
    batch_size, part_size = sizes
    batch = int(batch_size or (found.batch_size if found else BATCH))
    sample = max(map(prod, shapes.values()), default=0) * np.dtype(task.dtype).itemsize
    if part_size is None and found is not None:
        part = found.part_size
    else:
        wanted = int(part_size or max(min(PART, SMALL // max(sample, 1)), 1))
        part = -(-wanted // batch) * batch
    if part * sample > LARGEST:
        raise OptionError(
            f"the relevance of a part of {part} samples would have {part * sample / 2**30:.3g} GiB, "
            "which are in memory at once: choose a smaller part_size and batch_size"
        )
    return Job(
        identity=identity,
        count=None if isinstance(source, Stream) else len(source),
        batch_size=batch,
        part_size=part,
        threads=torch.get_num_threads(),
        keep=task.keep,
        dtype=task.dtype,
        shapes=shapes,
        names=source.names,
    )


def _shapes(
    lrp: LRPFx, task: Task, form: Form, samples: Sequence[Sample]
) -> dict[str, tuple[int, ...]]:
    """The shape of each array, by the first sample that can be explained.

    Raises:
        InputError: if none can be.
    """
    explainer, reason = BatchExplainer(lrp, task), "they do not fit"
    for sample in samples:
        assert sample.inputs is not None
        batch = Batch(0, [sample.id], [sample.label], [None], sample.inputs[None])
        (record,) = explainer.explain(batch)
        if record.values:
            shapes = (value.shape for value in record.values)
            return dict(zip(task.arrays, shapes, strict=True))
        reason = record.row["reason"] or reason
    raise InputError(
        f"none of the first {len(samples)} samples that can be read can be explained: {reason}"
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with the threads of the job, which decide the last bits."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


@contextmanager
def _interruptible(store: Store) -> Iterator[None]:
    """Say in an interrupt what is safe, and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        parts = "" if store.job.parts is None else f" of {store.job.parts}"
        raise KeyboardInterrupt(
            f"interrupted: {len(store.done())}{parts} parts are committed in '{store.folder}'; run the "
            "same again to continue"
        ) from None
