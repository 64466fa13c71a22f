"""The ways in, tried in order, each verified on the real input."""

from __future__ import annotations

import functools
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from lrp_fx.capture.captured import EXAMPLE, Arguments, Call, Captured, where
from lrp_fx.capture.exporting import NotExportable, export
from lrp_fx.capture.members import walk
from lrp_fx.capture.observers import assumed_observers, observers
from lrp_fx.capture.recording import NotRecordable, record
from lrp_fx.capture.running import SAME_KERNELS, cloned, close, isolated, run_model
from lrp_fx.capture.symbolic import NotTraceable, trace
from lrp_fx.errors import CaptureError, InputError
from lrp_fx.graph.calls import name_of, packet_of
from lrp_fx.graph.private_torch import TorchDispatchMode

WAYS = ("auto", "symbolic", "export", "record")
_PACK = torch.ops.aten._pack_padded_sequence
_READERS = {"symbolic": trace, "export": export, "record": record}

REORDERED = {torch.float64: 1e-4, torch.float32: 2e-2}
"""The same for a graph with folded batch norm: rounding differs and deep networks amplify it (1e10
times was seen, on norms with tiny variances); a wrong fold differs by order one."""


def read(
    model: nn.Module, arguments: Arguments, way: str, own: list[object] | None = None
) -> Captured:
    """Read ``model`` as a graph of ATen calls.

    Args:
        model: the user's model; it is only read.
        arguments: its arguments.
        way: ``"symbolic"``, ``"export"``, ``"record"``, or ``"auto"`` for the first that reads the
            model right.
        own: the model's own flat outputs on these arguments, which the graph must reproduce; None
            where the arguments hold no values (then only symbolic tracing is possible).

    Raises:
        CaptureError: when no way reads the model; with the reason of each.
    """
    _refuse_quantized(model)
    reasons = []
    left_out = assumed_observers(model) if own is None else observers(model, arguments)
    for each in _READERS if way == "auto" else (way,):
        if each != "symbolic" and own is None:
            reasons.append(f"{each}: needs example inputs")
            continue
        try:
            captured = _READERS[each](model, arguments, left_out)
        except (NotTraceable, NotExportable, NotRecordable) as error:
            reasons.append(f"{each}: {error}")
            continue
        if any(packet_of(node.target) is _PACK for node in captured.module.graph.nodes):
            raise _packed(model)
        if own is None or reproduces(captured.module, arguments, own, SAME_KERNELS):
            if own is not None:
                for node, tensor in zip(captured.placeholders(), arguments.tensors, strict=True):
                    node.meta[EXAMPLE] = tensor.detach().to("meta")
            return replace(captured, is_assumed=bool(left_out))
        _refuse_random(model, captured, arguments, own)
        _refuse_fast_path(model, arguments, own)
        culprit = first_difference(model, captured, arguments)
        reasons.append(f"{each}: the graph computes something else than the model{culprit}")
    if own is not None and _packs(model, arguments):
        raise _packed(model)
    raise CaptureError(
        f"the model ({type(model).__name__}) could not be read as a graph.\n  "
        + "\n  ".join(reasons)
        + "\nKeep Python branches on tensor values and in-place edits of views out of forward(), or "
        "explain the submodule behind them."
    )


def _refuse_quantized(model: nn.Module) -> None:
    """Say that quantized layers hold no weights that a rule could use.

    Raises:
        CaptureError: if there are any.
    """
    for path, module in walk(model):
        kind = type(module)
        if kind.__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
            raise CaptureError(
                f"module '{path}' ({kind.__name__}) is quantized: its packed integer weights are open to "
                "no rule. Explain the float model from before the quantization."
            )


def _packs(model: nn.Module, arguments: Arguments) -> bool:
    """Whether the model packs a sequence on these arguments."""
    names = set()

    class Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]
        supports_higher_order_operators = True

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.add(packet_of(func))
            return func(*args, **(kwargs or {}))

    # a model that compiles itself may not bear the listener
    with suppress(InputError), Listener():  # type: ignore[no-untyped-call]
        run_model(model, arguments)
    return _PACK in names


def _packed(model: nn.Module) -> CaptureError:
    return CaptureError(
        f"the model ({type(model).__name__}) packs a sequence (pack_padded_sequence), which no graph "
        "can hold: its sizes are values. Explain padded sequences: call the recurrent layer on the "
        "padded tensor, one length at a time where padding must not count."
    )


def _refuse_random(
    model: nn.Module, captured: Captured, arguments: Arguments, own: list[object]
) -> None:
    """Say that a model is random, rather than that its graph is wrong.

    Raises:
        CaptureError: if two runs of the model on the same arguments differ.
    """
    again = run_model(model, arguments)
    if all(close(a, b, SAME_KERNELS) for a, b in zip(own, again, strict=True)):
        return
    nodes = [node for node in captured.module.graph.nodes if _draws(node)]
    lines = dict.fromkeys(f"\n  {name_of(node)} {where(node)}" for node in nodes)
    raise CaptureError(
        f"the model ({type(model).__name__}) is random in eval mode: two runs on the same inputs "
        f"differ, so there is no one output to explain.{''.join(lines)}\nLet randomness depend on "
        "self.training: F.dropout(x, p, training=self.training)."
    )


class _OwnCode(TorchFunctionMode):
    """Keeps torch's modules to their own code: they take no fast path in a thread with such a mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _refuse_fast_path(model: nn.Module, arguments: Arguments, own: list[object]) -> None:
    """Say that torch's fast path makes the model compute something else than its code.

    It reads a float mask as a boolean one, and nn.TransformerEncoder's sets padded tokens to zero.

    Raises:
        CaptureError: if the model's output differs with and without it.
    """
    with _OwnCode():
        written = run_model(model, arguments)
    if all(close(a, b, REORDERED) for a, b in zip(own, written, strict=True)):
        return
    kinds = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
    fast = [(path, m) for path, m in model.named_modules() if isinstance(m, kinds)]
    names = f"'{fast[0][0]}' (nn.{type(fast[0][1]).__name__})" if fast else "a module"
    raise CaptureError(
        f"the model ({type(model).__name__}) has two outputs on these inputs: without gradients {names} "
        "takes a fast path of torch that computes something else than its code does. It reads a mask of "
        "floats as a boolean one, and nn.TransformerEncoder's sets padded tokens to zero. Switch it off "
        "with torch.backends.mha.set_fastpath_enabled(False), so that the model computes what is "
        "explained."
    )


def _draws(node: fx.Node) -> bool:
    """Whether the call draws random numbers."""
    packet = packet_of(node.target)
    overloads = [] if packet is None else packet.overloads()  # type: ignore[no-untyped-call]
    return any(
        torch.Tag.nondeterministic_seeded in getattr(packet, overload).tags
        for overload in overloads
    )


def reproduces(
    module: fx.GraphModule,
    arguments: Arguments,
    own: list[object],
    tolerances: dict[torch.dtype, float],
) -> bool:
    """Whether the graph computes ``own`` from the arguments."""
    try:
        with torch.no_grad():
            mine = module.forward(*cloned(arguments))  # no hooks of all modules are called
    except Exception:
        return False
    return len(own) == len(mine) and all(
        close(a, b, tolerances) for a, b in zip(own, mine, strict=True)
    )


def same_in_double(one: fx.GraphModule, other: fx.GraphModule, arguments: Arguments) -> bool:
    """Whether two graphs compute the same in float64.

    In float32 a deep network may amplify the rounding of a right fold beyond any tolerance.
    """
    tensors = tuple(t.double() if t.is_floating_point() else t for t in arguments.tensors)
    exact = replace(arguments, tensors=tensors)
    try:
        with torch.no_grad():
            expected = list(deepcopy(one).double().forward(*cloned(exact)))
    except Exception:
        return False
    return reproduces(deepcopy(other).double(), exact, expected, REORDERED)


def first_difference(model: nn.Module, captured: Captured, arguments: Arguments) -> str:
    """Words for a message: the first module whose output the graph does not reproduce."""
    last: dict[Call, fx.Node] = {}
    for node in captured.module.graph.nodes:
        for call in node.meta.get("module_calls", ()):
            last[call] = node
    values: dict[fx.Node, object] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            values[n] = result = super().run_node(n)
            return result

    try:
        with torch.no_grad():
            Recorder(captured.module, garbage_collect_values=False).run(*cloned(arguments))
        outputs = _outputs_of_modules(model, arguments)
    except Exception as error:
        return f" ({error})"
    for call, own in outputs:
        if call in last and isinstance(own, Tensor):
            node = last[call]
            if not close(own, values.get(node), SAME_KERNELS):
                if not call[0]:
                    return ", in its own forward"
                source = f" at {node.meta['source']}" if node.meta.get("source") else ""
                return f", first in module '{call[0]}'{source}"
    return ""


def _outputs_of_modules(model: nn.Module, arguments: Arguments) -> list[tuple[Call, object]]:
    """What each module call of a copy of the model returned, in order."""

    def run(copy: nn.Module, given: Arguments) -> list[tuple[Call, object]]:
        outputs: list[tuple[Call, object]] = []
        counts: dict[str, int] = {}

        def note(path: str, module: nn.Module, inputs: object, output: object) -> None:
            count = counts.get(path, 0)
            counts[path] = count + 1
            kept = output.clone() if isinstance(output, Tensor) else output
            outputs.append(((path, count), kept))

        for path, module in copy.named_modules():
            module.register_forward_hook(functools.partial(note, path))
        given.call(copy, given.tensors)
        return outputs

    return isolated(model, arguments, run)  # type: ignore[no-any-return]
