"""The work of a run: explains parts of a data set, and commits each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lrp_fx._common import digest
from lrp_fx.attribution import LRPFx
from lrp_fx.dataset.explaining import BatchExplainer, Record, Task
from lrp_fx.dataset.job import Job, Shard
from lrp_fx.dataset.loading import Form, batches, stream_batches
from lrp_fx.dataset.progress import Report
from lrp_fx.dataset.sample import Source, Stream
from lrp_fx.dataset.store import Store
from lrp_fx.errors import InputError


@dataclass(frozen=True)
class Work:
    """All that a worker needs; it can be pickled.

    Args:
        lrp: the attribution.
        task: the computation.
        source: the samples.
        form: what samples must be like.
        workers: the processes that read and decode for it.
    """

    lrp: LRPFx
    task: Task
    source: Source | Stream
    form: Form
    workers: int = 0


def run_parts(
    store: Store, work: Work, parts: Sequence[int], report: Report
) -> Iterator[tuple[int, int]]:
    """Compute and commit parts.

    Args:
        store: where they go.
        work: the work of the run.
        parts: their numbers.
        report: of the progress.

    Yields:
        The number of each committed part, and how many of its samples failed.
    """
    assert not isinstance(work.source, Stream)
    explainer = BatchExplainer(work.lrp, work.task, report.say)
    ranges = [each for part in parts for each in store.job.batches(part)]
    report.start(sum(len(each) for each in ranges))
    stamps = [stamp_of(work.source, store.job, part) for part in parts]  # before files are read
    loaded = batches(work.source, ranges, work.form, workers=work.workers, pin=explainer.on_gpu)
    for part, stamp in zip(parts, stamps, strict=True):
        records: list[Record] = []
        for _ in store.job.batches(part):
            found = explainer.explain(next(loaded))
            report.advance(len(found), _failures(found))
            records += found
        store.commit(part, records, stamp)
        yield part, _failures(records)


def run_stream(store: Store, work: Work, shard: Shard, report: Report) -> Store:
    """Compute and commit the parts of a stream, which may end anywhere.

    Raises:
        InputError: if the stream has no samples.
    """
    assert isinstance(work.source, Stream)
    job, done = store.job, store.done()
    if job.count is not None and not list(store.missing(shard)):
        return store
    explainer = BatchExplainer(work.lrp, work.task, report.say)
    report.start(None)
    records: list[Record] = []
    count, part = 0, 0
    for batch in stream_batches(work.source, work.form, job.batch_size):
        part = batch.start // job.part_size
        count = batch.start + len(batch.ids)
        if part in done or part % shard.of != shard.index:
            continue
        found = explainer.explain(batch)
        report.advance(len(found), _failures(found))
        records += found
        if count == (part + 1) * job.part_size:
            store.commit(part, records)
            records = []
    if records:
        store.commit(part, records)
    if not count:
        raise InputError("the stream has no samples")
    return store.end_stream(count)


def stamp_of(source: Source | Stream, job: Job, part: int) -> str:
    """A digest of sizes and times of the files of a part; empty without files."""
    found = None if isinstance(source, Stream) else source.stamp(job.samples(part))
    return "" if found is None else digest(found)


def _failures(records: Sequence[Record]) -> int:
    return sum(record.row["status"] != "ok" for record in records)
