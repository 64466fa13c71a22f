"""Proxies: they stand for tensors and sizes while a model is traced, and record what is done to them."""

from __future__ import annotations

import math
import operator
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy
import torch
from torch import Tensor, fx

from lrp_fx.capture.origin import origin_of
from lrp_fx.graph import without_data

Proxies: TypeAlias = "weakref.WeakValueDictionary[int, TensorProxy]"
"""Proxies by id. They cannot be in a set, since comparing them by ``==`` would be traced."""


class Tracer(Protocol):
    """What proxies need of the tracer that made them."""

    poses: bool
    """Whether ``isinstance`` in installed packages takes proxies for those of :mod:`torch.fx` too."""

    def refusal(self, reason: str) -> BaseException:
        """The error to raise where the code cannot be followed."""
        ...

    def called(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """Record a call of the model's code."""
        ...

    def attribute(self, proxy: TensorProxy, name: str) -> Any:
        """What the model's code gets for an attribute of a tensor."""
        ...

    def entries(self, proxy: TensorProxy) -> Any:
        """The entries of a tensor along its first dimension."""
        ...

    def plain(self, proxy: TensorProxy) -> Tensor:
        """The tensor itself, if its values are known."""
        ...

    def constant(self, value: Tensor) -> TensorProxy:
        """A proxy for a tensor that the code created."""
        ...

    def number(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of arithmetic with sizes."""
        ...

    def decided(self, values: Sequence[Any]) -> Any:
        """The value of the first witness, by which the code goes on."""
        ...


class TensorProxy(Tensor):
    """Stands for a tensor while the copy of a model runs.

    It is a tensor without data, so that the code takes it for a tensor. An in-place operation gives
    it a new ``node``. So all code that refers to the proxy sees the new value, as it would with a
    tensor.

    Attributes:
        node: the node of its value; None for a value that is known and not yet part of the graph.
        value: the model's tensor that it stands for; None for a computed value.
        seen: the tensor of each witness; None if the shape is unknown.
        at: the device of the tensor; None if unknown.
        aliases: the proxies that may share memory with it.
        whole: those of them that share all of its memory (``x`` and ``x.data``).
    """

    node: fx.Node | None
    tracer: Tracer
    value: Tensor | None
    seen: Sequence[Tensor] | None
    at: torch.device | None
    aliases: Proxies
    whole: Proxies

    @staticmethod
    def of(
        tracer: Tracer,
        node: fx.Node | None,
        *,
        seen: Sequence[Tensor] | None = None,
        value: Tensor | None = None,
        at: torch.device | None = None,
    ) -> TensorProxy:
        """A new proxy."""
        proxy = without_data(TensorProxy)
        vars(proxy).update(node=node, tracer=tracer, value=value, seen=seen, at=at)
        vars(proxy)["aliases"] = weakref.WeakValueDictionary({id(proxy): proxy})
        vars(proxy)["whole"] = weakref.WeakValueDictionary({id(proxy): proxy})
        return proxy

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        proxy = next(each for each in leaves((args, kwargs)) if type(each) is TensorProxy)
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return getattr(args[0], func.__self__.__name__)
        if torch.overrides.is_tensor_method_or_property(func):
            return proxy.tracer.called("call_method", name, args, kwargs)
        return proxy.tracer.called("call_function", func, args, kwargs)

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__" and self.tracer.poses:
            asking = sys._getframe(1).f_code.co_filename
            return TensorProxy if origin_of(asking) == "own" else _Posing
        if name in _OWN or (name.startswith("__") and name.endswith("__")):
            return object.__getattribute__(self, name)
        return self.tracer.attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data":
            self.share(value if isinstance(value, TensorProxy) else self.tracer.constant(value))
        elif name in _OWN:
            vars(self)[name] = value
        else:
            raise self.tracer.refusal(f"a write to '.{name}' of a tensor")

    def share(self, other: TensorProxy) -> None:
        """Give up the own memory and share that of another proxy."""
        del self.aliases[id(self)], self.whole[id(self)]
        self.node, self.value, self.seen, self.at = (other.node, other.value, other.seen, other.at)
        self.aliases, self.whole = other.aliases, other.whole
        self.aliases[id(self)] = self.whole[id(self)] = self

    def by(self, witness: int) -> Tensor:
        """The tensor as a witness sees it, if its shape is known."""
        if self.seen is None:
            raise self.tracer.refusal("a tensor of unknown shape")
        return self.seen[witness]

    def __getitem__(self, index: Any) -> Any:
        return self.tracer.called("call_function", operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.called("call_function", operator.setitem, (self, index, value), {})

    def __iter__(self) -> Any:
        return self.tracer.entries(self)

    def __len__(self) -> int:
        return operator.index(self.tracer.attribute(self, "shape")[0])

    def __bool__(self) -> bool:
        return bool(self.tracer.plain(self))

    def __float__(self) -> float:
        return float(self.tracer.plain(self))

    def __int__(self) -> int:
        return int(self.tracer.plain(self))

    def __index__(self) -> int:
        return operator.index(self.tracer.plain(self))

    def __complex__(self) -> complex:
        return complex(self.tracer.plain(self))

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return numpy.asarray(self.tracer.plain(self), *args, **kwargs)

    def __contains__(self, element: Any) -> bool:
        return element in self.tracer.plain(self)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"<traced {self.node}>"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reversed__(self) -> Any:
        raise self.tracer.refusal("reversed() of a tensor")


_OWN = frozenset({"node", "tracer", "value", "seen", "at", "aliases", "whole", "share", "by"})


class _Posing(TensorProxy, fx.Proxy):  # type: ignore[misc]
    """What a proxy says to be, if it poses as one of :mod:`torch.fx`; there are no instances."""


class UnknownProxy(fx.Proxy):
    """Stands for a size, a dtype or the results of one call, where no example shapes are known."""

    tracer: Any

    def __getattr__(self, name: str) -> Any:
        return self.tracer.attribute_of_unknown(self, name)

    def _no_value(self, *_: Any, **__: Any) -> Any:
        raise self.tracer.refusal("the value of a tensor as a number of Python")

    __float__ = __int__ = __complex__ = __index__ = __len__ = __array__ = __contains__ = _no_value

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<traced {self.node.name}>"


class _Number:
    """A size, or a number computed from sizes, that is not the same for all witnesses.

    Arithmetic with it is recorded. A question about it, or a use as a number of Python, is answered
    by the first witness.
    """

    tracer: Tracer
    node: Any
    seen: Sequence[Any]

    def __init__(self, tracer: Tracer, node: fx.Node, seen: Sequence[Any]) -> None:
        self.tracer, self.node, self.seen = tracer, node, seen

    def _decided(self) -> Any:
        return self.tracer.decided(self.seen)

    def __bool__(self) -> bool:
        return bool(self.tracer.decided([bool(value) for value in self.seen]))

    def __int__(self) -> int:
        return int(self._decided())

    def __index__(self) -> int:
        return operator.index(self._decided())

    def __float__(self) -> float:
        return float(self._decided())

    def __hash__(self) -> int:
        return hash(self._decided())

    def __repr__(self) -> str:  # a message decides nothing
        return repr(self.seen[0])

    def __format__(self, spec: str) -> str:
        return format(self.seen[0], spec)

    def __round__(self, digits: int | None = None) -> Any:
        return self.tracer.number(round, self, *(() if digits is None else (digits,)))

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class TracedInt(_Number, torch.SymInt):
    """A whole number; torch's functions take it as a size."""


class TracedFloat(_Number, torch.SymFloat):  # type: ignore[misc]
    """A number that is not whole."""


Traced: TypeAlias = TracedInt | TracedFloat
TRACED = (TracedInt, TracedFloat)


def traced(tracer: Tracer, node: fx.Node, values: Sequence[Any]) -> Traced:
    """A number by its values for the witnesses."""
    kind = TracedFloat if isinstance(values[0], float) else TracedInt
    return kind(tracer, node, values)


def leaves(value: Any) -> list[Any]:
    """All leaves of nested arguments, without those of objects."""
    found: list[Any] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Any]) -> None:
    kind = type(value)  # asking a proxy for its class, as isinstance does, takes longer
    if issubclass(kind, (list, tuple)):
        for each in value:
            _collect(each, found)
    elif issubclass(kind, dict):
        for each in value.values():
            _collect(each, found)
    elif kind is slice:
        found += value.start, value.stop, value.step
    else:
        found.append(value)


def replaced(value: Any, new: Callable[[Any], Any]) -> Any:
    """Nested arguments with other leaves."""
    kind = type(value)
    if issubclass(kind, (list, tuple)):
        parts = [replaced(each, new) for each in value]
        if hasattr(value, "_fields"):
            return type(value)(*parts)
        return parts if issubclass(kind, list) else tuple(parts)
    if issubclass(kind, dict):
        return {key: replaced(each, new) for key, each in value.items()}
    if kind is slice:
        return slice(*(replaced(each, new) for each in (value.start, value.stop, value.step)))
    return new(value)


# operators

_TWO = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_INPLACE = ("iadd", "isub", "imul", "itruediv")


def _function(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(operator, f"{name}_" if name in ("and", "or") else name)
    return found


def _of_tensor(function: Any, *, is_reflected: bool = False) -> Any:
    def method(self: TensorProxy, *others: Any) -> Any:
        args = (*others, self) if is_reflected else (self, *others)
        return self.tracer.called("call_function", function, args, {})

    return method


def _of_number(function: Any, *, is_reflected: bool = False, decides: bool = False) -> Any:
    def method(self: Any, *others: Any) -> Any:
        if not all(isinstance(each, (int, float, *TRACED)) for each in others):
            return NotImplemented
        result = self.tracer.number(
            function, *((*others, self) if is_reflected else (self, *others))
        )
        return bool(result) if decides else result

    return method


for _name in _TWO.split():
    for _reflected in (False, True):
        _method = f"__{'r' if _reflected else ''}{_name}__"
        setattr(TensorProxy, _method, _of_tensor(_function(_name), is_reflected=_reflected))
        for _kind in TRACED:
            setattr(_kind, _method, _of_number(_function(_name), is_reflected=_reflected))
for _name in _COMPARISONS:
    setattr(TensorProxy, f"__{_name}__", _of_tensor(_function(_name)))
    for _kind in TRACED:
        setattr(_kind, f"__{_name}__", _of_number(_function(_name), decides=True))
for _name in _INPLACE:
    setattr(TensorProxy, f"__{_name}__", _of_tensor(_function(_name)))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(TensorProxy, f"__{_name}__", _of_tensor(_function(_name)))
    for _kind in TRACED:
        setattr(_kind, f"__{_name}__", _of_number(_function(_name)))
for _name in ("floor", "ceil", "trunc"):
    for _kind in TRACED:
        setattr(_kind, f"__{_name}__", _of_number(getattr(math, _name)))
