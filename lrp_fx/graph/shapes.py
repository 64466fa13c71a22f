"""The shapes of the values in a graph, computed once on the meta device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.passes.shape_prop import TensorMetadata

from lrp_fx.graph.calls import name_of, packet_of
from lrp_fx.graph.editing import tensor_at
from lrp_fx.graph.recurrent import RECURRENT, results_of_layer
from lrp_fx.graph.shape_rules import on_meta


def shape_of(value: Any, module: fx.GraphModule) -> torch.Size | None:
    """The shape of a parameter or a tensor computed from parameters alone; None for other values."""
    return Constants(module).shape_of(value)


class Constants:
    """The constants of a graph, without data: parameters and tensors computed from parameters alone.

    They are computed on the meta device, each once. Meanwhile the graph may be edited, as long as a
    node that replaces a constant has the same shape and dtype.

    Args:
        module: the module that holds the parameters.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self._known: dict[fx.Node, Any] = {}
        """The constant of each node seen so far; None for a node that is not a constant."""

    def shape_of(self, value: Any) -> torch.Size | None:
        """The shape of a constant; None for a value that is not a constant."""
        constant = self(value)
        return None if constant is None else constant.shape

    def __call__(self, value: Any) -> Tensor | None:
        """The constant as a tensor on the meta device; None for a value that is not a constant."""
        if not isinstance(value, fx.Node):
            return None
        waiting = [value]
        while waiting:
            missing = [n for n in waiting[-1].all_input_nodes if n not in self._known]
            if missing and waiting[-1] not in self._known:
                waiting.extend(missing)
                continue
            node = waiting.pop()
            if node not in self._known:
                self._known[node] = self._computed(node)
        found = self._known[value]
        return found if isinstance(found, Tensor) else None

    def results_of(self, value: fx.Node) -> list[Tensor] | None:
        """The results of a call that returns several tensors; None for other values."""
        self(value)
        found = self._known[value]
        return list(found) if isinstance(found, (list, tuple)) else None

    def _computed(self, node: fx.Node) -> Any:
        """Compute the value of a node from those of its operands, which are known."""
        if node.op == "get_attr":
            return tensor_at(self.module, str(node.target)).to("meta")
        is_call = node.op == "call_function" and bool(node.all_input_nodes)
        if not is_call or any(self._known[n] is None for n in node.all_input_nodes):
            return None
        return self._called(node, *fx.map_arg((node.args, node.kwargs), self._known.__getitem__))

    @staticmethod
    def _called(node: fx.Node, args: Any, kwargs: Any) -> Any:
        # a move to a device, which a tensor without data cannot make
        args = tuple("meta" if isinstance(arg, torch.device) else arg for arg in args)
        packet, function = packet_of(node.target), node.target
        try:
            if name_of(node) in RECURRENT and len(args) == 9:
                return results_of_layer(*args)
            if packet is not None:
                return on_meta(packet, args, kwargs)
            return function(*args, **kwargs) if callable(function) else None
        except Exception:  # not computable without data
            return None


class Shapes(Constants):
    """The shapes of all values that can be computed without data, inputs included.

    The inputs have the shapes of the arguments with which the model was captured.
    """

    def _computed(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return node.meta.get(EXAMPLE)
        makes = node.op == "call_function" and "device" in node.kwargs
        if not makes or any(self._known[n] is None for n in node.all_input_nodes):
            found = super()._computed(node)
            packet, recorded = node.meta.get(RECORDED, (None, None))
            return recorded if found is None and packet is packet_of(node.target) else found
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), self._known.__getitem__)
        return self._called(node, args, {**kwargs, "device": "meta"})


_SHAPES = "shapes"


def shapes_of(module: fx.GraphModule | None) -> Shapes:
    """The shapes of the values of a module's graph, cached on the module while the graph is edited."""
    assert module is not None
    shapes: Shapes = module.meta.setdefault(_SHAPES, Shapes(module))
    return shapes


def forget_shapes(module: fx.GraphModule) -> None:
    """Drop the cached shapes, which keep the nodes of the graph alive."""
    module.meta.pop(_SHAPES, None)


EXAMPLE = "example"
"""Key in a placeholder's ``meta`` for the captured argument as a tensor without data."""
RECORDED = "recorded"
"""Key in a call's ``meta`` for the operation and its recorded result, a tensor without data."""


def recorded_shape(node: fx.Node) -> dict[str, Any]:
    """The entry of ``meta`` for a recorded call whose values decide its shape, such as ``nonzero``."""
    found, target = node.meta.get("tensor_meta"), node.target
    is_open = torch.Tag.dynamic_output_shape in getattr(target, "tags", ())
    if not is_open or not isinstance(found, TensorMetadata):
        return {}
    if not all(type(size) is int for size in found.shape):
        return {}
    return {
        RECORDED: (packet_of(target), torch.empty(found.shape, dtype=found.dtype, device="meta"))
    }
