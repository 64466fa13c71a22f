"""Small helpers to edit graphs."""

from __future__ import annotations

import operator
import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrp_fx.capture import EXAMPLE, Captured, module_path
from lrp_fx.graph.calls import Packet, name_of, packet_of
from lrp_fx.sources import with_source


def copied(captured: Captured) -> Captured:
    """The same capture around a copy of its graph; the tensors are shared."""
    graph = fx.Graph()
    output = graph.graph_copy(captured.module.graph, {}, return_output_node=False)
    graph.output(output)
    tensors = {
        str(node.target): tensor_at(captured.module, str(node.target))
        for node in graph.nodes
        if node.op == "get_attr"
    }
    module = with_source(fx.GraphModule(tensors, graph, class_name="Canonical"))
    return replace(captured, module=module)


def tensor_at(module: fx.GraphModule, path: str) -> Tensor:
    """The tensor that a ``get_attr`` node of this target yields."""
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value  # type: ignore[no-any-return]


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
            return node.target(*args, **kwargs)  # type: ignore[operator]
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
    return module.meta.setdefault(_SHAPES, Shapes(module))  # type: ignore[no-any-return]


def forget_shapes(module: fx.GraphModule) -> None:
    """Let nothing hold the graph's nodes any longer."""
    module.meta.pop(_SHAPES, None)


def is_call(value: Any, *names: str) -> bool:
    """Whether a value is a call of one of these operations."""
    return isinstance(value, fx.Node) and name_of(value) in names


def before_spreading(value: Any) -> Any:
    """The value that was spread to the shape of another."""
    while is_call(value, "expand", "expand_as"):
        value = value.args[0]
    return value


def call_like(graph: fx.Graph, origin: fx.Node, packet: Packet, *args: Any) -> fx.Node:
    """A new ATen call that says it comes from where ``origin`` comes from."""
    node = graph.call_function(packet, args)
    node.meta = dict(origin.meta)
    return node


def call_again(graph: fx.Graph, call: fx.Node, old: Any, new: fx.Node) -> fx.Node:
    """The same ATen call of another operand."""
    args, kwargs = fx.map_arg((call.args, call.kwargs), lambda n: new if n is old else n)
    copy = call_like(graph, call, packet_of(call.target), *args)  # type: ignore[arg-type]
    copy.kwargs = kwargs
    return copy


def call_like_getitem(graph: fx.Graph, origin: fx.Node, index: int) -> fx.Node:
    """``origin[index]`` of a call that returns several tensors."""
    node = graph.call_function(operator.getitem, (origin, index))
    node.meta = dict(origin.meta)
    return node


def replace_by(node: fx.Node, substitute: fx.Node) -> None:
    """Let ``substitute`` stand for ``node``, which goes; its modules stay known under their names."""
    merged = node.meta.get("module_calls", ()) + node.meta.get("merged_calls", ())
    if substitute.op == "call_function" and merged != substitute.meta.get("module_calls"):
        substitute.meta["merged_calls"] = substitute.meta.get("merged_calls", ()) + merged
    node.replace_all_uses_with(substitute)
    node.graph.erase_node(node)


def remove_unused(graph: fx.Graph) -> None:
    """Erase every node that nobody reads, inputs and the output aside."""
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)


def name_after_modules(graph: fx.Graph) -> None:
    """Name each call after its module and operation: ``layer1_0_conv1_conv2d``."""
    taken: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_function":
            base = f"{module_path(node)}_{name_of(node)}"
        elif node.op == "get_attr":
            base = str(node.target)
        else:
            base = node.name
        base = re.sub(r"\W", "_", base).strip("_")
        # names become attributes of modules: no digit first, and none that a module has already
        base = f"_{base}" if base[:1].isdigit() or hasattr(nn.Module, base) else base
        name = base
        while name in taken:
            taken[base] += 1
            name = f"{base}_{taken[base]}"
        taken[name] = 0
        node.meta["name"] = name
    for node in graph.nodes:
        node.name = node.meta.pop("name")
