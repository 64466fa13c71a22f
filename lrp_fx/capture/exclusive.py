"""One at a time: what torch patches in the whole process while it reads a program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lrp_fx.graph import ModuleTracer, exports_traced_by

_LOCK = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other thread of this library traces, exports, records or compiles.

    While they run, these replace ``nn.Module.__call__`` and others for the whole process and put back
    what they found; two at once would put back each other's.
    """
    with _LOCK:
        yield


class _OneThreadTracer(ModuleTracer):
    """The tracer of ``torch.export``, which follows the modules of the thread alone that made it.

    While it traces, ``torch.export`` sends every module call of the process through it: another
    thread's forward would fail in it, and get into the paths that it records.
    """

    def __init__(self, scope_root: Any) -> None:
        super().__init__(scope_root)
        self.thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


@contextmanager
def exporting() -> Iterator[None]:
    """What every use of ``torch.export`` needs: one at a time, and this thread's modules only."""
    with alone(), exports_traced_by(_OneThreadTracer):
        yield
