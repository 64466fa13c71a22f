"""Capture by symbolic tracing: takes milliseconds, and needs no example inputs.

The graph is valid for any batch and image size. ``torch.fx.Tracer.trace`` patches
``nn.Module.__call__`` for the whole process while it runs. This tracer instead runs a structural
copy of the model on ``fx`` proxies. The modules of the copy have a ``forward`` that reports its
call to the tracer, and proxies in place of their parameters. Nothing else is changed.
"""

from __future__ import annotations

import functools
import itertools
import operator
import sys
import weakref
from types import FrameType
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from lrp_fx.capture.captured import Arguments, Call, Captured, flattened
from lrp_fx.capture.copier import Hooks
from lrp_fx.capture.emitter import Emitter, NotLowered
from lrp_fx.capture.lowering import lower
from lrp_fx.capture.restoring import restoring
from lrp_fx.capture.structural_copy import copied_call
from lrp_fx.errors import LRPError
from lrp_fx.graph import (
    BatchNorm,
    NormBase,
    Packet,
    aten,
    call_at_once,
    graph_module_of,
    overloads_of,
    packet_of,
    schema_of,
    shares_memory,
    tree_flatten,
)

_BATCH_NORM = (BatchNorm.forward, nn.SyncBatchNorm.forward)
_OPAQUE = (NormBase, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_STATIC_ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim", "is_cuda", "requires_grad"})
_STATIC_METHODS = frozenset(
    {"size", "dim", "numel", "stride", "is_floating_point", "is_contiguous"}
)
_OWN_ATTRIBUTES = frozenset({"node", "tracer", "value", "is_tensor", "aliases", "whole"})
_INPLACE = {f"__{op}__": getattr(operator, op) for op in ("iadd", "isub", "imul", "itruediv")}

Proxies: TypeAlias = "weakref.WeakValueDictionary[int, TensorProxy]"
"""Proxies by id. They cannot be in a set, since comparing them by ``==`` would be traced."""


class NotTraceable(BaseException):
    """The model's Python code cannot be followed without values; another capture has to be used.

    It is a BaseException, so that no ``except Exception`` in the model's code catches it.
    """


class TensorProxy(fx.Proxy):
    """Stands for a tensor, a tuple of tensors or a size while the copy runs.

    An in-place operation gives the proxy a new ``node``. So all code that refers to the proxy sees
    the new value, as it would with a tensor. ``aliases`` are the proxies that may share memory with
    it, ``whole`` those of them that share all of its memory (``x`` and ``x.data``).
    """

    node: fx.Node
    tracer: SymbolicTracer

    def __init__(self, node: fx.Node, tracer: SymbolicTracer, value: Tensor | None = None) -> None:
        super().__init__(node, tracer)
        self.value = value
        self.is_tensor = True
        self.aliases: Proxies = weakref.WeakValueDictionary({id(self): self})
        self.whole: Proxies = weakref.WeakValueDictionary({id(self): self})

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data":
            self._share(value if isinstance(value, TensorProxy) else self.tracer.constant(value))
        elif name in _OWN_ATTRIBUTES:
            super().__setattr__(name, value)
        else:
            raise self.tracer.refusal(f"a write to '.{name}' of a tensor")

    def _share(self, other: TensorProxy) -> None:
        """Give up the own memory and share that of another proxy."""
        del self.aliases[id(self)], self.whole[id(self)]
        self.node, self.value = other.node, other.value
        self.aliases, self.whole = other.aliases, other.whole
        self.aliases[id(self)] = self.whole[id(self)] = self

    def __getattr__(self, name: str) -> Any:
        if self.value is not None:
            if name in _STATIC_ATTRIBUTES:
                return getattr(self.value, name)
            if name in _STATIC_METHODS:
                return getattr(self.value, name)
        if not self.is_tensor:
            raise self.tracer.refusal(f"'.{name}' of a size")
        if name in ("shape", "dtype", "device"):
            return self.tracer.scalar("call_function", getattr, (self, name), {})
        if name == "ndim":
            raise self.tracer.refusal("the number of dimensions decides what the code does")
        if name in results_of(self.node):
            return self.tracer.item(self, results_of(self.node).index(name))
        if name in ("T", "mT"):
            return self.tracer.emit(aten.numpy_T if name == "T" else aten.mT, (self,), {})
        if name == "data":
            data = TensorProxy(self.node, self.tracer, self.value)
            data._share(self)
            return data
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(name)
        if not callable(getattr(Tensor, name)):
            raise self.tracer.refusal(f"'.{name}' of a tensor")
        return functools.partial(self._method, name)

    def _method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.tracer.create_proxy("call_method", name, (self, *args), kwargs)

    def _no_value(self, *_: Any, **__: Any) -> Any:
        raise self.tracer.refusal("the value of a tensor as a number of Python")

    __float__ = __int__ = __complex__ = __index__ = __len__ = __array__ = __contains__ = _no_value

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<traced {self.node.name}>"


def _inplace_operator(function: Any) -> Any:
    def method(self: TensorProxy, other: Any) -> Any:
        if not self.is_tensor:
            return NotImplemented
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name, _function in _INPLACE.items():
    setattr(TensorProxy, _name, _inplace_operator(_function))


def results_of(node: fx.Node) -> tuple[str, ...]:
    """The names of the results of a call that returns several tensors; () for one tensor."""
    packet = packet_of(node.target)
    if packet is None:
        return ()
    if packet in (aten.max, aten.min):
        return ("values", "indices") if node.args[1:] or node.kwargs else ()
    returns = schema_of(getattr(packet, overloads_of(packet)[0])).returns
    if len(returns) > 1:
        return tuple(result.name for result in returns)
    return ("list",) if str(returns[0].type).startswith("List") else ()


@functools.cache
def _only_writes(packet: Packet) -> bool:
    """Whether every overload of an operation writes to its arguments."""
    return all(schema_of(getattr(packet, name)).is_mutable for name in overloads_of(packet))


@functools.cache
def _returns_tensors(packet: Packet) -> bool:
    """Whether an operation returns tensors, and not numbers such as strides and offsets."""
    schemas = (schema_of(getattr(packet, name)) for name in overloads_of(packet))
    return any("Tensor" in str(result.type) for schema in schemas for result in schema.returns)


class SymbolicTracer(fx.proxy.TracerBase):
    """Records the ATen calls that a structural copy makes on proxies, as an fx graph."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.calls: list[Call] = []
        self.call_counts: dict[str, int] = {}
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Tensor] = {}
        self.refused: NotTraceable | None = None
        """The first refusal, which the model's code may have caught."""
        self.emitter = Emitter(self.emit, self._call_inplace, self._is_tensor)

    def refusal(self, reason: str) -> NotTraceable:
        """The error to raise where the code cannot be followed."""
        error = NotTraceable(reason)
        self.refused = self.refused or error
        return error

    # the interface of TracerBase

    def proxy(self, node: fx.Node) -> TensorProxy:
        return TensorProxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        raise self.refusal("a Python branch on a tensor's value or size")

    def iter(self, obj: fx.Proxy) -> Any:
        value = obj.value if isinstance(obj, TensorProxy) else None
        if value is not None and value.dim() > 0:
            return (self.item(obj, i) for i in range(value.shape[0]))
        raise self.refusal("a Python loop over a tensor or a size")

    def keys(self, obj: fx.Proxy) -> Any:
        raise self.refusal("keys() of a traced value")

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor):
            return self.constant(a).node
        return super().create_arg(a)

    def create_node(
        self,
        kind: str,
        target: Any,
        args: Any,
        kwargs: Any,
        name: str | None = None,
        type_expr: Any | None = None,
    ) -> fx.Node:
        node = self.graph.create_node(kind, target, args, kwargs, name, type_expr)
        node.meta["module_calls"] = tuple(self.calls)
        node.meta["source"] = _user_line()
        return node

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any
    ) -> Any:
        if kind not in ("call_function", "call_method"):
            return super().create_proxy(kind, target, args, kwargs, *rest, **options)
        if not any(self._is_tensor(a) for a in tree_flatten((args, kwargs))[0]):
            return self.scalar(kind, target, args, kwargs)
        if target is operator.getitem and self._is_tuple(args[0]):
            if not isinstance(args[1], int):
                raise self.refusal("a slice of the results of one call")
            return super().create_proxy(kind, target, args, kwargs)
        if any(map(self._is_tuple, (*args, *kwargs.values()))):
            raise self.refusal(
                "the list of the results of one call, whose length is unknown, as one argument"
            )
        packet = packet_of(target)
        if packet is not None:
            return self.emit(packet, args, kwargs)
        try:
            return lower(self.emitter, target, tuple(args), dict(kwargs))
        except NotLowered as error:
            raise self.refusal(str(error)) from error

    # what the emitter and the proxies need

    def _record(self, kind: str, target: Any, args: Any, kwargs: Any) -> TensorProxy:
        proxy = super().create_proxy(kind, target, args, kwargs)
        assert isinstance(proxy, TensorProxy)
        return proxy

    def emit(self, packet: Packet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _only_writes(packet):
            raise self.refusal(f"{packet} writes to its arguments")
        if not _returns_tensors(packet):
            raise self.refusal(f"{packet} asks how a tensor lies in memory, or for its values")
        result = self._record("call_function", packet, args, kwargs)
        source = args[0] if args else None
        if shares_memory(packet) and isinstance(source, TensorProxy):
            result.aliases = source.aliases
            result.aliases[id(result)] = result
        return result

    def _call_inplace(self, packet: Packet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = args[0]
        if not isinstance(target, TensorProxy):
            raise self.refusal("an in-place operation on a constant")
        if set(target.aliases) - set(target.whole):
            raise self.refusal("an in-place operation on a tensor that shares memory with another")
        node = self._record("call_function", packet, args, kwargs).node
        for proxy in list(target.whole.values()):
            proxy.node, proxy.value = node, None
        return target

    def scalar(self, kind: str, target: Any, args: Any, kwargs: Any) -> TensorProxy:
        """A proxy for a size or a number; arithmetic with it stays Python arithmetic."""
        proxy = self._record(kind, target, args, kwargs)
        proxy.is_tensor = False
        return proxy

    def item(self, value: fx.Proxy, index: int) -> Any:
        """A proxy for ``value[index]``."""
        return self.create_proxy("call_function", operator.getitem, (value, index), {})

    def constant(self, value: Tensor) -> TensorProxy:
        """A proxy for a tensor that the code created, or that is no registered tensor of the model."""
        name = next((n for n, known in self.constants.items() if known is value), None)
        if name is None:
            name = f"_constant_{len(self.constants)}"
            self.constants[name] = value
        return self._attribute(name, value)

    def parameter(self, path: str | None, value: Tensor) -> TensorProxy:
        """A proxy for a tensor that the model holds; its shape, dtype and device are known."""
        if path is None:
            return self.constant(value)
        self.tensors[path] = value
        return self._attribute(path, value)

    def _attribute(self, name: str, value: Tensor) -> TensorProxy:
        node = self.graph.create_node("get_attr", name, name=name.replace(".", "_"))
        node.meta["dtype"] = value.dtype
        return TensorProxy(node, self, value)

    @staticmethod
    def _is_tensor(value: Any) -> bool:
        return isinstance(value, Tensor) or (isinstance(value, TensorProxy) and value.is_tensor)

    @staticmethod
    def _is_tuple(value: Any) -> bool:
        return isinstance(value, TensorProxy) and bool(results_of(value.node))

    # modules

    def announce(self, copy: nn.Module, paths: dict[int, str]) -> None:
        """Make each module of the copy report to the tracer when its forward begins and ends."""
        for module in list(copy.modules()):
            if isinstance(module, torch.jit.ScriptModule):
                raise self.refusal(
                    "a scripted module has no Python code: pass the model from before torch.jit"
                )
            forward = functools.partial(self._forward, module, paths[id(module)], module.forward)
            module.__dict__["forward"] = forward
            call_at_once(module, forward)

    def _forward(
        self, module: nn.Module, path: str, forward: Any, *args: Any, **kwargs: Any
    ) -> Any:
        count = self.call_counts.get(path, 0)
        self.call_counts[path] = count + 1
        self.calls.append((path, count))
        try:
            if isinstance(module, BatchNorm) and type(module).forward in _BATCH_NORM:
                return self._batch_norm(module, *args, **kwargs)
            if isinstance(module, _OPAQUE) and not isinstance(module, BatchNorm):
                raise self.refusal(f"{type(module).__name__} can only be captured with inputs")
            return forward(*args, **kwargs)
        finally:
            self.calls.pop()

    def _batch_norm(self, module: BatchNorm, input: Any) -> Any:
        # The module's own forward asks for the number of dimensions, which is unknown here.
        batch_statistics = module.running_mean is None and module.running_var is None
        return self.emit(
            aten.batch_norm,
            (
                *(input, module.weight, module.bias, module.running_mean, module.running_var),
                *(batch_statistics, module.momentum or 0.0, module.eps, False),
            ),
            {},
        )


_SKIPPED = (f"{torch.__path__[0]}/", __file__.rsplit("/", 1)[0])


def _user_line() -> str | None:
    """``file:line`` of the innermost frame of the user's code; None if all frames are torch's."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        filename = frame.f_code.co_filename
        if frame.f_code is trace.__code__:
            return None
        if not filename.startswith(_SKIPPED) and not filename.startswith("<"):
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def trace(model: nn.Module, arguments: Arguments, left_out: Hooks) -> Captured:
    """Capture ``model`` by symbolic tracing, without using the values of the tensors.

    Args:
        model: the user's model; it is only read.
        arguments: its arguments.
        left_out: forward hooks that are not called.

    Raises:
        NotTraceable: if the model's Python code needs a value.
        LRPError: if no capture can explain the model.
    """
    with restoring(model, arguments, left_out):
        tracer = SymbolicTracer()
        count = sum(1 for leaf in arguments.constants if repr(leaf) == "<tensor>")
        inputs = tuple(
            tracer.proxy(tracer.create_node("placeholder", f"input_{i}", (), {}))
            for i in range(count)
        )
        copy, own = copied_call(
            model,
            arguments,
            inputs,
            replace_tensor=tracer.parameter,
            left_out=left_out,
        )
        paths = {id(module): path for path, module in copy.named_modules()}
        try:
            tracer.announce(copy, paths)
            result = own.call(copy, inputs)
        except (LRPError, NotTraceable):
            raise
        except Exception as error:
            raise NotTraceable(f"{type(error).__name__}: {error}") from error
        if tracer.refused is not None:  # caught by a bare except, or lost in a finally
            raise tracer.refused
        leaves, spec = flattened(result)
        try:
            tracer.graph.output(tuple(tracer.create_arg(leaf) for leaf in leaves))
        except NotImplementedError as error:
            reason = (
                "the model returns more than tensors and plain values, in tuples, lists or dicts"
            )
            raise NotTraceable(reason) from error
        for node in list(tracer.graph.nodes):
            if node.op == "get_attr" and not node.users:
                tracer.graph.erase_node(node)
        used = {node.target for node in tracer.graph.nodes if node.op == "get_attr"}
        tensors = {
            name: value
            for name, value in itertools.chain(tracer.tensors.items(), tracer.constants.items())
            if name in used
        }
        module = graph_module_of(tensors, tracer.graph, "Captured")
        constants = {name: value for name, value in tracer.constants.items() if name in used}
        return Captured(module, spec, "symbolic", constants)
