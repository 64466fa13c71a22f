"""Progress: a bar with the rate and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from lrp_fx._common import check_callable, needed

Progress = Callable[[int, int | None, int], None]
"""Called with how many samples are done, how many there are, and how many of them failed."""


class Report(Protocol):
    """The progress of a run, for a display."""

    def start(self, total: int | None) -> None:
        """Take the number of samples that are to be explained; None if it is not known."""

    def advance(self, count: int, failed: int) -> None:
        """Add to the number of samples that are done, and to the number of those that failed."""

    def say(self, sentence: str) -> None:
        """Something that the user should know."""

    def stop(self) -> None:
        """The run has ended, well or not."""


class Quiet:
    """No report."""

    def start(self, total: int | None) -> None:
        """Say nothing."""

    def advance(self, count: int, failed: int) -> None:
        """Say nothing."""

    def say(self, sentence: str) -> None:
        """Say nothing."""

    def stop(self) -> None:
        """Say nothing."""


class Called(Quiet):
    """Calls a function of the user.

    Args:
        function: the function.
    """

    def __init__(self, function: Progress) -> None:
        self._function = function
        self._done, self._failed = 0, 0
        self._total: int | None = None

    def start(self, total: int | None) -> None:
        """Remember the total."""
        self._total = total

    def advance(self, count: int, failed: int) -> None:
        """Call the function."""
        self._done += count
        self._failed += failed
        self._function(self._done, self._total, self._failed)


class Bar(Quiet):
    """A bar of rich on the standard error stream, with the rate and the time that is left."""

    def __init__(self) -> None:
        with needed("a progress bar needs"):
            from rich import progress
            from rich.console import Console

        self._console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("explaining"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=self._console,
        )
        self._began, self._done, self._failed = time.perf_counter(), 0, 0

    def start(self, total: int | None) -> None:
        """Show the bar."""
        self._began = time.perf_counter()
        self._task = self._bar.add_task("", total=total, rate="")
        self._bar.start()

    def advance(self, count: int, failed: int) -> None:
        """Move the bar."""
        self._done += count
        self._failed += failed
        rate = self._done / max(time.perf_counter() - self._began, 1e-9)
        broken = f", {self._failed} failed" if self._failed else ""
        self._bar.update(self._task, completed=self._done, rate=f"{rate:.3g}/s{broken}")

    def say(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


def shown(progress: bool | Progress) -> Report:
    """The report that a user wants.

    Raises:
        OptionError: for anything but True, False or a function, or if rich is missing.
    """
    if isinstance(progress, bool):
        return Bar() if progress else Quiet()
    check_callable("progress", progress)
    return Called(progress)
