"""Small helpers to edit graphs."""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, fx, nn

from lrp_fx.graph.calls import Packet, called, name_of


def tensor_at(module: nn.Module, path: str) -> Tensor:
    """The tensor that a ``get_attr`` node of this target yields."""
    *owners, name = path.split(".")
    for owner in owners:
        module = getattr(module, owner)
    tensor: Tensor = getattr(module, name)
    return tensor


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
    copy = call_like(graph, call, called(call), *args)
    copy.kwargs = kwargs
    return copy


def call_like_getitem(graph: fx.Graph, origin: fx.Node, index: int) -> fx.Node:
    """``origin[index]`` of a call that returns several tensors."""
    node = graph.call_function(operator.getitem, (origin, index))
    node.meta = dict(origin.meta)
    return node


def index_of(node: fx.Node) -> int:
    """``i`` of a node ``origin[i]``."""
    index = node.args[1]
    assert isinstance(index, int)
    return index


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
