"""Lowering of Python-level calls to ATen calls.

Most calls are lowered by name: ``torch.relu``, ``x.relu()`` and ``F.relu`` all become
``aten.relu``. :mod:`lrp_fx.capture.python_calls` has the exceptions.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from torch import Tensor

from lrp_fx.capture.emitter import Emitter, NotLowered
from lrp_fx.capture.python_calls import PYTHON_CALLS
from lrp_fx.graph import Packet, aten, bind


def lower(emit: Emitter, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record the call of ``target``, a function or the name of a method, as ATen calls.

    Raises:
        NotLowered: if the call has no ATen form.
    """
    exception = PYTHON_CALLS.get(target)
    if exception is not None:
        return exception(emit, *args, **kwargs)
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    if inspect.isfunction(target):
        args, kwargs = _by_signature(target, args, kwargs)
    if kwargs.pop("inplace", False):
        name += "_"
    kwargs.pop("_stacklevel", None)
    if name.endswith("_") and not name.startswith("_"):
        packet = _packet(name[:-1])
        if packet is None or bind(packet, args, kwargs) is None:
            raise NotLowered(f"'{name}' has no ATen form")
        return emit.call_inplace(packet, args, kwargs)
    packet = _packet(name)
    if packet is None or bind(packet, args, kwargs) is None:
        raise NotLowered(f"'{name}' has no ATen form of the same name and arguments")
    return emit.call(packet, args, kwargs)


@functools.cache
def body_of(target: Any) -> Callable[..., Any] | None:
    """A Python function of torch that runs its own code; None for other functions.

    Torch's functions first ask whether an argument overrides them. This copy of the function does
    not ask, so it calls other functions with the arguments.

    Args:
        target: the function, or the name of a method of tensors.
    """
    function = getattr(Tensor, target, None) if isinstance(target, str) else target
    if not inspect.isfunction(function) or not function.__module__.startswith("torch"):
        return None
    asking = (name for name in function.__globals__ if name.startswith("has_torch_function"))
    own = {**function.__globals__, **dict.fromkeys(asking, _is_overridden)}
    body = types.FunctionType(
        function.__code__, own, function.__name__, function.__defaults__, function.__closure__
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body


def _is_overridden(*_: Any) -> bool:
    return False


def _packet(name: str) -> Packet | None:
    name = _NAMES.get(name, name)
    packet: Packet | None = getattr(aten, name, None)
    return packet


def _by_signature(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a Python function, with the flags that ATen lacks among the keywords."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return args, kwargs
    flags = {"inplace", "_stacklevel"}
    values = dict(bound.arguments)
    taken = {key: values.pop(key) for key in flags & values.keys()}
    if any(key in kwargs for key in values):
        plain = tuple(values[key] for key in values if key not in kwargs)
        return plain, {**{k: v for k, v in kwargs.items() if k not in flags}, **taken}
    return tuple(values.values()), taken


_NAMES = {"logsigmoid": "log_sigmoid", "_threshold": "threshold"}
"""Functions whose ATen operation has another name."""
