"""What an attribution executes, as a straight line of kernels: the least that could be run instead."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class Tape(TorchDispatchMode):
    """Writes every ATen call down as a node of a graph, while it is executed."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.constants: dict[str, Tensor] = {}
        self.nodes = {id(x): self.graph.placeholder("x")}
        self.alive: list[Any] = [x]  # no address is used twice

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        noted = tree_map(self._node, (args, kwargs))
        node = self.graph.call_function(func, *noted)
        result = func(*args, **kwargs)
        self.alive.append(result)
        if isinstance(result, Tensor):
            self.nodes[id(result)] = node
        elif isinstance(result, (tuple, list)):
            for i, each in enumerate(result):
                if isinstance(each, Tensor):
                    self.nodes[id(each)] = self.graph.call_function(operator.getitem, (node, i))
        return result

    def _node(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.nodes:  # a parameter, or what was made before
            name = f"constant_{len(self.constants)}"
            self.constants[name] = value
            self.alive.append(value)
            self.nodes[id(value)] = self.graph.create_node("get_attr", name)
        return self.nodes[id(value)]


def straight_line(call: Callable[[Tensor], Tensor], x: Tensor) -> fx.GraphModule:
    """The kernels of ``call(x)`` one after the other, as one Python function without any decisions.

    What the result does not depend on, such as checks, is left out. Values are freed at last use.
    """
    with torch.no_grad():
        tape = Tape(x)
        with tape:
            result = call(x)
        tape.graph.output(tape.nodes[id(result)])
    tape.graph.eliminate_dead_code(changes_something)
    return fx.GraphModule(tape.constants, tape.graph)


def changes_something(node: fx.Node) -> bool:
    if node.op != "call_function":
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable
