"""The result of a capture, and the arguments with which a model is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx

from lrp_fx.capture.signature import Signature, signature_of
from lrp_fx.capture.traces import form_of
from lrp_fx.graph import (
    LateCode,
    TreeSpec,
    graph_module_of,
    tensor_at,
    tree_flatten,
    tree_unflatten,
)

Way = Literal["symbolic", "export", "record"]


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call of the model, split into tensors and everything else.

    Args:
        tensors: the tensors, in the order in which they occur.
        constants: one entry per leaf, with :data:`TENSOR` in the places of the tensors.
        spec: how the leaves are nested.
    """

    tensors: tuple[Tensor, ...]
    constants: tuple[Any, ...]
    spec: TreeSpec

    @classmethod
    def of(cls, values: tuple[Any, ...], keywords: Mapping[str, Any] | None = None) -> Arguments:
        """Split positional and keyword arguments; the positional ones come first."""
        leaves, spec = tree_flatten((values, dict(keywords or {})))
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        constants = tuple(TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        return cls(tensors, constants, spec)

    def call(self, function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        """Call a function with these arguments, with ``values`` in place of the tensors."""
        rest = iter(values)
        leaves = [next(rest) if leaf is TENSOR else leaf for leaf in self.constants]
        positional, keywords = tree_unflatten(leaves, self.spec)
        return function(*positional, **keywords)

    @property
    def structure(self) -> Signature:
        """The signature of all on which a symbolic capture depends: not the tensors' values or shapes."""
        followed = {id(tensor): f"argument {place}" for place, tensor in enumerate(self.tensors)}
        return signature_of(self.constants, self.spec, followed=followed)

    @property
    def shapes(self) -> tuple[Any, ...]:
        """All on which a verification depends, except the tensors' values.

        That is the form of each tensor, which arguments are the same tensor, and the settings of
        autocast and inference mode.
        """
        ids = [id(tensor) for tensor in self.tensors]
        kinds = {"cpu", "cuda", *(tensor.device.type for tensor in self.tensors)}
        settings = tuple(
            (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
            for kind in sorted(kinds)
        )
        forms = tuple(map(form_of, self.tensors))
        return forms, tuple(map(ids.index, ids)), settings, torch.is_inference_mode_enabled()


def flattened(output: Any) -> tuple[list[Any], TreeSpec]:
    """The leaves of a model's output, and how they are nested.

    A dataclass counts as the dict of its fields. If the output contains tensors, any other object
    beside them, such as a language model's key-value cache, is replaced by None, as it cannot be
    explained.
    """
    leaves, spec = tree_flatten(output)
    opened = [_opened(leaf) for leaf in leaves]
    if any(new is not leaf for new, leaf in zip(opened, leaves, strict=True)):
        return flattened(tree_unflatten(opened, spec))
    if any(isinstance(leaf, (Tensor, fx.Proxy)) for leaf in leaves):
        leaves = [leaf if isinstance(leaf, _LEAVES) else None for leaf in leaves]
    return leaves, spec


def _opened(leaf: Any) -> Any:
    if not is_dataclass(leaf) or isinstance(leaf, type):
        return leaf
    return {field.name: getattr(leaf, field.name) for field in fields(leaf)}


class _Tensor:
    def __repr__(self) -> str:
        return "<tensor>"


TENSOR = _Tensor()
_LEAVES = (
    *(Tensor, fx.Proxy, bool, int, float, complex, str),
    *(torch.SymInt, torch.SymFloat, torch.SymBool, torch.dtype, torch.device),
)
"""The types of values that a graph may return."""


@dataclass(frozen=True)
class Captured:
    """A model as a graph of ATen calls.

    Args:
        module: an ``fx.GraphModule`` whose tensor calls are calls of ATen overload packets. Its
            placeholders are the tensors of the arguments in order. Its ``get_attr`` targets are the
            paths of the model's parameters and buffers, or the names of constants. Its output is a
            flat tuple. The ``meta`` of each call has the keys ``module_calls``, a tuple of
            :data:`lrp_fx.graph.Call` with the outermost first, and ``source``, the file and line in the
            user's code.
        outputs: how the flat outputs are nested in the model's output.
        way: which capture produced the graph.
        constants: the ``get_attr`` targets that are not tensors of the model, with their values.
        is_assumed: whether the graph may be wrong on other inputs. That is so if forward hooks were
            left out, which did nothing during the capture, if the model's code caught an error
            that only the capture caused, or if it asks for a value, but did not ask this capture.
    """

    module: fx.GraphModule
    outputs: TreeSpec
    way: Way
    constants: Mapping[str, Tensor]
    is_assumed: bool = False

    def placeholders(self) -> list[fx.Node]:
        """The input nodes, in order."""
        return [node for node in self.module.graph.nodes if node.op == "placeholder"]

    def results(self) -> list[Any]:
        """The flat outputs: nodes or plain values."""
        (output,) = (node for node in self.module.graph.nodes if node.op == "output")
        return list(output.args[0])


def copied(captured: Captured) -> Captured:
    """The same capture with a copy of its graph, to be edited; the tensors are shared."""
    graph = fx.Graph()
    output = graph.graph_copy(captured.module.graph, {}, return_output_node=False)
    graph.output(output)
    tensors = {
        str(node.target): tensor_at(captured.module, str(node.target))
        for node in graph.nodes
        if node.op == "get_attr"
    }
    module = graph_module_of(tensors, graph, "Canonical", LateCode)
    return replace(captured, module=module)
