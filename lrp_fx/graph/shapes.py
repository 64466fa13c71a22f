"""The shapes of values in a graph, by fake tensors; computed once for each graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph.editing import tensor_at


def shape_of(value: Any, module: fx.GraphModule) -> torch.Size | None:
    """The shape of a parameter, or of a tensor computed from parameters alone; else None."""
    return Constants(module).shape_of(value)


class Constants:
    """Parameters, and tensors computed from parameters alone, on the meta device.

    Each value is computed once. A graph may be edited meanwhile as long as what takes the place of a
    constant has its shape and type.

    Args:
        module: holds the parameters.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self._known: dict[fx.Node, Any] = {}
        """None for a value that is no constant."""

    def shape_of(self, value: Any) -> torch.Size | None:
        """The shape of a constant; None for any other value."""
        constant = self(value)
        return None if constant is None else constant.shape

    def __call__(self, value: Any) -> Tensor | None:
        """A constant without its data; None for any other value."""
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

    def _computed(self, node: fx.Node) -> Any:
        """The value of a node whose operands are known."""
        if node.op == "get_attr":
            return tensor_at(self.module, str(node.target)).to("meta")
        is_call = node.op == "call_function" and bool(node.all_input_nodes)
        if not is_call or any(self._known[n] is None for n in node.all_input_nodes):
            return None
        return self._called(node, *fx.map_arg((node.args, node.kwargs), self._known.__getitem__))

    @staticmethod
    def _called(node: fx.Node, args: Any, kwargs: Any) -> Any:
        try:
            function: Any = node.target
            return function(*args, **kwargs)
        except Exception:  # nobody can tell
            return None


class Shapes(Constants):
    """Of every value that can be computed without data, its shape for the arguments that were read."""

    def _computed(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return node.meta.get(EXAMPLE)
        makes = node.op == "call_function" and "device" in node.kwargs
        if not makes or any(self._known[n] is None for n in node.all_input_nodes):
            return super()._computed(node)
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), self._known.__getitem__)
        return self._called(node, args, {**kwargs, "device": "meta"})


_SHAPES = "shapes"


def shapes_of(module: fx.GraphModule | None) -> Shapes:
    """The shapes of the values of a module's graph; each is computed once while it is edited."""
    assert module is not None
    shapes: Shapes = module.meta.setdefault(_SHAPES, Shapes(module))
    return shapes


def forget_shapes(module: fx.GraphModule) -> None:
    """Let nothing hold the graph's nodes any longer."""
    module.meta.pop(_SHAPES, None)


EXAMPLE = "example"
"""Under which name a placeholder keeps an argument without its data, where there was one."""
