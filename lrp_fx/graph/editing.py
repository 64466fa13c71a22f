"""Small helpers for reading and editing graphs."""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, fx, nn

from lrp_fx.graph.calls import Packet, called, name_of


def tensor_at(module: nn.Module, path: str) -> Tensor:
    """The tensor that a ``get_attr`` node with the target ``path`` returns."""
    *owners, name = path.split(".")
    for owner in owners:
        module = getattr(module, owner)
    tensor: Tensor = getattr(module, name)
    return tensor


def is_call(value: Any, *names: str) -> bool:
    """Whether a value is a node that calls one of the operations with these names."""
    return isinstance(value, fx.Node) and name_of(value) in names


def before_expansion(value: Any) -> Any:
    """The value before it was expanded (``expand``, ``expand_as``)."""
    while is_call(value, "expand", "expand_as"):
        value = value.args[0]
    return value


def call_like(
    graph: fx.Graph, origin: fx.Node, packet: Packet, *args: Any, **kwargs: Any
) -> fx.Node:
    """A new ATen call with the metadata of ``origin``: module, source line and so on."""
    node = graph.call_function(packet, args, kwargs)
    node.meta = dict(origin.meta)
    return node


def call_with_operand(graph: fx.Graph, call: fx.Node, old: Any, new: fx.Node) -> fx.Node:
    """A copy of an ATen call in which the operand ``new`` replaces ``old``."""
    args, kwargs = fx.map_arg((call.args, call.kwargs), lambda n: new if n is old else n)
    return call_like(graph, call, called(call), *args, **kwargs)


def call_like_getitem(graph: fx.Graph, origin: fx.Node, index: int) -> fx.Node:
    """A new node for ``origin[index]``, where ``origin`` is a call that returns several tensors."""
    node = graph.call_function(operator.getitem, (origin, index))
    node.meta = dict(origin.meta)
    return node


def index_of(node: fx.Node) -> int:
    """``i`` of a node ``origin[i]``."""
    index = node.args[1]
    assert isinstance(index, int)
    return index


def replace_by(node: fx.Node, substitute: fx.Node) -> None:
    """Replace ``node`` by ``substitute`` and erase it.

    ``substitute`` takes over the module calls that ``node`` belongs to, so that they can still be
    found by name.
    """
    merged = node.meta.get("module_calls", ()) + node.meta.get("merged_calls", ())
    if substitute.op == "call_function" and merged != substitute.meta.get("module_calls"):
        substitute.meta["merged_calls"] = substitute.meta.get("merged_calls", ()) + merged
    node.replace_all_uses_with(substitute)
    node.graph.erase_node(node)


def remove_unused(graph: fx.Graph) -> None:
    """Erase every node without users, except for placeholders and the output."""
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
