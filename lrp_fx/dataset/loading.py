"""Reading ahead: batches of samples, decoded by worker processes, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lrp_fx._common import all_finite
from lrp_fx.dataset.objects import reason_of
from lrp_fx.dataset.sample import Sample, Source, Stream
from lrp_fx.errors import InputError, RunError, lacks_memory

PROBED = 16
"""The number of first samples that decide the shape of all samples."""


@dataclass(frozen=True)
class Form:
    """The common form of all samples, so that they fit into one array.

    Args:
        shape: of the inputs, without the batch dimension.
        dtype: of the inputs.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    def fault(self, inputs: Tensor) -> str | None:
        """Why inputs do not fit; None if they do."""
        if tuple(inputs.shape) != self.shape:
            return f"the inputs have shape {tuple(inputs.shape)}, those of the run {self.shape}"
        if inputs.dtype != self.dtype:
            return f"the inputs have dtype {inputs.dtype}, those of the run {self.dtype}"
        if inputs.is_floating_point() and not all_finite(inputs):
            return "the inputs hold NaN or infinity"
        return None


@dataclass
class Batch:
    """Consecutive samples of a data set.

    Args:
        start: the number of the first one.
        ids: of all samples.
        labels: of all samples.
        reasons: why a sample is broken; None for a whole one.
        inputs: of the whole samples, (n, …); None if there are none.
    """

    start: int
    ids: list[str]
    labels: list[int | None]
    reasons: list[str | None]
    inputs: Tensor | None

    def pin_memory(self) -> Batch:
        """Called by torch's loader, so that the copy to a GPU does not wait."""
        self.inputs = None if self.inputs is None else self.inputs.pin_memory()
        return self


class _Reader(Dataset[tuple[int, Sample]]):
    """A source whose broken samples carry a reason instead of raising."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, index: int) -> tuple[int, Sample]:
        return index, read(self.source, index)


def read(source: Source, index: int) -> Sample:
    """A sample, or the reason why there is none."""
    try:
        return source.read(index)
    except Exception as error:
        if lacks_memory(error):
            raise
        return Sample(source.name(index), None, None, reason_of(error))


class _Gather:
    """Puts samples together; done in the worker, so that one tensor travels for each batch."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def __call__(self, samples: Sequence[tuple[int, Sample]]) -> Batch:
        reasons: list[str | None] = []
        whole: list[Tensor] = []
        for _, sample in samples:
            reason = sample.reason
            if sample.inputs is not None:
                reason = self.form.fault(sample.inputs)
                if reason is None:
                    whole.append(sample.inputs.detach())
            reasons.append(reason)
        found = [sample for _, sample in samples]
        return Batch(
            samples[0][0],
            [each.id for each in found],
            [each.label for each in found],
            reasons,
            torch.stack(whole) if whole else None,
        )


def batches(
    source: Source, ranges: Iterable[range], form: Form, *, workers: int = 0, pin: bool = False
) -> Iterator[Batch]:
    """The batches of a data set, two for each worker read ahead.

    Args:
        source: the data set.
        ranges: the numbers of the samples of each batch.
        form: what samples must be like.
        workers: the number of processes that read and decode; 0 to do it in this one.
        pin: whether the batches go to a GPU.

    Raises:
        RunError: if a worker dies.
    """
    gather = _Gather(form)
    if not workers:
        for each in ranges:
            yield gather([(index, read(source, index)) for index in each])
        return
    loader: DataLoader[Any] = DataLoader(
        _Reader(source),
        batch_sampler=[list(each) for each in ranges],
        num_workers=workers,
        collate_fn=gather,
        pin_memory=pin,
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or lacks_memory(error):
            raise
        raise RunError(
            "a process that reads the data set was killed, perhaps for lack of memory: run the same "
            "again, with fewer workers"
        ) from error


def stream_batches(stream: Stream, form: Form, size: int, start: int = 0) -> Iterator[Batch]:
    """The batches of a stream.

    Args:
        stream: the data set.
        form: what samples must be like.
        size: of a batch.
        start: the number of the first sample that is wanted.
    """
    gather, place = _Gather(form), start
    samples = islice(stream.samples(), start, None)
    while found := list(islice(samples, size)):
        yield gather([(place + n, each) for n, each in enumerate(found)])
        place += len(found)


def probe(source: Source | Stream) -> tuple[Form, list[Sample]]:
    """The most common form of the first samples, and those samples that have it.

    Raises:
        InputError: if none of them can be read.
    """
    if isinstance(source, Stream):
        found = list(islice(source.samples(), PROBED))
    else:
        found = [read(source, index) for index in range(min(PROBED, len(source)))]
    whole = [each for each in found if each.inputs is not None]
    forms = Counter(
        Form(tuple(x.shape), x.dtype) for each in whole if (x := each.inputs) is not None
    )
    if not forms:
        first = found[0].reason if found else "there are none"
        raise InputError(f"none of the first {len(found)} samples can be read: {first}")
    form = forms.most_common(1)[0][0]
    faults = [form.fault(each.inputs) for each in whole if each.inputs is not None]
    if all(faults):
        raise InputError(f"none of the first {len(found)} samples can be explained: {faults[0]}")
    return form, [each for each, fault in zip(whole, faults, strict=True) if not fault]
