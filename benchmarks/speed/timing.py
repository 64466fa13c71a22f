"""Interleaved timing, the spread of ratios, and the machine that was measured on."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

BLOCK = 0.05  # seconds that a contestant runs at least, in each round
TOOLS = ("torchvision", "transformers", "captum", "zennit", "autolrp")


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(low, median, high)


def ratios(seconds: Sequence[float], others: Sequence[float]) -> Quartiles:
    """Of the times of one contestant to those of another in the same rounds."""
    return quartiles([mine / other for mine, other in zip(seconds, others, strict=True)])


def timed(call: Callable[[], object], calls: int = 1) -> float:
    """Mean seconds of one call."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def interleaved(
    calls: Mapping[str, Callable[[], object]], seconds: float, least: int, most: int
) -> dict[str, list[float]]:
    """Mean seconds of one call in each round; in a round every call runs in turn, in changing order.

    Args:
        calls: warmed up already.
        seconds: how long all rounds may take together.
        least: so many rounds there are at least,
        most: and so many at most.
    """
    repeats = {name: max(1, math.ceil(BLOCK / timed(call))) for name, call in calls.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    gc.collect()
    gc.freeze()  # what is there now need not be looked at again
    gc.disable()
    began = time.perf_counter()
    try:
        for done in range(most):
            used = time.perf_counter() - began
            if done >= least and used * (done + 1) / done > seconds:
                break
            # backwards every other time, so that nobody always runs behind the same other one
            for name in order if done % 2 == 0 else reversed(order):
                gc.collect()  # cycles of one must not cost another its time or its memory
                found[name].append(timed(calls[name], repeats[name]))
            order.append(order.pop(0))
    finally:
        gc.enable()
        gc.unfreeze()
    return found


def keep_memory() -> bool:
    """Let the C library (glibc) keep freed memory, and say whether it does.

    Otherwise large tensors are returned to the system and fetched again, page by page.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(m_mmap_max, 0)) and bool(mallopt(m_trim_threshold, -1))


def environment() -> dict[str, Any]:
    """The machine and the versions, without anything that names the machine."""
    versions = {"torch": torch.__version__.partition("+")[0], "Python": platform.python_version()}
    for tool in TOOLS:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "flags": sorted(set(cpu_flags()) & INTERESTING),
        "versions": versions,
    }


INTERESTING = {
    *("avx", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "fma"),
    *("amx_bf16", "amx_int8", "amx_tile", "asimd", "sve", "bf16"),
}


def cpu_flags() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return value.split()
    except OSError:
        pass
    return []
