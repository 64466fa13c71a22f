"""Capture by recording the ATen operations that one call executes.

It is for models whose Python code branches on data, which no tracer can follow. The graph is valid
for this one call only, because the next input may take another branch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor, fx, nn
from torch.fx import traceback
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from lrp_fx.capture.captured import Arguments, Captured, flattened
from lrp_fx.capture.copier import Hooks
from lrp_fx.capture.export import PREFIX, as_captured
from lrp_fx.capture.packed import packed_form
from lrp_fx.capture.restoring import restoring
from lrp_fx.capture.sparse_values import COMPRESSED, as_pairs, hold_sparse_values
from lrp_fx.capture.stand_ins import own_values
from lrp_fx.capture.structural_copy import copied_call, held_tensors
from lrp_fx.capture.trail import refuse_question
from lrp_fx.errors import lacks_memory
from lrp_fx.graph import TreeSpec, WholeLayers, functionalized, with_source


class _Values(TorchFunctionMode):
    """Reads values entry by entry: recorded tensors have no memory that NumPy or lists could read.

    Sparse matrices of compressed rows, which have no strides, stay pairs of places and values.
    With the lengths of packed sequences, their calls become calls for sequences of one length.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        refuse_question(func, sys._getframe(1))
        if func is Tensor.tolist:
            return _listed(args[0])
        if func in (Tensor.numpy, Tensor.__array__):
            like = torch.empty((), dtype=args[0].dtype).numpy()
            own = (kwargs or {}).get("dtype") if func is Tensor.__array__ else None
            return numpy.array(_listed(args[0]), dtype=own or like.dtype)
        if func in _MAKING and args and any(isinstance(leaf, Tensor) for leaf in _leaves(args[-1])):
            return _made(func, args, kwargs or {})
        if func in _COMPRESSING:
            return args[0] if args[0].layout == torch.sparse_coo else args[0].to_sparse()
        if func in COMPRESSED:
            return as_pairs(func, args, kwargs or {})
        packed = packed_form(func, args, _listed)
        return packed if packed is not None else func(*args, **(kwargs or {}))


_COMPRESSING = (Tensor.to_sparse_csr, Tensor.to_sparse_csc)


_MAKING = (torch.tensor, torch.as_tensor, Tensor.new_tensor)


def _made(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A tensor made of lists with tensors in them, which is made of their numbers instead."""
    if func is not Tensor.new_tensor and kwargs.get("dtype") is None:  # as torch finds it
        kinds = [torch.result_type(leaf, leaf) for leaf in _leaves(args[-1])]
        kwargs = {**kwargs, "dtype": functools.reduce(torch.promote_types, kinds)}
    return func(*args[:-1], _numbers(args[-1]), **kwargs)


def _leaves(values: Any) -> list[Any]:
    """The entries of nested lists; none of anything else."""
    if not isinstance(values, (list, tuple)):
        return []
    return [e for value in values for e in (_leaves(value) or [value])]


def _numbers(values: Any) -> Any:
    """Nested lists with numbers in place of tensors."""
    if isinstance(values, (list, tuple)):
        return [_numbers(value) for value in values]
    return _listed(values) if isinstance(values, Tensor) else values


def _listed(tensor: Tensor) -> Any:
    return [_listed(entry) for entry in tensor] if tensor.dim() else tensor.item()


class NotRecordable(Exception):
    """The call cannot be recorded; the message has the reason."""


def record(
    model: nn.Module,
    arguments: Arguments,
    left_out: Hooks,
    without_writes: Callable[[Callable[..., Any]], Callable[..., Any]] = functionalized,
) -> Captured:
    """Capture what ``model`` does with these arguments by running a structural copy of it once.

    Args:
        model: the user's model; it is only read.
        arguments: its arguments.
        left_out: forward hooks that are not called.
        without_writes: makes a function that writes to no tensor of one that does.

    Raises:
        NotRecordable: if recording fails, with PyTorch's reason.
    """
    specs: list[TreeSpec] = []
    held = held_tensors(model, arguments, left_out)
    count = len(arguments.tensors)

    def run(*tensors: torch.Tensor) -> tuple[Any, ...]:
        given = {id(t): tensor for t, tensor in zip(held, tensors[count:], strict=True)}
        copy, own = copied_call(
            model,
            arguments,
            tensors[:count],
            replace_tensor=lambda path, tensor: given[id(tensor)],
            left_out=left_out,
        )
        _announce(copy)
        with WholeLayers(), _Values():
            leaves, spec = flattened(own.call(copy, own.tensors))
        specs.append(spec)
        return tuple(leaves)

    recorder = make_fx(without_writes(run), tracing_mode="real", _error_on_data_dependent_ops=False)
    try:
        with restoring(model, arguments, left_out), torch.no_grad(), traceback.preserve_node_meta():
            inputs = (tensor.detach().clone() for tensor in arguments.tensors)
            own_tensors = (_recordable(own_values(None, tensor)) for tensor in held)
            module = with_source(recorder(*inputs, *own_tensors))
    except Exception as error:
        if lacks_memory(error):
            raise
        raise NotRecordable(f"{type(error).__name__}: {str(error)[:300]}") from error
    _hold(module, [_recordable(tensor) for tensor in held], count)
    hold_sparse_values(module)
    return as_captured(module, model, specs[-1], "record", {})


def record_assignments(model: nn.Module, arguments: Arguments, left_out: Hooks) -> Captured:
    """As :func:`record`; also follows assignments to ``.data``, not functions with own derivatives."""
    replaces = functools.partial(torch.func.functionalize, remove="mutations")
    return record(model, arguments, left_out, replaces)


def _recordable(tensor: Tensor) -> Tensor:
    """The tensor; a sparse one of compressed rows or columns, which no recording can hold, as pairs."""
    is_compressed = tensor.layout not in (torch.strided, torch.sparse_coo)
    return tensor.to_sparse() if is_compressed and not tensor.is_mkldnn else tensor


def _hold(module: fx.GraphModule, held: list[torch.Tensor], count: int) -> None:
    """Turn the model's tensors, which were the last inputs of the recording, into attributes."""
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    for index, (node, tensor) in enumerate(zip(placeholders[count:], held, strict=True)):
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(f"held_{index}", tensor)
        else:
            module.register_buffer(f"held_{index}", tensor)
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(module.graph.get_attr(f"held_{index}"))
        module.graph.erase_node(node)


def _announce(copy: nn.Module) -> None:
    """Make each module of the copy write its path to the nodes that are recorded in its forward."""
    counts: dict[str, int] = {}
    for path, module in list(copy.named_modules()):
        forward = functools.partial(
            _forward, f"{PREFIX}.{path}".rstrip("."), counts, module.forward
        )
        module.__dict__["forward"] = forward


def _forward(path: str, counts: dict[str, int], forward: Any, *args: Any, **kwargs: Any) -> Any:
    count = counts.get(path, 0)
    counts[path] = count + 1
    meta = traceback.current_meta
    outer = meta.get("nn_module_stack", {})
    key = path if count == 0 else f"{path}@{count}"
    meta["nn_module_stack"] = {**outer, key: (path, "")}
    try:
        return forward(*args, **kwargs)
    finally:
        meta["nn_module_stack"] = outer
