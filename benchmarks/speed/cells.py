"""Whole attributions: one cell is a network, a batch size and a number of threads."""

from __future__ import annotations

import copy
import gc
import math
from dataclasses import dataclass
from typing import Any

import torch
from contestants import Absent, Contestant, chosen, quietly
from networks import NETWORKS, similarity
from timing import environment, interleaved, keep_memory
from torch import Tensor


@dataclass(frozen=True)
class Cell:
    """What is measured in one process.

    Args:
        network: its name.
        batch: samples in a call.
        threads: that torch may use.
        kept: whether freed memory stays with the process.
    """

    network: str
    batch: int
    threads: int
    kept: bool = False

    @property
    def key(self) -> str:
        """Its place in the results."""
        memory = "kept" if self.kept else "default"
        return f"{self.network} batch={self.batch} threads={self.threads} memory={memory}"

    @staticmethod
    def of(key: str) -> Cell:
        network, batch, threads, memory = (part.rpartition("=")[2] for part in key.split())
        return Cell(network, int(batch), int(threads), memory == "kept")


@dataclass(frozen=True)
class Effort:
    """How long a cell is measured, and with whom."""

    seconds: float
    least: int
    most: int
    only: tuple[str, ...] | None = None


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def run(cell: Cell, effort: Effort) -> dict[str, Any]:
    """Measure a cell: the seconds of every round, who failed and why, and how alike the maps are.

    To be called in a process of its own.
    """
    quietly()
    kept = keep_memory() if cell.kept else False
    torch.set_num_threads(cell.threads)
    network = NETWORKS[cell.network]
    model, x = network.make(), network.inputs(cell.batch)
    only = list(effort.only) if effort.only else None
    calls, absent, failed, alike = {}, {}, {}, {}
    maps: dict[str, Tensor] = {}
    for contestant in chosen(network, only):
        try:
            own = copy.deepcopy(model) if contestant.alters else model
            call = contestant.make(network, own)
            found = call(x)
        except Absent as reason:
            absent[contestant.name] = str(reason)
            continue
        except Exception as error:  # whatever another tool raises is its result here
            failed[contestant.name] = first_line(error)
            continue
        finally:
            gc.collect()
        calls[contestant.name] = lambda call=call: call(x)
        note = compared(contestant, found, maps)
        if note is not None:
            alike[contestant.name] = None if math.isnan(note) else note
    maps.clear()
    seconds = interleaved(calls, effort.seconds, effort.least, effort.most)
    return {
        "environment": {**environment(), "kept": kept},
        "seconds": {name: [float(f"{t:.5g}") for t in times] for name, times in seconds.items()},
        "absent": absent,
        "failed": failed,
        "alike": alike,
    }


def compared(contestant: Contestant, found: Tensor, maps: dict[str, Tensor]) -> float | None:
    """The cosine to the first map of the same method, which is kept; None for that one itself."""
    first = maps.setdefault(contestant.method, found)
    if contestant.tool == "torch" or first is found or first.shape != found.shape:
        return None
    return similarity(first, found)
