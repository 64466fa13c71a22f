"""Structural copies of a model: new module objects in eval mode that share the parameters.

Everything that has to run the model's Python code runs it on such a copy, so that the user's model
is never traced, hooked, switched to eval or given an attribute.
"""

from __future__ import annotations

import functools
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lrp_fx.errors import InputError

Replace = Callable[[str | None, Tensor], Any]


def structural_copy(
    model: nn.Module,
    *,
    replace_tensor: Replace | None = None,
    keep_hooks: bool = True,
) -> nn.Module:
    """A copy of ``model`` in eval mode, of new module objects around the same tensors.

    A module used under two paths is one module in the copy too. Containers, bound methods, partials
    and closures that hold modules are rebuilt around the copies; any other value is shared.

    Args:
        model: the module to copy; it is only read.
        replace_tensor: called with (path, tensor) for each parameter, buffer and tensor attribute,
            returns what stands in its place. The path is None in modules that are not registered.
        keep_hooks: False leaves the user's forward hooks out, but for those before the forward of a
            module with tensor attributes: they may compute them (weight norm, pruning).

    Raises:
        InputError: for a parameter of a lazy module that has no values yet; running even the copy
            would fill it.
    """
    for path, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise InputError(
                f"the model's parameter '{path}' has no values yet (it is lazy): run the model once on "
                "an example"
            )
    paths = {id(tensor): path for path, tensor in named_tensors(model).items()}
    memo: dict[int, Any] = {}
    tensors: dict[int, Any] = {}

    def place(tensor: Tensor) -> Any:
        if replace_tensor is None:
            return tensor
        if id(tensor) not in tensors:
            tensors[id(tensor)] = replace_tensor(paths.get(id(tensor)), tensor)
        return tensors[id(tensor)]

    def copy_module(module: nn.Module) -> nn.Module:
        if id(module) in memo:
            return memo[id(module)]  # type: ignore[no-any-return]
        twin = object.__new__(module.__class__)  # fx.GraphModule's own __new__ makes another class
        memo[id(module)] = twin
        state = twin.__dict__
        computes = any(isinstance(value, Tensor) for value in vars(module).values())
        left_out = {"_forward_hooks"} if computes else {"_forward_hooks", "_forward_pre_hooks"}
        for name, value in vars(module).items():
            if name in left_out and not keep_hooks:
                state[name] = type(value)()
            else:
                state[name] = copy_value(value)
        state["training"] = False
        return twin

    def copy_value(value: Any) -> Any:
        kind = type(value)
        if isinstance(value, nn.Module):
            return copy_module(value)
        if isinstance(value, Tensor):
            return place(value)
        if id(value) in memo:
            return memo[id(value)]
        if kind in (list, deque):
            memo[id(value)] = twin = copy(value)
            twin.clear()
            twin.extend(map(copy_value, value))
            return twin
        if kind in (dict, OrderedDict, defaultdict):
            memo[id(value)] = twin = copy(value)
            twin.update((key, copy_value(item)) for key, item in value.items())
            return twin
        if kind in (tuple, set, frozenset):
            return kind(map(copy_value, value))
        if isinstance(value, tuple) and hasattr(value, "_make"):
            return value._make(map(copy_value, value))
        if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
            return types.MethodType(value.__func__, copy_module(value.__self__))
        if isinstance(value, functools.partial):
            keywords = {key: copy_value(item) for key, item in value.keywords.items()}
            return functools.partial(
                copy_value(value.func), *map(copy_value, value.args), **keywords
            )
        if kind is types.FunctionType and value.__closure__:
            return copy_closure(value)
        return value

    def copy_closure(function: types.FunctionType) -> Any:
        """The function around copies of what it closes over (``lambda x: self.conv(x)``)."""
        assert function.__closure__ is not None
        cells = tuple(types.CellType() for _ in function.__closure__)
        parts = (function.__code__, function.__globals__, function.__name__, function.__defaults__)
        memo[id(function)] = twin = types.FunctionType(*parts, cells)
        twin.__kwdefaults__ = function.__kwdefaults__
        vars(twin).update(vars(function))
        for cell, original in zip(cells, function.__closure__, strict=True):
            try:
                cell.cell_contents = copy_value(original.cell_contents)
            except ValueError:  # not assigned yet
                continue
        return twin

    return copy_module(model)


INTERNAL = frozenset(vars(nn.Module()))
"""The attributes that every module has."""


def held_tensors(model: nn.Module) -> list[Tensor]:
    """All tensors that a structural copy of the model would share, each once."""
    found: list[Tensor] = []
    structural_copy(model, replace_tensor=lambda path, tensor: found.append(tensor))
    return found


def own_buffer(path: str | None, tensor: Tensor) -> Tensor:
    """Parameters are shared with the model; buffers are not, for its forward may count in them."""
    return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


def walk(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """What ``model.named_modules()`` yields, in a third of the time: it runs before each explanation."""
    found: list[tuple[str, nn.Module]] = []
    known: set[nn.Module] = set()
    waiting: list[tuple[str, nn.Module | None]] = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if module is None or module in known:
            continue
        known.add(module)
        found.append((path, module))
        prefix = f"{path}." if path else ""
        waiting += [(prefix + name, child) for name, child in reversed(module._modules.items())]
    return found


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters, buffers and plain tensor attributes of modules, by path.

    A tensor under several paths is under its first one, parameters before buffers before others.
    """
    named: dict[str, Tensor] = {}
    known: set[int] = set()
    modules = [(f"{path}." if path else "", module) for path, module in walk(model)]

    def note(prefix: str, tensors: Iterable[tuple[str, Any]]) -> None:
        for name, value in tensors:
            if value is not None and id(value) not in known:
                known.add(id(value))
                named[prefix + name] = value

    for prefix, module in modules:
        note(prefix, module._parameters.items())
    for prefix, module in modules:
        note(prefix, module._buffers.items())
    for prefix, module in modules:
        own = ((name, v) for name, v in vars(module).items() if name not in INTERNAL)
        note(prefix, (each for each in own if isinstance(each[1], Tensor)))
    return named
