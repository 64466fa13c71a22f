"""Peak memory of a call: what is resident, and what torch has allocated."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def peak(call: Callable[[], object], base: int | None = None) -> int:
    """The bytes by which the peak of a call is above ``base``, or above the state before it."""
    settle()
    base = resident() if base is None else base
    CLEAR.write_text(RESET_PEAK)
    call()
    return resident("VmHWM") - base


def resident(line: str = "VmRSS") -> int:
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


def allocated(call: Callable[[], object]) -> tuple[int, int]:
    """Bytes that torch has allocated in a call: at the peak, and what is left of them at the end."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    in_use = largest = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            in_use += event.nbytes()
            largest = max(largest, in_use)
    return largest, in_use
