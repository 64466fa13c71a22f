"""Freeing the source text of generated code, which torch.fx keeps for tracebacks forever."""

from __future__ import annotations

import linecache
import weakref

from torch import fx
from torch.fx import graph_module


def with_source(module: fx.GraphModule) -> fx.GraphModule:
    """Return the module; from now on its source text is freed together with it.

    A model that is captured by recording gets new modules in each call, whose sources would add up.
    """
    name = module.forward.__code__.co_filename
    weakref.finalize(module, _forget, name).atexit = False
    return module


def _forget(name: str) -> None:
    linecache.cache.pop(name, None)
    loader = getattr(graph_module, "_loader", None)  # private to torch, may change
    getattr(loader, "eval_cache", {}).pop(name, None)
