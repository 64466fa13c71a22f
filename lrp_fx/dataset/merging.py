"""Joining the shards of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lrp_fx._common import locked, write_whole, writing
from lrp_fx.dataset.job import load_job
from lrp_fx.dataset.run import Run, open_run
from lrp_fx.dataset.store import Store, ended
from lrp_fx.errors import OptionError


def merge(out: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]] = ()) -> Run:
    """Join the shards of a run into one table.

    Args:
        out: the folder of the run.
        sources: folders with other parts of the same run, if each machine wrote to one of its own;
            their parts are copied.

    Returns:
        The run.

    Raises:
        RunError: if parts are missing, another process writes, or a folder holds another run.
    """
    try:
        folders = [Path(os.fsdecode(each)) for each in (out, *sources)]
    except (TypeError, ValueError):
        raise OptionError(f"out and sources must be paths of folders, got {out!r}") from None
    folder, *others = folders
    job = load_job(folder)
    with locked(folder / ".lock", f"'{folder}'"):
        store = Store(folder, job)
        for other in others:
            theirs = load_job(other)
            job.check(other, theirs)
            _copy(Store(other, theirs), store)
        store = ended(store)
        store.tidy()
        store.finish()
    return open_run(folder)


def _copy(source: Store, store: Store) -> None:
    """Copy the parts that are missing, and what is known of the end of a stream."""
    for part in sorted(source.done() - store.done()):
        for path in source.files(part):
            goal = store.folder / path.relative_to(source.folder)
            with writing(goal):
                content = path.read_bytes()
            write_whole(goal, content)
