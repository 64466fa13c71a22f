"""A lock for tracing and exporting, during which torch patches functions of the whole process."""

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
    """Make sure that no other thread traces, exports, records, compiles or verifies models here.

    During these steps torch replaces ``nn.Module.__call__`` and other functions for the whole
    process, and afterwards restores what it found. Two threads at once would restore each other's
    replacement.
    """
    with _LOCK:
        yield


class _OneThreadTracer(ModuleTracer):
    """The tracer of ``torch.export``, restricted to the thread that created it.

    While ``torch.export`` runs, every module call of the process goes through its tracer. A forward
    pass in another thread would fail there, and would appear in the recorded module paths.
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
    """Context for every use of ``torch.export``: one at a time, tracing only this thread's modules."""
    with alone(), exports_traced_by(_OneThreadTracer):
        yield
