"""Writers of calls in place of a node, and forms: how one call is written with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, fx

from lrp_fx.graph import (
    Packet,
    arguments,
    call_like,
    call_like_getitem,
    index_of,
    is_call,
    replace_by,
    shapes_of,
)


@dataclass(frozen=True)
class Writer:
    """Writes ATen calls in place of a node.

    Args:
        node: the node that the calls replace.
    """

    node: fx.Node

    def __call__(self, packet: Packet, *args: Any, **kwargs: Any) -> fx.Node:
        """Write a call and return its node."""
        return call_like(self.node.graph, self.node, packet, *args, **kwargs)

    def result(self, call: fx.Node, index: int) -> fx.Node:
        """Write ``call[index]``, where the call returns several tensors."""
        return call_like_getitem(self.node.graph, call, index)

    def known(self, value: Any) -> Tensor | None:
        """The value as a tensor without data; None if its shape is not known."""
        return shapes_of(self.module)(value)

    @property
    def module(self) -> fx.GraphModule:
        """The module that holds the parameters of the graph."""
        module = self.node.graph.owning_module
        assert module is not None
        return module


@dataclass(frozen=True)
class CallWriter(Writer):
    """A writer that records which of its calls depend on the inputs.

    Args:
        node: the node that the calls replace.
        dynamic: the values that depend on the inputs, not only on their sizes. New calls are added.
    """

    dynamic: set[fx.Node]

    def __call__(self, packet: Packet, *args: Any, **kwargs: Any) -> fx.Node:
        """Write a call and return its node."""
        node = Writer.__call__(self, packet, *args, **kwargs)
        if any(self.is_dynamic(source) for source in node.all_input_nodes):
            self.dynamic.add(node)
        return node

    def is_dynamic(self, value: Any) -> bool:
        """Whether a value depends on the inputs."""
        return value in self.dynamic


Bound: TypeAlias = dict[str, Any]
"""The arguments of a call by name."""
Form: TypeAlias = Callable[[Writer, Bound], "fx.Node | Sequence[fx.Node] | None"]
"""From a writer and the arguments of a call to what replaces the call.

That is a list for a call of which parts are read, with the first of its results or all of them; None if
the call stays.
"""


def write_as(node: fx.Node, form: Form) -> None:
    """Replace a call by its form, if it has one."""
    written = form(Writer(node), arguments(node))
    if isinstance(written, fx.Node):
        replace_by(node, written)
    elif written is not None:
        replace_results(node, written)


def replace_results(node: fx.Node, results: Sequence[fx.Node]) -> None:
    """Replace the first results of a call, or all. If a further one is read, the call stays for it."""
    for user in [user for user in node.users if is_call(user, "getitem")]:
        if index_of(user) < len(results):
            replace_by(user, results[index_of(user)])
        elif not user.users:
            node.graph.erase_node(user)
    if not node.users:
        node.graph.erase_node(node)
