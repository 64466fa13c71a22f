"""A run that can be read: its table and its relevance."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrp_fx._common import entries, is_int, needed
from lrp_fx.dataset.job import Job, load_job
from lrp_fx.dataset.store import TABLE, Store, ended, read_table
from lrp_fx.errors import InputError, OptionError, RunError

if TYPE_CHECKING:
    import zarr
    from pyarrow import Table


@dataclass(frozen=True)
class Run:
    """The explanations of a data set on disk.

    Args:
        folder: of the run.
        job: the job of the run.
    """

    folder: Path
    job: Job

    @cached_property
    def table(self) -> Table:
        """A row for each sample, in order: ``index``, ``id``, ``label``, ``prediction``, ``target``,
        ``logit``, ``relevance_sum``, ``relevance_abs_sum``, ``delta``, ``error``, ``status``,
        ``reason``, ``seconds``.
        """
        return read_table(self.folder / TABLE)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; empty if the data set has none."""
        return self.job.names

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays: ``relevance``, or the layers of the concepts."""
        return tuple(self.job.shapes)

    @cached_property
    def failed(self) -> int:
        """How many samples have no explanation."""
        return sum(each != "ok" for each in self.column("status"))

    def column(self, name: str) -> list[object]:
        """A column of the table.

        Raises:
            OptionError: if there is none of this name.
        """
        if name not in self.table.column_names:
            raise OptionError(f"there is no column {name!r}: {', '.join(self.table.column_names)}")
        return list(self.table.column(name).to_pylist())

    def indices(self, name: str) -> list[int | None]:
        """A column of the table that holds classes; None where there is none.

        Raises:
            OptionError: if there is no such column, or it holds something else.
        """
        found: list[int | None] = []
        for each in self.column(name):
            if each is not None and not isinstance(each, int):
                raise OptionError(f"the column {name!r} holds no classes, but {each!r}")
            found.append(each)
        return found

    def array(self, name: str | None = None) -> zarr.Array:
        """An array of Zarr, (N, …); NaN where a sample has no explanation.

        Args:
            name: one of :attr:`arrays`; None for the first.

        Raises:
            OptionError: if there is none of this name.
            RunError: if it cannot be read.
        """
        if name is None and self.arrays:
            name = self.arrays[0]
        if name not in self.arrays:
            kept = ", ".join(map(repr, self.arrays)) or "only a table"
            raise OptionError(f"there is no array {name!r}: the run has {kept}")
        with needed("runs over data sets need"):
            import zarr
        try:
            return zarr.open_array(Store(self.folder, self.job).array(name), mode="r")
        except Exception as error:  # whatever the parsers of damaged metadata raise
            raise RunError(f"the array {name!r} of '{self.folder}' cannot be read") from error

    def relevance(self, index: int | Sequence[int], name: str | None = None) -> NDArray[np.float32]:
        """The relevance of one sample, (…), or of several, (n, …).

        Args:
            index: the numbers of the samples.
            name: of the array; None for the first.

        Raises:
            InputError: for a number that is not there.
            OptionError: for a name that is not there.
            RunError: if it cannot be read.
        """
        one = is_int(index)
        many = [index] if one else [*(entries(index) or (None,))]
        if not all(is_int(each) and 0 <= each < len(self) for each in many):
            raise InputError(f"samples have numbers from 0 to {len(self) - 1}, got {index!r}")
        array = self.array(name)
        try:
            found = np.empty((len(many), *array.shape[1:]), dtype=np.float32)
            for place, each in enumerate(many):
                found[place] = array[each]
        except Exception as error:  # whatever the decoders of damaged chunks raise
            raise RunError(f"the relevance of {index!r} in '{self.folder}' is damaged") from error
        return found[0] if one else found

    def explained(self, of: int | None = None, by: str = "target") -> list[int]:
        """The numbers of the samples that have an explanation.

        Args:
            of: a class; None for all samples.
            by: the column that says the class: ``target``, ``label`` or ``prediction``.

        Raises:
            OptionError: for another column.
        """
        if by not in ("target", "label", "prediction"):
            raise OptionError(f"by must be 'target', 'label' or 'prediction', got {by!r}")
        pairs = zip(self.column("status"), self.column(by), strict=True)
        return [
            n for n, (status, each) in enumerate(pairs) if status == "ok" and of in (None, each)
        ]

    def classes(self, by: str = "target") -> tuple[int, ...]:
        """The classes of the samples that have an explanation, in order."""
        found = self.indices(by)
        seen = {found[n] for n in self.explained(by=by)}
        return tuple(sorted(each for each in seen if each is not None))

    def chunks(self, samples: Sequence[int], size: int = 64) -> Iterator[NDArray[np.float32]]:
        """The relevance of samples, some at a time, so that memory is bounded.

        Args:
            samples: their numbers.
            size: how many at a time.
        """
        for start in range(0, len(samples), size):
            yield self.relevance(samples[start : start + size])

    def __str__(self) -> str:
        return f"{len(self)} samples in {self.folder}, {self.failed} without an explanation"


def open_run(folder: str | os.PathLike[str]) -> Run:
    """The explanations that :func:`attribute_dataset` wrote. No code of the folder is run.

    Args:
        folder: of the run.

    Raises:
        RunError: if it holds no run, or one that is not complete.
    """
    try:
        place = Path(os.fsdecode(folder))
        job = load_job(place)
    except (TypeError, ValueError):
        raise OptionError(f"folder must be a path, got {folder!r}") from None
    store = ended(Store(place, job))
    if not store.is_finished():
        raise RunError(
            f"the run in '{place}' is not complete: run the same command again, or merge its shards"
        )
    return Run(place, store.job)
