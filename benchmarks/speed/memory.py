"""Peak memory of a contestant, in a process of its own, beyond the model."""

from __future__ import annotations

import copy
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cells import first_line
from contestants import CONTESTANTS, Absent, quietly
from networks import NETWORKS
from timing import environment

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def run(name: str, network_name: str, batch: int, threads: int) -> dict[str, Any]:
    """The bytes by which one contestant's peak is above the model alone.

    Counted from the state with the model in memory and the contestant's code loaded, which a call on
    a tiny network sees to; what it keeps for itself, such as modified weights, counts. ``first`` is
    the peak of the first call, in which this library reads and verifies the model; ``bytes`` that of
    a later call.
    """
    quietly()
    torch.set_num_threads(threads)
    contestant, network = CONTESTANTS[name], NETWORKS[network_name]
    found: dict[str, Any] = {"environment": environment(), "bytes": {}, "first": {}}
    try:
        tiny = network.tiny()
        contestant.make(tiny, tiny.make())(tiny.inputs(1))
        model, x = network.make(), network.inputs(batch)
        own = copy.deepcopy(model) if contestant.alters else model
        del model
        settle()
        base = resident("VmRSS")
        call = contestant.make(network, own)
        for measure in ("first", "bytes"):
            found[measure][name] = peak(lambda: call(x), base)
    except Absent as reason:
        return {**found, "absent": {name: str(reason)}}
    except Exception as error:  # whatever another tool raises is its result here
        return {**found, "failed": {name: first_line(error)}}
    return found


def peak(call: Callable[[], object], base: int | None = None) -> int:
    """The bytes by which the peak of a call is above ``base``, or above the state before it."""
    settle()
    base = resident("VmRSS") if base is None else base
    CLEAR.write_text(RESET_PEAK)
    call()
    return resident("VmHWM") - base


def resident(line: str) -> int:
    """Bytes, from a line of the kernel's account of this process."""
    for text in STATUS.read_text(encoding="utf-8").splitlines():
        key, _, value = text.partition(":")
        if key == line:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"this system does not tell {line}")


def settle() -> None:
    """Return to the system what is free, so that only what is held counts."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def measurable() -> bool:
    """Whether this system tells the peak and lets it be reset."""
    try:
        CLEAR.write_text(RESET_PEAK)
        return resident("VmHWM") > 0
    except (OSError, RuntimeError):
        return False
