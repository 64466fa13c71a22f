"""The source of generated code, which torch.fx keeps for tracebacks and never lets go of."""

from __future__ import annotations

import linecache
import weakref

from torch import fx
from torch.fx import graph_module


def with_source(module: fx.GraphModule) -> fx.GraphModule:
    """The module, whose source now goes when it goes: a recorded model makes new ones in each call."""
    name = module.forward.__code__.co_filename
    weakref.finalize(module, _forget, name).atexit = False
    return module


def _forget(name: str) -> None:
    linecache.cache.pop(name, None)
    loader = getattr(graph_module, "_loader", None)  # torch's own, and it may change
    getattr(loader, "eval_cache", {}).pop(name, None)
