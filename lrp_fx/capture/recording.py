"""Capture by recording: the ATen operations that this very call executes.

For models whose Python branches on data, which no tracer can follow. The recorded graph holds for one
call: the next input may take another branch.
"""

from __future__ import annotations

import functools
import threading
import warnings
from typing import Any

import torch
from torch import nn
from torch.fx import traceback
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_flatten

from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.copying import structural_copy
from lrp_fx.capture.exporting import PREFIX, as_captured

_LOCK = threading.Lock()


class NotRecordable(Exception):
    """The call cannot be recorded; with the reason."""


def record(model: nn.Module, arguments: Arguments) -> Captured:
    """Read what ``model`` does with these arguments, by running a structural copy of it once.

    Raises:
        NotRecordable: with the reason that PyTorch gave.
    """
    specs: list[TreeSpec] = []
    copy = structural_copy(model)
    _announce(copy)

    def run(*tensors: torch.Tensor) -> tuple[Any, ...]:
        leaves, spec = tree_flatten(arguments.call(copy, tensors))
        specs.append(spec)
        return tuple(leaves)

    recorder = make_fx(
        torch.func.functionalize(run, remove="mutations"),
        tracing_mode="real",
        _error_on_data_dependent_ops=False,
    )
    try:
        with _LOCK, torch.no_grad(), warnings.catch_warnings(), traceback.preserve_node_meta():
            warnings.simplefilter("ignore")
            module = recorder(*(tensor.detach().clone() for tensor in arguments.tensors))
    except Exception as error:
        raise NotRecordable(f"{type(error).__name__}: {str(error)[:300]}") from error
    return as_captured(module, model, specs[-1], "record")


def _announce(copy: nn.Module) -> None:
    """Make each module of the copy write its path onto the nodes that its forward makes."""
    counts: dict[str, int] = {}
    for path, module in list(copy.named_modules()):
        forward = functools.partial(
            _forward, f"{PREFIX}.{path}".rstrip("."), counts, module.forward
        )
        module.__dict__["forward"] = forward


def _forward(path: str, counts: dict[str, int], forward: Any, *args: Any, **kwargs: Any) -> Any:
    count = counts.get(path, 0)
    counts[path] = count + 1
    meta = traceback.current_meta
    outer = meta.get("nn_module_stack", {})
    key = path if count == 0 else f"{path}@{count}"
    meta["nn_module_stack"] = {**outer, key: (path, "")}
    try:
        return forward(*args, **kwargs)
    finally:
        meta["nn_module_stack"] = outer
