"""The output of the commands: results to the output, notes and errors to the error output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import IO, Any, TextIO

import typer
from rich.console import Console, RenderableType

from lrp_fx.cli.options import TalkOptions
from lrp_fx.errors import LRPError, lacks_memory

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""
MIN_WIDTH = 20
"""Columns of the narrowest terminal; some say that they have none, and would be shown nothing."""


def console(file: TextIO) -> Console:
    """A console that writes to a file."""
    found = Console(file=file)
    return found if found.width >= MIN_WIDTH else Console(file=file, width=MIN_WIDTH)


@dataclass(frozen=True)
class Talk:
    """A command's voice.

    Args:
        options: how much is said.
        output: for results.
        errors: for notes and errors.
    """

    options: TalkOptions
    output: Console = field(default_factory=lambda: console(sys.stdout))
    errors: Console = field(default_factory=lambda: console(sys.stderr))

    def result(self, text: str) -> None:
        """One line that is also said with ``--quiet``."""
        if not self.options.json:
            self._print(self.output, text)

    def say(self, text: str) -> None:
        """A line of explanation."""
        if not (self.options.json or self.options.quiet):
            self._print(self.output, text)

    def show(self, table: RenderableType) -> None:
        """A table."""
        if not (self.options.json or self.options.quiet):
            with self._written(self.output):
                self.output.print(table)

    def note(self, text: str) -> None:
        """A note for the user, on a change of the input."""
        if not self.options.quiet:
            self._print(self.errors, f"note: {text}")

    def error(self, error: Exception) -> None:
        """An error, in one line."""
        self.failure(in_one_sentence(error))

    def failure(self, sentence: str, mark: str = "error: ") -> None:
        """An error, in one line."""
        self._print(self.errors, mark + " ".join(sentence.split()))

    def document(self, document: Mapping[str, Any]) -> None:
        """The result as JSON, if that was asked for."""
        if self.options.json:
            with self._written(self.output):
                self.output.file.write(as_json(document))
                self.output.file.flush()

    @property
    def bars(self) -> bool:
        """Whether progress bars are shown."""
        return not (self.options.json or self.options.quiet)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Send what the user's code prints to the error output: the output is for results."""
        with redirect_stdout(self.errors.file):
            yield

    @contextmanager
    def usage(self) -> Iterator[None]:
        """End the command with one sentence and exit code 2 if an error of the library occurs."""
        try:
            with self.aside():
                yield
        except Exception as error:
            if not isinstance(error, LRPError) and not lacks_memory(error):
                raise
            self.error(error)
            raise typer.Exit(WRONG_USAGE) from None

    def _print(self, console: Console, text: str) -> None:
        """Print a line unchanged: paths may contain rich markup, and must not be wrapped."""
        printable = text.encode(errors="replace").decode()
        with self._written(console):
            console.print(printable, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _written(self, console: Console) -> Iterator[None]:
        """End the command with one sentence if a full disk, say, does not take what it says.

        A closed pipe is no such failure: the reader has what it wants.
        """
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            _discard(console.file)
            if console is self.output:
                self.failure(f"cannot write the output: {error.strerror or error}")
            raise typer.Exit(SOME_FAILED) from None


def _discard(file: IO[str]) -> None:
    """Send what a file still holds to nowhere, so that Python does not fail again at its end."""
    with suppress(OSError, ValueError):  # files of tests have no number
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def in_one_sentence(error: Exception) -> str:
    """The message of an error; a lack of memory in words."""
    if isinstance(error, LRPError) or not lacks_memory(error):
        return str(error)
    return "there is not enough memory: use a smaller input or model"


def as_json(document: Mapping[str, Any]) -> str:
    """A document as text that any parser of JSON reads; NaN and infinity become null."""
    return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and value - value != 0 else value


def shown(path: object) -> str:
    """A path as it can be printed: names may hold line breaks, and bytes that are not text."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(path))
