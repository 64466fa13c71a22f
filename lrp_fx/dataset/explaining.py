"""From a batch to rows of the table and arrays: halves batches that do not fit into memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx._common import check_choice
from lrp_fx.attribution import (
    Explanation,
    LargestTarget,
    Layer,
    LRPFx,
    Target,
    check_dim,
    explained,
    per_sample,
    takes_target,
)
from lrp_fx.concepts import ConceptLRPFx
from lrp_fx.dataset.loading import Batch
from lrp_fx.dataset.objects import reason_of
from lrp_fx.errors import (
    InputError,
    LRPError,
    NonFiniteError,
    OptionError,
    RunError,
    TargetError,
    UnexpectedError,
    lacks_memory,
)

Keep = Literal["maps", "channel_sums", "concepts", "summary"]
KEEP: tuple[Keep, ...] = ("maps", "channel_sums", "concepts", "summary")
Stored = Literal["float32", "float16"]
STORED: tuple[Stored, ...] = ("float32", "float16")
DTYPES: dict[Stored, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}
OF_SAMPLE = (InputError, TargetError, NonFiniteError, UnexpectedError)
"""Errors that one sample of a batch may cause alone; others are those of the model or the options."""


class Row(TypedDict):
    """A row of the table; the names are its columns."""

    index: int
    id: str
    label: int | None
    prediction: int | None
    target: int | None
    logit: float | None
    relevance_sum: float | None
    relevance_abs_sum: float | None
    delta: float | None
    error: float | None
    status: str
    reason: str | None
    seconds: float


@dataclass(frozen=True)
class Record:
    """The results of a sample that are kept.

    Args:
        row: of the table.
        values: one array for each array of the run; empty for a sample without an explanation.
    """

    row: Row
    values: tuple[NDArray[np.float32 | np.float16], ...] = ()


@dataclass(frozen=True)
class Task:
    """The computation for each sample.

    Args:
        target: ``"predicted"``, ``"label"``, or a target for all samples; without a meaning, and then
            ignored, if the start of the relevance takes none.
        keep: whole maps, their sums over channels, the sums of each concept, or only the table.
        layers: the layers whose channels are the concepts.
        dtype: of the stored relevance.
    """

    target: Target | str
    keep: Keep
    layers: tuple[str, ...]
    dtype: Stored

    def check(self, lrp: object) -> None:
        """Raise an ``OptionError`` for what does not fit together."""
        if not isinstance(lrp, LRPFx):
            raise OptionError(
                f"lrp must be an LRPFx, such as LRPFx(model), not {type(lrp).__name__}"
            )
        check_choice("keep", self.keep, KEEP)
        check_choice("dtype", self.dtype, STORED)
        if isinstance(self.target, str):
            check_choice("target", self.target, ("predicted", "label"))
        elif not isinstance(self.target, (int, tuple, type(None))) or isinstance(self.target, bool):
            raise OptionError(
                f"target must be 'predicted', 'label', an int, a tuple or None, got {self.target!r}"
            )
        if (self.keep == "concepts") != bool(self.layers):
            raise OptionError(
                "keep='concepts' and layers= go together: name the layers of the concepts"
            )
        if self.keep == "concepts" and not isinstance(lrp, ConceptLRPFx):
            raise OptionError("keep='concepts' needs a ConceptLRPFx, such as ConceptLRPFx(model)")

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays of a run."""
        if self.keep == "summary":
            return ()
        return self.layers if self.keep == "concepts" else ("relevance",)


class BatchExplainer:
    """Explains batches. One that does not fit into memory is halved, and so are all after it.

    Args:
        lrp: the attribution.
        task: the computation.
        tell: gets a sentence when the batch size was halved.
    """

    def __init__(self, lrp: LRPFx, task: Task, tell: Callable[[str], None] | None = None) -> None:
        self._lrp, self._task, self._tell = lrp, task, tell
        self._fits: int | None = None
        parameter = next(iter(lrp.forward_func.parameters()), None)
        self._device = torch.device("cpu") if parameter is None else parameter.device

    @property
    def on_gpu(self) -> bool:
        """Whether batches are copied to a GPU."""
        return self._device.type == "cuda"

    def explain(self, batch: Batch) -> list[Record]:
        """One record for each sample, in order."""
        reasons = list(batch.reasons)
        whole = [place for place, reason in enumerate(reasons) if reason is None]
        chosen = list(range(len(whole)))
        if self._task.target == "label":
            for row, place in enumerate(whole):
                if batch.labels[place] is None:
                    reasons[place] = "it has no label, and target='label' explains labels"
                    chosen.remove(row)
        found: dict[int, Record] = {}
        if chosen and batch.inputs is not None:
            inputs = batch.inputs if len(chosen) == len(whole) else batch.inputs[chosen]
            places = [whole[row] for row in chosen]
            labels = [batch.labels[place] for place in places]
            found = dict(zip(places, self._in_memory(inputs, labels), strict=True))
        return [
            self._named(found.get(place) or failure(reason or ""), batch, place)
            for place, reason in enumerate(reasons)
        ]

    def _named(self, record: Record, batch: Batch, place: int) -> Record:
        """The record with what the data set says of the sample."""
        named: Row = {
            **record.row,
            "index": batch.start + place,
            "id": batch.ids[place],
            "label": batch.labels[place],
        }
        return Record(named, record.values)

    def _in_memory(self, inputs: Tensor, labels: Sequence[int | None]) -> Iterator[Record]:
        """The records of whole samples, in batches that fit into memory."""
        place = 0
        while place < len(inputs):
            size = min(self._fits or len(inputs), len(inputs) - place)
            part = slice(place, place + size)
            try:
                records = self._separate(inputs[part], labels[part])
            except Exception as error:
                if not lacks_memory(error):
                    raise
                records = None
            if (
                records is None
            ):  # outside of the handler, which keeps the tensors of the failed batch
                self._halve(size)
                continue
            yield from records
            place += size

    def _halve(self, size: int) -> None:
        if size == 1:
            raise RunError(
                "not even one sample fits into memory: use a smaller model or input, a device with "
                "more memory, or LRPFx(..., optimize=Optimizations(recompute=True))"
            )
        self._fits = size // 2
        if self.on_gpu:
            torch.cuda.empty_cache()
        if self._tell is not None:
            self._tell(f"out of memory: from now on {self._fits} samples at once instead of {size}")

    def _separate(self, inputs: Tensor, labels: Sequence[int | None]) -> list[Record]:
        """The records of a batch; if a sample spoils it, those of each sample alone."""
        began = time.perf_counter()
        try:
            return self._together(inputs, labels, began)
        except OF_SAMPLE as error:
            if len(inputs) == 1:
                seconds = time.perf_counter() - began
                return [failure(said(error), seconds)]
        return [
            record
            for n in range(len(inputs))
            for record in self._separate(inputs[n : n + 1], labels[n : n + 1])
        ]

    def _together(self, inputs: Tensor, labels: Sequence[int | None], began: float) -> list[Record]:
        x = inputs.to(self._device, non_blocking=True)
        target = self._target(labels)
        explanation, relevance = explained(self._lrp, x, target, self._layers)
        kept = [self._kept(name, each) for name, each in zip(self._names, relevance, strict=True)]
        sums = _numbers(per_sample(relevance[0].double()))
        sizes = _numbers(per_sample(relevance[0].abs().double()))
        starts = _numbers(per_sample(explanation.start.double()))
        predictions, targets, logits = _classes(explanation, target)
        rounded = [each.float().to(DTYPES[self._task.dtype]) for each in kept]
        errors = [_rounding(*pair) for pair in zip(kept, rounded, strict=True)]
        stored = [each.cpu().numpy() for each in rounded]
        seconds = (time.perf_counter() - began) / len(inputs)
        records = []
        for n in range(len(inputs)):
            row: Row = {
                **_EMPTY,
                "prediction": predictions[n],
                "target": targets[n],
                "logit": logits[n],
                "relevance_sum": sums[n],
                "relevance_abs_sum": sizes[n],
                "delta": starts[n] - sums[n],
                "error": max((each[n] for each in errors), default=0.0),
                "status": "ok",
                "seconds": seconds,
            }
            if not np.isfinite(row["error"] or 0.0):
                reason = "its relevance is too large for float16: use dtype='float32'"
                records.append(Record({**row, "error": None, "status": "failed", "reason": reason}))
                continue
            records.append(Record(row, tuple(array[n] for array in stored)))
        return records

    def _target(self, labels: Sequence[int | None]) -> Target | LargestTarget:
        wanted = self._task.target
        if wanted == "label":
            return [each for each in labels if each is not None]
        if wanted == "predicted":
            return LargestTarget() if takes_target(self._lrp) else None
        assert not isinstance(wanted, str)
        return wanted

    @property
    def _layers(self) -> Sequence[Layer]:
        return self._task.layers if self._task.keep == "concepts" else ()

    @property
    def _names(self) -> tuple[str, ...]:
        return self._task.layers or ("relevance",)

    def _kept(self, name: str, relevance: Tensor) -> Tensor:
        """What is stored of relevance (N, …)."""
        if self._task.keep == "channel_sums":
            if relevance.dim() < 3:
                raise OptionError(
                    f"keep='channel_sums' needs inputs (N, channels, …), not {tuple(relevance.shape)}"
                )
            return relevance.sum(1)
        if self._task.keep == "concepts" and isinstance(self._lrp, ConceptLRPFx):
            dim = check_dim(name, relevance, self._lrp.channel_dim)
            others = [d for d in range(1, relevance.dim()) if d != dim]
            return relevance.sum(others) if others else relevance
        return relevance


_EMPTY = Row(
    index=0,
    id="",
    label=None,
    prediction=None,
    target=None,
    logit=None,
    relevance_sum=None,
    relevance_abs_sum=None,
    delta=None,
    error=None,
    status="failed",
    reason=None,
    seconds=0.0,
)


def failure(reason: str, seconds: float = 0.0) -> Record:
    """The record of a sample without an explanation."""
    return Record({**_EMPTY, "reason": reason, "seconds": seconds})


def said(error: LRPError) -> str:
    """An error in one line of the table."""
    return reason_of(error) if isinstance(error, InputError) else " ".join(str(error).split())


def _numbers(values: Tensor) -> list[float]:
    return [float(value) for value in values.tolist()]


def _classes(
    explanation: Explanation, target: Target | LargestTarget
) -> tuple[list[int | None], list[int | None], list[float | None]]:
    """The predicted class, the target and the output there, of each sample."""
    output = explanation.output
    count = len(output)
    flat = output.reshape(count, -1)
    predicted: list[int | None] = [None] * count
    if output.dim() == 2 and output.shape[1] > 1:
        predicted = [int(each) for each in output.argmax(1).tolist()]
    single = flat.shape[1] == 1
    if isinstance(target, LargestTarget):
        indices: list[int] | None = [each or 0 for each in predicted]
    elif isinstance(target, list):
        indices = [each for each in target if isinstance(each, int)]
    elif isinstance(target, int) and output.dim() == 2:
        indices = [target % flat.shape[1]] * count
    else:
        indices = [0] * count if target is None and single else None
    if indices is None:
        return predicted, [None] * count, [None] * count
    logits = flat.gather(1, torch.tensor(indices, device=flat.device)[:, None])[:, 0]
    return predicted, [*indices], [*_numbers(logits.double())]


def _rounding(relevance: Tensor, stored: Tensor) -> list[float]:
    """The largest error of the stored relevance of each sample, as a share of its largest |R|."""
    flat = relevance.float().reshape(len(relevance), -1)
    if stored.dtype != torch.float16 or not flat.shape[1]:
        return [0.0] * len(flat)
    off = (flat - stored.float().reshape(flat.shape)).abs().amax(1).double()
    largest = flat.abs().amax(1).double()
    return _numbers(off / largest.where(largest > 0, 1))
