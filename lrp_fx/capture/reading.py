"""Tries the three captures in order, and verifies each on the real input."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.copier import Hooks
from lrp_fx.capture.export import NotExportable, export
from lrp_fx.capture.members import walk
from lrp_fx.capture.observers import assumed_observers, observers
from lrp_fx.capture.read_numbers import computes_with_numbers
from lrp_fx.capture.record import NotRecordable, record, record_assignments
from lrp_fx.capture.recorder import NotTraceable
from lrp_fx.capture.running import SAME_KERNELS, all_close, run_model
from lrp_fx.capture.structural_copy import holds_random_generators
from lrp_fx.capture.symbolic import trace
from lrp_fx.capture.trail import Follower, OwnCode
from lrp_fx.capture.verify import REORDERED, first_difference, reproduces
from lrp_fx.errors import CaptureError, InputError
from lrp_fx.graph import (
    EXAMPLE,
    TorchDispatchMode,
    arguments as arguments_of,
    draws,
    name_of,
    packet_of,
    where,
    with_source,
)

WAYS = ("auto", "symbolic", "export", "record")
_PACK = torch.ops.aten._pack_padded_sequence
_RUNS = 8
"""A value that is either of two with equal chance is taken for constant in one of 256 models."""
Reader = Callable[[nn.Module, Arguments, Hooks], Captured]
_READERS: dict[str, tuple[Reader, ...]] = {
    "symbolic": (trace,),
    "export": (export,),
    "record": (record, record_assignments),
}


def read(
    model: nn.Module,
    arguments: Arguments,
    way: str,
    own: list[object] | None = None,
    follower: Follower | None = None,
) -> Captured:
    """Capture ``model`` as a graph of ATen calls.

    Args:
        model: the user's model; it is only read.
        arguments: its arguments.
        way: ``"symbolic"``, ``"export"``, ``"record"``, or ``"auto"`` for the first of these whose
            graph reproduces the model's outputs.
        own: the model's own flat outputs for these arguments, which the graph has to reproduce.
            None if there are no example inputs; then only symbolic tracing is possible.
        follower: follows the run of the graph on the arguments.

    Raises:
        CaptureError: if no capture succeeds, with the reason of each; if the model is quantized,
            random in eval mode, or packs sequences.
    """
    _refuse_quantized(model)
    reasons, packs, asks_value = [], False, False
    left_out = assumed_observers(model) if own is None else observers(model, arguments)
    ways = tuple(_READERS) if way == "auto" else (way,)
    for each, reader in ((name, reader) for name in ways for reader in _READERS[name]):
        if each != "symbolic" and own is None:
            reasons.append(f"{each}: needs example inputs")
            continue
        before = _random_states()  # a graph may hold a number that was drawn when it was made
        try:
            captured = _captured(reader, model, arguments, left_out)
        except (NotTraceable, NotExportable, NotRecordable) as error:
            reasons.append(f"{each}: {error}")
            asks_value |= isinstance(error, NotTraceable) and error.asks_value
            continue
        if way == "auto" and each == "export" and computes_with_numbers(captured.module.graph):
            reasons.append("export: the model computes with numbers that it reads from values")
            asks_value = True
            continue
        if any(packet_of(node.target) is _PACK for node in captured.module.graph.nodes):
            packs = True
            continue
        drew = _random_states() != before or holds_random_generators(model, arguments)
        if own is None or reproduces(captured.module, arguments, own, SAME_KERNELS, follower):
            if own is not None:
                for node, tensor in zip(captured.placeholders(), arguments.tensors, strict=True):
                    node.meta[EXAMPLE] = tensor.detach().to("meta")
            if own is not None and drew:
                _refuse_drawn(model, captured, arguments)
            assumes = captured.is_assumed or bool(left_out) or drew or asks_value
            return replace(captured, is_assumed=assumes)
        for _ in range(_RUNS if drew else 1):
            _refuse_random(model, captured, arguments, own)
        _refuse_fast_path(model, arguments, own)
        culprit = first_difference(model, captured, arguments)
        reasons.append(f"{each}: the graph computes something other than the model{culprit}")
    if packs or (own is not None and _packs(model, arguments)):
        raise _packed(model)
    raise CaptureError(
        f"the model ({type(model).__name__}) could not be read as a graph.\n  "
        + "\n  ".join(dict.fromkeys(reasons))
        + "\nKeep Python branches on tensor values and in-place edits of views out of forward(), or "
        "explain the submodule after them."
    )


def _captured(reader: Reader, model: nn.Module, arguments: Arguments, left_out: Hooks) -> Captured:
    captured = reader(model, arguments, left_out)
    _move_no_statistics(captured.module)
    return captured


_MOVES = {"batch_norm": "training", "instance_norm": "use_input_stats"}
"""Operations that write to running statistics, as no schema says, and the argument that makes them."""


def _move_no_statistics(module: fx.GraphModule) -> None:
    """Let norms by the statistics of the values themselves leave the user's running ones alone."""
    moved = False
    for node in module.graph.nodes:
        if packet_of(node.target) is None or name_of(node) not in _MOVES:
            continue
        bound = arguments_of(node)
        if bound[_MOVES[name_of(node)]] is not False and bound["running_mean"] is not None:
            bound |= {"running_mean": None, "running_var": None}
            node.args, node.kwargs = tuple(bound.values()), {}
            moved = True
    if moved:
        module.recompile()
        with_source(module)


def _refuse_quantized(model: nn.Module) -> None:
    """Refuse models with quantized layers, which have no weights that a rule could use.

    Raises:
        CaptureError: if the model has quantized layers.
    """
    for path, module in walk(model):
        kind = type(module)
        if kind.__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
            raise CaptureError(
                f"module '{path}' ({kind.__name__}) is quantized: no rule can use its packed integer "
                "weights. Explain the float model from before the quantization."
            )


def _packs(model: nn.Module, arguments: Arguments) -> bool:
    """Whether the model calls ``pack_padded_sequence`` with these arguments."""
    names = set()

    class Listener(TorchDispatchMode):
        supports_higher_order_operators = True

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.add(packet_of(func))
            return func(*args, **(kwargs or {}))

    # a model that calls torch.compile may fail under a dispatch mode
    with suppress(InputError), Listener():
        run_model(model, arguments)
    return _PACK in names


def _packed(model: nn.Module) -> CaptureError:
    return CaptureError(
        f"the model ({type(model).__name__}) packs a sequence (pack_padded_sequence), which no graph "
        "can express, because the sizes depend on values. Explain padded sequences: call the recurrent "
        "layer on the padded tensor, one length at a time if padding must not count."
    )


def _random_states() -> tuple[object, ...]:
    """The states of the random generators of the process, to see whether a capture draws numbers."""
    numpy_state = np.random.get_state(legacy=False)["state"]
    return (
        torch.random.get_rng_state().numpy().tobytes(),
        random.getstate(),
        numpy_state["pos"],
        numpy_state["key"].tobytes(),
    )


def _refuse_drawn(model: nn.Module, captured: Captured, arguments: Arguments) -> None:
    """Refuse a model whose output depends on numbers that were drawn when its graph was made.

    Two runs may agree by chance, as they do for ``if torch.rand(1) > 0.5``, but hardly this many.

    Raises:
        CaptureError: if one of several runs differs from the graph.
    """
    for _ in range(_RUNS):
        own = run_model(model, arguments)
        if not reproduces(captured.module, arguments, own, SAME_KERNELS):
            raise _is_random(model, captured)


def _refuse_random(
    model: nn.Module, captured: Captured, arguments: Arguments, own: list[object]
) -> None:
    """Refuse a random model, instead of reporting that its graph is wrong.

    Raises:
        CaptureError: if two runs of the model on the same arguments differ.
    """
    again = run_model(model, arguments)
    if all_close(own, again, SAME_KERNELS):
        return
    raise _is_random(model, captured)


def _is_random(model: nn.Module, captured: Captured) -> CaptureError:
    nodes = [node for node in captured.module.graph.nodes if draws(node)]
    lines = dict.fromkeys(f"\n  {name_of(node)} {where(node)}" for node in nodes)
    return CaptureError(
        f"the model ({type(model).__name__}) is random in eval mode: two runs on the same inputs "
        f"differ, so there is no single output to explain.{''.join(lines)}\nLet randomness depend on "
        "self.training: F.dropout(x, p, training=self.training)."
    )


def _refuse_fast_path(model: nn.Module, arguments: Arguments, own: list[object]) -> None:
    """Refuse a model whose output on torch's fast path differs from that of its code.

    The fast path reads a float mask as a boolean one, and that of nn.TransformerEncoder sets padded
    tokens to zero.

    Raises:
        CaptureError: if the model's outputs with and without the fast path differ.
    """
    with OwnCode():
        written = run_model(model, arguments)
    if all_close(own, written, REORDERED):
        return
    kinds = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
    fast = [(path, m) for path, m in model.named_modules() if isinstance(m, kinds)]
    names = f"'{fast[0][0]}' (nn.{type(fast[0][1]).__name__})" if fast else "a module"
    raise CaptureError(
        f"the model ({type(model).__name__}) has two outputs for these inputs: without gradients {names} "
        "takes a fast path of torch, whose result differs from that of its code. The fast path reads a "
        "float mask as a boolean one, and that of nn.TransformerEncoder sets padded tokens to zero. "
        "Switch it off with torch.backends.mha.set_fastpath_enabled(False), so that the model computes "
        "what is explained."
    )
