"""The engine for clusters: Ray Data gives parts to actors, which explain and commit them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from lrp_fx._common import needed
from lrp_fx.dataset.job import Shard
from lrp_fx.dataset.progress import Quiet, Report
from lrp_fx.dataset.sample import Stream
from lrp_fx.dataset.store import Store
from lrp_fx.dataset.work import Work, run_parts
from lrp_fx.errors import LRPError, OptionError, RunError


class Actor:
    """Explains and commits one part after the other.

    Args:
        store: of the run; its folder is the same for all actors.
        work: the work of the run, or a reference to it in Ray's object store.
    """

    def __init__(self, store: Store, work: Any) -> None:
        import ray

        self._store = store
        self._work: Work = ray.get(work) if isinstance(work, ray.ObjectRef) else work
        torch.set_num_threads(store.job.threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Explain the parts of a batch.

        Returns:
            For each part its number, how many samples it has and how many failed, and an error of
            this library, which ends the run.
        """
        parts = [int(each) for each in batch["part"]]
        found: dict[str, list[Any]] = {"part": [], "samples": [], "failed": [], "error": []}
        try:
            for part, failed in run_parts(self._store, self._work, parts, Quiet()):
                found["part"].append(part)
                found["samples"].append(len(self._store.job.samples(part)))
                found["failed"].append(failed)
                found["error"].append("")
        except LRPError as error:  # a retry would fail again
            found["part"].append(-1)
            found["samples"].append(0)
            found["failed"].append(0)
            found["error"].append(str(error))
        return found


def run_on_ray(
    store: Store, work: Work, explainers: int, address: str | None, report: Report
) -> None:
    """Compute and commit all missing parts by a pool of actors.

    A lost actor is started again, and its part is computed again. The folder of the run must be the
    same for all machines, and the source must be readable by all.

    Args:
        store: of the run.
        work: the work of the run.
        explainers: how many actors there are.
        address: of the cluster; None for this machine.
        report: of the progress.

    Raises:
        OptionError: if Ray is missing, or if the data set can only be read from its beginning.
        RunError: if the run cannot continue.
    """
    if isinstance(work.source, Stream):
        raise OptionError(
            "engine='ray' needs a data set whose samples can be read in any order: use the local engine"
        )
    parts = list(store.missing(Shard()))
    report.start(sum(len(store.job.samples(part)) for part in parts))
    if not parts:
        return
    with needed("engine='ray' needs"):
        import ray
        from ray.data import ActorPoolStrategy
        from ray.exceptions import RayError
    absolute = Store(store.folder.resolve(), store.job)
    with _connected(ray, address, explainers * store.job.threads):
        try:
            shipped = ray.put(work)
            rows = ray.data.from_items(
                [{"part": part} for part in parts], override_num_blocks=len(parts)
            )
            done = rows.map_batches(
                Actor,
                fn_constructor_args=(absolute, shipped),
                batch_size=1,
                compute=ActorPoolStrategy(size=min(explainers, len(parts))),
                num_cpus=store.job.threads,
            )
            for row in done.iter_rows():
                if row["error"]:
                    raise RunError(str(row["error"]))
                report.advance(int(row["samples"]), int(row["failed"]))
        except RayError as error:
            first = str(error).strip().partition("\n")[0][:200]
            raise RunError(
                f"Ray could not continue ({type(error).__name__}: {first}); what was committed is safe: "
                "run the same again"
            ) from error


@contextmanager
def _connected(ray: Any, address: str | None, cpus: int) -> Iterator[None]:
    """A connection to Ray; one that was there before stays."""
    if ray.is_initialized():
        yield
        return
    local = {"num_cpus": max(cpus + 1, os.cpu_count() or 1), "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, **({} if address else local))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RunError(f"cannot connect to Ray at {address!r}: {error}") from error
    try:
        with suppress(AttributeError):
            ray.data.DataContext.get_current().enable_progress_bars = False
        yield
    finally:
        ray.shutdown()
