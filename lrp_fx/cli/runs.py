"""A run over many inputs: one failure costs its own result and the exit code, not the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress

from lrp_fx.cli.files import document
from lrp_fx.cli.inputs import Sample, read_samples
from lrp_fx.cli.photographs import check_readable
from lrp_fx.cli.talk import INTERRUPTED, SOME_FAILED, Talk, in_one_sentence, shown
from lrp_fx.errors import LRPError, lacks_memory


@dataclass
class Run:
    """The results of the inputs of a command.

    Args:
        command: its name.
        talk: its voice.
        results: the result of each sample, or its error.
        interrupted: whether the user stopped the run before its end.
    """

    command: str
    talk: Talk
    results: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False

    def readable(self, files: Sequence[Path]) -> list[Path]:
        """The files that can be opened, before a model is loaded; the others fail.

        If there are none, the run ends.
        """
        good = []
        for file in files:
            try:
                check_readable(file)
                good.append(file)
            except LRPError as error:
                self._failed(file, None, error)
        if not good:
            self.finish()
        return good

    def over(
        self,
        files: Sequence[Path],
        work: Callable[[Sample], dict[str, Any]],
        *,
        single: bool = False,
    ) -> None:
        """Do the work for each sample of the files, and keep what it returns, or its error.

        If the user interrupts, the others are left out.
        """
        with Progress(
            console=self.talk.errors, transient=True, disable=len(files) < 2 or not self.talk.bars
        ) as progress:
            try:
                for file in progress.track(files, description=self.command):
                    self._file(file, work, single)
            except KeyboardInterrupt:
                self.interrupted = True

    def _file(self, file: Path, work: Callable[[Sample], dict[str, Any]], single: bool) -> None:
        samples = read_samples(file, single=single)
        row: int | None = None
        while True:
            sample = None
            try:
                sample = next(samples, None)
                if sample is None:
                    return
                row = sample.row
                if not row:
                    self._remark(sample)
                with self.talk.aside():
                    self.results.append(work(sample))
            except Exception as error:
                if not isinstance(error, (LRPError, OSError)) and not lacks_memory(error):
                    raise
                self._failed(file, row if sample is not None else None, error)
                if sample is None:
                    return

    def _remark(self, sample: Sample) -> None:
        for remark in sample.remarks:
            self.talk.note(f"{shown(sample.file)}: {remark}")

    def _failed(self, file: Path, row: int | None, error: Exception) -> None:
        sentence = in_one_sentence(error)
        self.results.append({"input": str(file), "row": row, "error": sentence})
        named = shown(file) in sentence or str(file) in sentence
        place = shown(file) if row is None else f"{shown(file)}[{row}]"
        self.talk.failure(sentence if named else f"{place}: {sentence}")

    @property
    def failures(self) -> int:
        """How many samples have no result."""
        return sum("error" in each for each in self.results)

    def finish(self, what: str = "inputs could not be explained", **more: Any) -> None:
        """Print the JSON document and end with the exit code of the run."""
        self.talk.document({**document(self.command, self.results), **more})
        if self.interrupted:
            self.talk.failure(f"interrupted: {len(self.results)} inputs are done", "")
            raise typer.Exit(INTERRUPTED)
        if self.failures:
            self.talk.failure(f"{self.failures} of {len(self.results)} {what}", "")
            raise typer.Exit(SOME_FAILED)
