"""Capture by ``torch.export``: takes seconds, needs example inputs, follows more than tracing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.overrides import TorchFunctionMode

from lrp_fx.capture.captured import Arguments, Captured, Way, flattened
from lrp_fx.capture.copier import Hooks
from lrp_fx.capture.exclusive import exporting
from lrp_fx.capture.members import graph_path, named_tensors
from lrp_fx.capture.restoring import restoring
from lrp_fx.capture.running import cloned
from lrp_fx.capture.sparse_values import COMPRESSED
from lrp_fx.capture.stand_ins import own_buffer, own_values
from lrp_fx.capture.structural_copy import copied_arguments, copied_call
from lrp_fx.errors import lacks_memory
from lrp_fx.graph import (
    Call,
    HigherOrderOperator,
    OpOverload,
    Packet,
    TreeSpec,
    WholeLayers,
    aten,
    graph_module_of,
    hold_as_buffer,
    is_of_functorch,
    of_torch,
    packet_of,
    recorded_shape,
    remove_unused,
    schema_of,
    tensor_at,
)

PREFIX = "model"
_SOURCE = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = f"{torch.__path__[0]}/"


class NotExportable(Exception):
    """``torch.export`` cannot capture the model."""


class _Errors(TorchFunctionMode):
    """Counts the errors of torch's functions, of which the model's code may catch some.

    Makers of compressed sparse matrices are an error before torch runs: some of its errors print the
    matrix, which fails again and again until the stack ends, and then the next capture may crash.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            if func in COMPRESSED:
                raise NotExportable(f"{func.__name__} makes a matrix without strides")
            return func(*args, **(kwargs or {}))
        except Exception:
            self.count += 1
            raise


class _Positional(nn.Module):
    """The model as a module that takes only tensors and returns a flat tuple."""

    def __init__(
        self, model: nn.Module, arguments: Arguments, report: Callable[[TreeSpec], None]
    ) -> None:
        super().__init__()
        self.errors = _Errors()
        self.model = model
        self.arguments = arguments
        self.report = report

    def forward(self, *tensors: Tensor) -> tuple[Any, ...]:
        before = _attributes(self.model)
        given = copied_arguments(self.arguments, tensors)  # torch calls forward several times
        try:
            with WholeLayers(), self.errors:
                leaves, spec = flattened(given.call(self.model, tensors))
        except Exception as error:  # for some kinds of errors torch prints a graph
            if lacks_memory(error):
                raise
            raise NotExportable(first_line(error)) from error
        finally:
            _restore(before)
        self.report(spec)
        return tuple(leaves)


def _attributes(model: nn.Module) -> list[tuple[Any, Any]]:
    """The attribute dicts of a model's modules and all containers in them, each with a copy of it.

    The copies serve to remove tensors that a forward pass stores there. ``torch.export`` would warn
    about them, although they are not read, since the model is a copy.
    """
    found: list[tuple[Any, Any]] = []
    known: set[int] = set()
    waiting: list[Any] = [vars(module) for module in model.modules()]
    while waiting:
        value = waiting.pop()
        if id(value) in known or not isinstance(value, (dict, list, tuple)):
            continue
        known.add(id(value))
        if not isinstance(value, tuple):
            found.append((value, value.copy()))
        waiting += value.values() if isinstance(value, dict) else value
    return found


def _register(copy: nn.Module) -> None:
    """Turn plain tensor attributes into buffers; ``torch.export`` would treat them as constants."""
    for module in copy.modules():
        tensors = {name: v for name, v in vars(module).items() if type(v) is Tensor}
        for name, tensor in tensors.items():
            del vars(module)[name]
            hold_as_buffer(module, name, tensor)


def _restore(attributes: list[tuple[Any, Any]]) -> None:
    for value, before in attributes:
        value.clear()
        value.update(before) if isinstance(value, dict) else value.extend(before)


def export(model: nn.Module, arguments: Arguments, left_out: Hooks) -> Captured:
    """Capture ``model`` by exporting a structural copy of it, functionalized, for any batch size.

    The first dimension of the first tensor is the batch dimension, and so is the first dimension of
    every tensor of the same size. A single sample is repeated to a batch of two, because
    ``torch.export`` treats a size of one as a constant. If the batch size cannot be left open, the
    graph is only valid for the given one. ``torch.export`` tells tensors apart by identity, but
    each argument has to become an input of its own, even if it is also another argument or a
    parameter. So all tensors are cloned.

    Args:
        model: the user's model; it is only read.
        arguments: its arguments.
        left_out: forward hooks that are not called.

    Raises:
        NotExportable: if ``torch.export`` fails, with its reason.
    """
    with exporting(), restoring(model, arguments, left_out), torch.no_grad():
        program, reason = None, Exception("no sample")
        specs: list[TreeSpec] = []
        originals: dict[Any, Tensor] = {}
        registered = {graph_path(path) for path, _ in model.named_parameters()}

        def own(path: str | None, tensor: Tensor) -> Tensor:
            # torch.export replaces registered tensors only; writes to others are executed, on a
            # copy
            copy = own_buffer(path, tensor) if path in registered else own_values(path, tensor)
            if copy.is_leaf and copy.grad is not None:
                copy.grad = copy.grad.clone()
            originals[_memory(copy)] = tensor
            return copy

        for tensors, shapes in samples(cloned(arguments)):
            copy, given = copied_call(
                model, arguments, tensors, replace_tensor=own, left_out=left_out
            )
            _register(copy)
            wrapped = _Positional(copy, given, specs.append)
            wrapped.training = False  # the copy is in eval mode, except for shared modules
            try:
                program = torch.export.export(wrapped, tensors, dynamic_shapes=shapes, strict=False)
                if not _is_functional(program.graph):
                    program = program.run_decompositions({})
                if any(is_of_functorch(node.target) for node in program.graph.nodes):
                    program = None
                    raise NotExportable("torch.export keeps regions of torch.vmap as they are")
                break
            except Exception as error:
                if lacks_memory(error):
                    raise
                reason = error
                if isinstance(error.__cause__, GuardOnDataDependentSymNode):
                    break  # a branch on a value: it is there for every batch size
        if program is None:
            if isinstance(reason, NotExportable):
                raise reason
            raise NotExportable(first_line(reason)) from reason
        captured = as_captured(program.module(), model, specs[-1], "export", originals)
        return replace(captured, is_assumed=wrapped.errors.count > 0)


def _is_functional(graph: fx.Graph) -> bool:
    """Whether a graph consists of plain calls that write to none of their arguments.

    If not, ``run_decompositions`` makes it so. It also inlines the subgraphs of ``torch.vmap`` and
    of regions without gradients or with autocast. It takes longer than the export itself.
    """
    return all(
        not schema_of(node.target).is_mutable
        if isinstance(node.target, OpOverload)
        else not (isinstance(node.target, HigherOrderOperator) or is_of_functorch(node.target))
        for node in graph.nodes
        if node.op == "call_function"
    )


def samples(tensors: tuple[Tensor, ...]) -> list[tuple[tuple[Tensor, ...], Any]]:
    """Pairs of example inputs and dynamic shapes to try, the most general first."""
    static = (tensors, None)
    if not tensors or tensors[0].dim() == 0:
        return [static]
    size = tensors[0].shape[0]
    batched = [t.dim() > 0 and t.shape[0] == size for t in tensors]
    two = tuple(
        torch.cat([t, t]) if is_batched and size == 1 else t
        for t, is_batched in zip(tensors, batched, strict=True)
    )
    # older versions of torch refuse what is right for every size but the largest integer
    batch = torch.export.Dim("batch", max=2**31)
    dynamic = ([{0: batch} if is_batched else None for is_batched in batched],)
    return [(two, (tuple(dynamic[0]),)), static]


def as_captured(
    exported: fx.GraphModule,
    model: nn.Module,
    outputs: TreeSpec,
    way: Way,
    originals: Mapping[Any, Tensor],
) -> Captured:
    """Convert an exported or recorded ATen graph to the form that :class:`Captured` describes.

    Args:
        exported: the graph.
        model: the user's model.
        outputs: how the flat outputs are nested in the model's output.
        way: how the graph was made.
        originals: the model's tensors; the key is the memory of the tensor that replaces them in
            the graph.
    """
    known = named_tensors(model)
    paths = {id(tensor): path for path, tensor in known.items()}
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    tensors: dict[str, Tensor] = {}
    constants: dict[str, Tensor] = {}
    for node in exported.graph.nodes:
        if node.op == "get_attr":
            path = graph_path(str(node.target).removeprefix(f"{PREFIX}."))
            if path not in known:
                value = tensor_at(exported, str(node.target))
                if not isinstance(value, Tensor):
                    raise NotExportable(
                        f"the graph holds a {type(value).__name__}, which is not a tensor"
                    )
                value = originals.get(_memory(value), value)
                path = paths.get(id(value), f"_constant_{len(constants)}")
                if path not in known:
                    constants[path] = value
            value = known[path] if path in known else constants[path]
            tensors[path] = value
            copies[node] = graph.get_attr(path)
            copies[node].meta["dtype"] = value.dtype
        elif node.op == "call_module":  # checks the input's shape; verification replaces it
            continue
        elif node.op == "output":
            graph.output(fx.map_arg(tuple(node.args[0]), lambda n: copies[n]))
        else:
            copies[node] = copy = graph.node_copy(node, lambda n: copies[n])
            functional = _functional(node.target)
            if functional is not None:  # the in-place call would write to the model's own buffer
                copies[node.args[0]] = copy
            copy.target = functional or of_torch(packet_of(node.target)) or node.target
            copy.meta = {"module_calls": _calls(node), "source": _source(node)}
            copy.meta["dtype"] = getattr(node.meta.get("val"), "dtype", None)
            copy.meta |= recorded_shape(node)
    remove_unused(graph)  # a call that failed, and that the code went on without, is there too
    captured = graph_module_of(tensors, graph, "Captured")
    return Captured(captured, outputs, way, constants)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.layout != torch.strided:  # several tensors hold its entries
        return id(tensor), tensor.shape
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _functional(target: Any) -> Packet | None:
    """The functional form of an in-place call (``aten.add`` for ``aten.add_``); None for other calls."""
    packet = packet_of(target)
    name = "" if packet is None else str(packet.__name__)
    return getattr(aten, name[:-1], None) if name.endswith("_") else None


def _calls(node: fx.Node) -> tuple[Call, ...]:
    calls = []
    for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
        if not path.startswith(PREFIX):
            continue
        count = key.rpartition("@")[2] if "@" in key else "0"
        calls.append((path.removeprefix(PREFIX).removeprefix("."), int(count)))
    return tuple(calls)


def _source(node: fx.Node) -> str | None:
    frames = _SOURCE.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if not frame[0].startswith((_TORCH, __file__))]
    return f"{own[-1][0]}:{own[-1][1]}" if own else None


def first_line(error: Exception) -> str:
    """The type of an error and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
