"""Structural copies of a model: new module objects in eval mode that share the parameters.

Everything that has to run the model's Python code runs it on such a copy, so that the user's model
is never traced, hooked, switched to eval or given an attribute.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Replace = Callable[[str, Tensor], Any]


def structural_copy(
    model: nn.Module,
    *,
    replace_tensor: Replace | None = None,
    keep_hooks: bool = True,
) -> nn.Module:
    """A copy of ``model`` in eval mode, of new module objects around the same tensors.

    A module used under two paths is one module in the copy too. Lists, dicts, bound methods and
    partials that hold modules are rebuilt around the copies; any other value is shared.

    Args:
        model: the module to copy; it is only read.
        replace_tensor: called with (path, tensor) for each parameter and buffer, returns what stands
            in its place.
        keep_hooks: False leaves the user's forward hooks out.
    """
    memo: dict[int, Any] = {}
    tensors: dict[int, Any] = {}

    def place(path: str, tensor: Tensor | None) -> Any:
        if tensor is None or replace_tensor is None:
            return tensor
        if id(tensor) not in tensors:
            tensors[id(tensor)] = replace_tensor(path, tensor)
        return tensors[id(tensor)]

    def copy_module(module: nn.Module, path: str) -> nn.Module:
        if id(module) in memo:
            return memo[id(module)]  # type: ignore[no-any-return]
        twin = module.__class__.__new__(module.__class__)
        memo[id(module)] = twin
        prefix = f"{path}." if path else ""
        state = twin.__dict__
        for name, value in module.__dict__.items():
            if name in ("_parameters", "_buffers"):
                state[name] = {key: place(prefix + key, t) for key, t in value.items()}
            elif name == "_modules":
                state[name] = {
                    key: None if child is None else copy_module(child, prefix + key)
                    for key, child in value.items()
                }
            elif name in ("_forward_hooks", "_forward_pre_hooks"):
                state[name] = type(value)(value) if keep_hooks else type(value)()
            else:
                state[name] = copy_value(value, path)
        state["training"] = False
        return twin

    def copy_value(value: Any, path: str) -> Any:
        kind = type(value)
        if isinstance(value, nn.Module):
            return copy_module(value, path)
        if kind in (list, tuple, set):
            return kind(copy_value(item, path) for item in value)
        if kind is dict:
            return {key: copy_value(item, path) for key, item in value.items()}
        if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
            return types.MethodType(value.__func__, copy_module(value.__self__, path))
        if isinstance(value, functools.partial):
            keywords = {key: copy_value(item, path) for key, item in value.keywords.items()}
            return functools.partial(
                copy_value(value.func, path), *(copy_value(a, path) for a in value.args), **keywords
            )
        return value

    return copy_module(model, "")


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by path; a tensor under several paths under its first one."""
    named: dict[str, Tensor] = dict(model.named_parameters())
    named.update(model.named_buffers())
    return named
