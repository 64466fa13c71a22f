"""Capture by symbolic tracing: takes milliseconds, and follows all that depends on shapes alone.

``torch.fx.Tracer.trace`` patches ``nn.Module.__call__`` for the whole process while it runs. This
tracer instead runs a structural copy of the model on proxies. The modules of the copy have a
``forward`` that reports its call to the tracer, and proxies in place of their parameters. Nothing
else is changed. Each proxy knows the shape of its tensor for several :mod:`witnesses
<lrp_fx.capture.witnesses>`, so the graph holds for other sizes too. Without example inputs no shape
is known; then only code that asks for none can be followed.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from lrp_fx.capture.captured import Arguments, Captured, flattened
from lrp_fx.capture.copier import Hooks
from lrp_fx.capture.proxies import TensorProxy
from lrp_fx.capture.recorder import NotTraceable
from lrp_fx.capture.restoring import restoring
from lrp_fx.capture.structural_copy import copied_call
from lrp_fx.capture.tracer import SKIPPED, SymbolicTracer
from lrp_fx.capture.witnesses import Witnesses
from lrp_fx.errors import LRPError
from lrp_fx.graph import BatchNorm, NormBase, aten, call_at_once, graph_module_of

_BATCH_NORM = (BatchNorm.forward, nn.SyncBatchNorm.forward)
_OPAQUE = (NormBase, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Modules whose code asks for shapes."""


class _ModelTracer(SymbolicTracer):
    """A tracer for a structural copy of a model, whose modules report to it."""

    def source(self) -> str | None:
        return _user_line()

    def input(self, place: int, tensors: Sequence[Tensor]) -> TensorProxy:
        """A proxy for a tensor among the arguments."""
        node = self.create_node("placeholder", f"input_{place}", (), {})
        if self.witnesses is None:
            return self._tensor(node)
        node.meta["dtype"] = tensors[place].dtype
        values = self.witnesses.inputs[place]
        return TensorProxy.of(self, node, seen=values, at=tensors[place].device)

    def announce(self, copy: nn.Module, paths: dict[int, str]) -> None:
        """Make each module of the copy report to the tracer when its forward begins and ends."""
        for module in list(copy.modules()):
            if isinstance(module, torch.jit.ScriptModule):
                raise self.refusal(
                    "a scripted module has no Python code: pass the model from before torch.jit"
                )
            forward = functools.partial(self._forward, module, paths[id(module)], module.forward)
            module.__dict__["forward"] = forward
            call_at_once(module, forward)

    def _forward(
        self, module: nn.Module, path: str, forward: Any, *args: Any, **kwargs: Any
    ) -> Any:
        count = self.call_counts.get(path, 0)
        self.call_counts[path] = count + 1
        self.calls.append((path, count))
        try:
            if isinstance(module, BatchNorm) and type(module).forward in _BATCH_NORM:
                return self._batch_norm(module, *args, **kwargs)
            is_opaque = isinstance(module, _OPAQUE) and not isinstance(module, BatchNorm)
            if self.witnesses is None and is_opaque:
                raise self.refusal(f"{type(module).__name__} can only be captured with inputs")
            return forward(*args, **kwargs)
        finally:
            self.calls.pop()

    def _batch_norm(self, module: BatchNorm, input: Any) -> Any:
        # The module's own forward asks for the number of dimensions, which is unknown here.
        batch_statistics = module.running_mean is None and module.running_var is None
        return self.emit(
            aten.batch_norm,
            (
                *(input, module.weight, module.bias, module.running_mean, module.running_var),
                *(batch_statistics, module.momentum or 0.0, module.eps, False),
            ),
            {},
        )


def _user_line() -> str | None:
    """``file:line`` of the innermost frame of the user's code; None if all frames are torch's."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        filename = frame.f_code.co_filename
        if frame.f_code is trace.__code__:
            return None
        if not filename.startswith(SKIPPED) and not filename.startswith("<"):
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def trace(model: nn.Module, arguments: Arguments, left_out: Hooks) -> Captured:
    """Capture ``model`` by symbolic tracing, without using the values of the tensors.

    Args:
        model: the user's model; it is only read.
        arguments: its arguments; the graph holds for their shapes, and for others where it can.
        left_out: forward hooks that are not called.

    Raises:
        NotTraceable: if the model's Python code needs a value.
        LRPError: if no capture can explain the model.
    """
    if any(repr(leaf) == "<tensor>" for leaf in arguments.constants) and not arguments.tensors:
        return _traced(model, arguments, left_out, _ModelTracer(None))
    reason = None
    for poses in (False, True):
        for varied in (None, 1, 0):
            try:
                witnesses = Witnesses(arguments.tensors, varied)
            except Exception:  # not every kind of tensor can be without data
                return _traced(model, arguments, left_out, _ModelTracer(None))
            try:
                return _traced(model, arguments, left_out, _ModelTracer(witnesses, poses=poses))
            except NotTraceable as error:
                asks_value = error.asks_value
                if reason is None or (asks_value and not reason.asks_value):
                    reason = error
                if asks_value or len(witnesses.live) == 1:
                    break
        if not asks_value:
            break
    assert reason is not None
    raise reason


def _traced(
    model: nn.Module, arguments: Arguments, left_out: Hooks, tracer: _ModelTracer
) -> Captured:
    with restoring(model, arguments, left_out), torch.no_grad():
        count = sum(1 for leaf in arguments.constants if repr(leaf) == "<tensor>")
        inputs = tuple(tracer.input(place, arguments.tensors) for place in range(count))
        copy, own = copied_call(
            model, arguments, inputs, replace_tensor=tracer.parameter, left_out=left_out
        )
        paths = {id(module): path for path, module in copy.named_modules()}
        try:
            tracer.announce(copy, paths)
            with tracer.mode:
                result = own.call(copy, inputs)
        except (LRPError, NotTraceable):
            raise
        except Exception as error:
            raise NotTraceable(f"{type(error).__name__}: {error}") from error
        if tracer.refused is not None:  # caught by a bare except, or lost in a finally
            raise tracer.refused
        outputs, spec = flattened(result)
        try:
            tracer.graph.output(tuple(tracer.create_arg(leaf) for leaf in outputs))
        except NotImplementedError as error:
            reason = (
                "the model returns more than tensors and plain values, in tuples, lists or dicts"
            )
            raise NotTraceable(reason) from error
        tracer.finished()
        used = {node.target for node in tracer.graph.nodes if node.op == "get_attr"}
        tensors = {
            name: value
            for name, value in itertools.chain(tracer.tensors.items(), tracer.constants.items())
            if name in used
        }
        module = graph_module_of(tensors, tracer.graph, "Captured")
        constants = {name: value for name, value in tracer.constants.items() if name in used}
        return Captured(module, spec, "symbolic", constants)
