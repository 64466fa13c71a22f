"""Timing: calls in turn, ratios within a round, processes of their own, and the machine."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

BLOCK = 0.05  # seconds that a call runs at least, in each round
TOOLS = ("torchvision", "transformers", "captum", "zennit", "autolrp")

Clock = Callable[[], float]


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(low, median, high)


def ratios(seconds: Sequence[float], others: Sequence[float]) -> Quartiles:
    """The times of one call as multiples of another's times in the same rounds."""
    return quartiles([mine / other for mine, other in zip(seconds, others, strict=True)])


def timed(call: Callable[[], object], calls: int = 1, clock: Clock = time.perf_counter) -> float:
    """Mean seconds of one call."""
    _finish()
    start = clock()
    for _ in range(calls):
        call()
    _finish()
    return (clock() - start) / calls


def _finish() -> None:
    """Wait for the device, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int | tuple[int, int],
    seconds: float = math.inf,
    block: float = BLOCK,
    measure: Callable[[Any, int], float] = timed,
) -> dict[str, list[float]]:
    """Mean seconds of one call, of every call in each round.

    In a round each call runs in turn. The order changes from round to round: nobody always runs
    behind the same other one.

    Args:
        calls: they have run once already.
        rounds: how many there are, or at least and at most.
        seconds: how long all rounds may take together, once the least number is done.
        block: how long a call runs at least in a round; 0: it runs once.
        measure: from a call and a number of calls to the mean seconds of one.
    """
    least, most = (rounds, rounds) if isinstance(rounds, int) else rounds
    repeats = {
        name: max(1, math.ceil(block / measure(call, 1))) if block else 1
        for name, call in calls.items()
    }
    found: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    gc.collect()
    gc.freeze()  # what is there now need not be looked at again
    gc.disable()
    began = time.perf_counter()
    try:
        for done in range(most):
            used = time.perf_counter() - began
            if done >= least and used * (done + 1) / done > seconds:
                break
            first = done // 2 % len(names)
            order = names[first:] + names[:first]
            for name in order if done % 2 == 0 else reversed(order):
                gc.collect()  # cycles of one must not cost another its time or its memory
                found[name].append(measure(calls[name], repeats[name]))
    finally:
        gc.enable()
        gc.unfreeze()
    return found


def alone(
    function: Callable[..., Any],
    *arguments: Any,
    timeout: float | None = None,
    context: Any = None,
) -> Any:
    """The result of a function that runs in a new process, which ends with it.

    Args:
        function: of a module, not a local one.
        arguments: of the function.
        timeout: seconds after which the process is killed.
        context: of :mod:`multiprocessing`; "spawn" unless given.

    Raises:
        TimeoutError: if it took longer.
        ChildProcessError: if the process ended without a result.
    """
    context = context or multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            raise TimeoutError(f"more than {timeout:.0f} s")
        return receiver.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(f"the process ended with code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()


def prepared() -> Any:
    """A context of :mod:`multiprocessing` whose processes start with other libraries loaded.

    lrp_fx is not among them: the server that forks them looks into the working folder first, and
    would load another checkout than the one that PYTHONPATH names.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torchvision", "captum.attr", "timm", "transformers"])
    return context


def _send(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(function(*arguments))


def keep_memory() -> bool:
    """Let the C library (glibc) keep freed memory, and say whether it does.

    Otherwise it returns large tensors to the system and fetches them again, page by page. That can
    cost several times a small kernel, and it depends on what ran before.
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
        "model": _cpu_line("model name") or platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "flags": sorted(set(_cpu_flags()) & INTERESTING),
        "versions": versions,
    }


INTERESTING = {
    *("avx", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "fma"),
    *("amx_bf16", "amx_int8", "amx_tile", "asimd", "sve", "bf16"),
}


def _cpu_flags() -> list[str]:
    return _cpu_line("flags", "Features").split()


def _cpu_line(*names: str) -> str:
    """What the system says about the first processor; "" if it does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in names:
                    return value.strip()
    except OSError:
        pass
    return ""


def input_gradient(model: nn.Module, x: Tensor) -> None:
    """The input gradient of one score of a model, with which calls are compared."""
    x = x.clone().requires_grad_()
    torch.autograd.grad(model(x)[:, 1].sum(), x)
