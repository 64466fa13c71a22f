"""What a capture yields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx

from lrp_fx.capture.signature import Signature, signature_of
from lrp_fx.capture.traces import form_of
from lrp_fx.graph import (
    TreeSpec,
    tensor_at,
    tree_flatten,
    tree_unflatten,
    with_source,
)

Way = Literal["symbolic", "export", "record"]
Call = tuple[str, int]
"""A module path and which call of that module it is, counted from 0."""


@dataclass(frozen=True)
class Arguments:
    """The model's arguments, taken apart into tensors and everything else.

    Args:
        tensors: the tensors, in the order in which they occur.
        constants: one entry per leaf; the places of the tensors hold :data:`TENSOR`.
        spec: how the leaves form the arguments.
    """

    tensors: tuple[Tensor, ...]
    constants: tuple[Any, ...]
    spec: TreeSpec

    @classmethod
    def of(cls, values: tuple[Any, ...], keywords: Mapping[str, Any] | None = None) -> Arguments:
        """Take positional and keyword arguments apart; the positional ones come first."""
        leaves, spec = tree_flatten((values, dict(keywords or {})))
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        constants = tuple(TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        return cls(tensors, constants, spec)

    def call(self, function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        """Call a function with these arguments, with ``values`` in the places of the tensors."""
        rest = iter(values)
        leaves = [next(rest) if leaf is TENSOR else leaf for leaf in self.constants]
        positional, keywords = tree_unflatten(leaves, self.spec)
        return function(*positional, **keywords)

    @property
    def structure(self) -> Signature:
        """What a symbolic capture depends on: everything but the tensors' values and shapes."""
        followed = {id(tensor): f"argument {place}" for place, tensor in enumerate(self.tensors)}
        return signature_of(self.constants, self.spec, followed=followed)

    @property
    def shapes(self) -> tuple[Any, ...]:
        """What a verification depends on: the tensors' forms, which are one, and the settings around."""
        ids = [id(tensor) for tensor in self.tensors]
        kinds = {"cpu", "cuda", *(tensor.device.type for tensor in self.tensors)}
        settings = tuple(
            (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
            for kind in sorted(kinds)
        )
        forms = tuple(map(form_of, self.tensors))
        return forms, tuple(map(ids.index, ids)), settings, torch.is_inference_mode_enabled()


def flattened(output: Any) -> tuple[list[Any], TreeSpec]:
    """The leaves of a model's output, and how they form it.

    A dataclass is the dict of its fields. Any other object beside tensors, such as a language model's
    cache of keys and values, is None: nothing in it can be explained.
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
"""What a graph may return; anything else is an object."""


@dataclass(frozen=True)
class Captured:
    """A model as a graph of ATen calls.

    Args:
        module: an ``fx.GraphModule`` whose tensor calls are ATen overload packets. Its placeholders
            are the tensors of the arguments in order; its ``get_attr`` targets are the paths of the
            model's own parameters and buffers, or names of constants that the code made. The
            output is a flat tuple. Each call keeps in ``node.meta``: ``module_calls`` (outermost
            first, a tuple of :data:`Call`) and ``source`` (file:line of the user's code).
        outputs: how the flat outputs form the model's output.
        way: which capture read it.
        constants: the ``get_attr`` targets that are not the model's.
        is_assumed: whether hooks were left out, which did nothing when the model was read and may act
            on other inputs.
    """

    module: fx.GraphModule
    outputs: TreeSpec
    way: Way
    constants: Mapping[str, Tensor]
    is_assumed: bool = False

    def placeholders(self) -> list[fx.Node]:
        """The inputs, in order."""
        return [node for node in self.module.graph.nodes if node.op == "placeholder"]

    def results(self) -> list[Any]:
        """The flat outputs: nodes, or plain values."""
        (output,) = (node for node in self.module.graph.nodes if node.op == "output")
        return list(output.args[0])


def module_path(node: fx.Node) -> str:
    """The path of the innermost module that made the call ("" for the model itself)."""
    calls: tuple[Call, ...] = node.meta.get("module_calls", ())
    return calls[-1][0] if calls else ""


def where(node: fx.Node) -> str:
    """Where in the user's model a node comes from, for messages."""
    path, source = module_path(node), node.meta.get("source")
    place = f"in module '{path}'" if path else "in the model's own forward"
    return f"{place} ({source})" if source else place


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
