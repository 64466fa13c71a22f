"""The tracer: what the model's code gets when it calls functions of proxies, or asks about them."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from lrp_fx.capture.emitter import Emitter, NotLowered
from lrp_fx.capture.lowering import body_of, lower
from lrp_fx.capture.proxies import TRACED, TensorProxy, Traced, UnknownProxy, leaves, replaced
from lrp_fx.capture.recorder import Recorder
from lrp_fx.capture.results import results_of
from lrp_fx.capture.trail import refuse_question
from lrp_fx.capture.witnesses import Witnesses
from lrp_fx.graph import aten, packet_of

SKIPPED = (f"{torch.__path__[0]}/", __file__.rsplit("/", 1)[0])
"""Where code lies that is not the user's."""
_OF_SHAPES = frozenset(
    {"ndim", "dtype", "layout", "is_sparse", "is_quantized", "is_nested", "names"}
)
"""Attributes that a tensor without data has too."""
_ASKED = frozenset(
    {"dim", "ndimension", "is_floating_point", "is_complex", "is_signed", "element_size"}
)
"""Methods whose result a tensor without data has too."""
_OF_PARAMETERS = frozenset({"stride", "is_contiguous", "storage_offset"})
"""Methods that are answered for tensors of the model only."""
_DETACHED = {
    "requires_grad": False,
    "grad_fn": None,
    "grad": None,
    "is_leaf": True,
    "is_meta": False,
}
"""What a run without gradients finds at computed values."""
_READ = frozenset({"item", "tolist", "numpy"})
"""Methods that read values."""


class Numbers(TorchFunctionMode):
    """Records functions that make tensors of sizes, such as ``torch.zeros(n, 3)``."""

    def __init__(self, tracer: SymbolicTracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kinds = set(map(type, leaves((args, kwargs))))
        if kinds.isdisjoint(TRACED) or TensorProxy in kinds:
            frame = sys._getframe(1)
            if not frame.f_code.co_filename.startswith(SKIPPED):
                refuse_question(func, frame)
            return func(*args, **kwargs)
        if torch.overrides.is_tensor_method_or_property(func):
            return self.tracer.called("call_method", func.__name__, args, kwargs)
        return self.tracer.called("call_function", func, args, kwargs)


class SymbolicTracer(Recorder):
    """Answers what the model's code asks of proxies, and records the ATen calls that it makes.

    Args:
        witnesses: the shapes to follow; None if there are no example inputs.
        poses: whether ``isinstance`` takes proxies for those of :mod:`torch.fx` too. Packages that
            know these ask them for no values, and take the branch that holds for all. What the
            user's own code does for them may hold for fewer, so it sees tensors.
    """

    def __init__(self, witnesses: Witnesses | None, *, poses: bool = False) -> None:
        super().__init__(witnesses)
        self.poses = poses
        self._sizes: dict[tuple[fx.Node, int], Traced] = {}
        self.emitter = Emitter(self.emit, self._call_inplace, self._is_tensor)
        self.mode = Numbers(self)

    def proxy(self, node: fx.Node) -> Any:
        return UnknownProxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        raise self.refusal("a Python branch on a size")

    def iter(self, obj: fx.Proxy) -> Any:
        raise self.refusal("a Python loop over a size or the results of one call")

    def keys(self, obj: fx.Proxy) -> Any:
        raise self.refusal("keys() of a traced value")

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *_: Any, **__: Any
    ) -> Any:
        return self.called(kind, target, args, kwargs)

    def called(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """Record a call that the model's code makes, as ATen calls.

        Args:
            kind: "call_function" or "call_method".
            target: the function, or the name of the method.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            NotTraceable: if it cannot be recorded.
        """
        found = leaves((args, kwargs))
        if self._is_known(found):
            return self._executed(kind, target, args, kwargs)
        if not any(map(self._is_tensor, found)) and any(type(x) is UnknownProxy for x in found):
            return self._unknown(kind, target, args, kwargs)
        if target is operator.getitem and self._is_tuple(args[0]):
            if not isinstance(args[1], int):
                raise self.refusal("a slice of the results of one call")
            return self._tensor(self._node(kind, target, args, kwargs))
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
            if not any(isinstance(each, TensorProxy) for each in found):
                return self._settled(target, args, kwargs)
            function = body_of(target)
            if function is None or self.witnesses is None:
                raise self.refusal(str(error)) from error
        with self.mode:
            return function(*args, **kwargs)

    def attribute(self, proxy: TensorProxy, name: str) -> Any:
        """What the model's code gets for an attribute of a tensor."""
        value, values = proxy.value, proxy.seen
        if value is not None:
            if name == "grad" and value.is_leaf and value.grad is not None:
                return value.grad.detach().clone()  # the code may write to it
            if name in ("requires_grad", "grad", "grad_fn", "is_leaf", "_is_param"):
                return getattr(value, name, isinstance(value, nn.Parameter))
            if name in _OF_PARAMETERS:
                return getattr(value, name)
            if name in vars(value):
                return vars(value)[name]
        if name in _DETACHED:
            return _DETACHED[name]
        if name == "data_ptr":
            raise self.refusal("the address of a tensor")
        if values is not None:
            if name in _OF_SHAPES or name in _ASKED:
                return getattr(values[0], name)
            if name == "shape":
                return self._shape(proxy, values)
            if name == "size":
                return functools.partial(self._size, proxy)
            if name in ("numel", "nelement"):
                return functools.partial(self._numel, proxy)
            if self._is_known([proxy]) and name in _READ:
                return getattr(self.plain(proxy), name)
        if proxy.at is not None and name in ("device", "is_cuda", "is_cpu"):
            return proxy.at if name == "device" else f"is_{proxy.at.type}" == name
        if name in ("shape", "dtype", "device"):
            return self._unknown("call_function", getattr, (proxy, name), {})
        if name == "ndim":
            raise self.refusal("the number of dimensions decides what the code does")
        if values is None and proxy.node is not None and name in results_of(proxy.node):
            return self.called(
                "call_function", operator.getitem, (proxy, results_of(proxy.node).index(name)), {}
            )
        if name in ("T", "mT"):
            return self.emit(aten.numpy_T if name == "T" else aten.mT, (proxy,), {})
        if name == "data":
            data = TensorProxy.of(self, None)
            data.share(proxy)
            return data
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(name)
        if not callable(getattr(Tensor, name)):
            raise self.refusal(f"'.{name}' of a tensor")
        return functools.partial(self._method, proxy, name)

    def attribute_of_unknown(self, proxy: UnknownProxy, name: str) -> Any:
        """What the model's code gets for an attribute of a value whose kind is unknown."""
        if name in results_of(proxy.node):
            place = results_of(proxy.node).index(name)
            return self.called("call_function", operator.getitem, (proxy, place), {})
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.refusal(f"'.{name}' of a size")

    def _method(self, proxy: TensorProxy, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.called("call_method", name, (proxy, *args), kwargs)

    def _shape(self, proxy: TensorProxy, values: Sequence[Tensor]) -> torch.Size:
        return torch.Size(self._one_size(proxy, values, dim) for dim in range(values[0].dim()))

    def _one_size(self, proxy: TensorProxy, values: Sequence[Tensor], dim: int) -> Any:
        assert self.witnesses is not None
        sizes = [
            values[i].shape[dim] if i in self.witnesses.live else -1 for i in range(len(values))
        ]
        if self.witnesses.agree(sizes):
            return sizes[0]
        node = self.node_of(proxy)
        if (node, dim) not in self._sizes:
            shape = self._node("call_function", getattr, (proxy, "shape"), {})
            place = self._node("call_function", operator.getitem, (shape, dim), {})
            self._sizes[node, dim] = self._traced(place, sizes)
        return self._sizes[node, dim]

    def _size(self, proxy: TensorProxy, dim: int | None = None) -> Any:
        shape = self.attribute(proxy, "shape")
        return shape if dim is None else shape[dim]

    def _numel(self, proxy: TensorProxy) -> Any:
        return functools.reduce(operator.mul, self.attribute(proxy, "shape"), 1)

    def entries(self, proxy: TensorProxy) -> Any:
        """The entries of a tensor along its first dimension."""
        if proxy.seen is None or not proxy.seen[0].dim():
            raise self.refusal("a Python loop over a tensor")
        return (proxy[i] for i in range(len(proxy)))

    def _is_known(self, found: Iterable[Any]) -> bool:
        """Whether arguments are known tensors, equal for all witnesses, and plain values."""
        proxies = 0
        for each in found:
            if isinstance(each, TensorProxy):
                proxies += 1
                if each.seen is None or each.seen[0].is_meta or self.witnesses is None:
                    return False
                if not (self.witnesses.is_same(each.seen) or self.witnesses.agree(each.seen)):
                    return False
            elif isinstance(each, (UnknownProxy, *TRACED)):
                return False
        return proxies > 0

    def _executed(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a call on known tensors."""
        known = {id(x.by(0)): x for x in leaves((args, kwargs)) if isinstance(x, TensorProxy)}
        args, kwargs = replaced((args, kwargs), self._first)
        result = (
            getattr(args[0], target)(*args[1:], **kwargs)
            if kind == "call_method"
            else target(*args, **kwargs)
        )

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if id(value) in known:
                return known[id(value)]
            proxy = self._of_known(value)
            for source in known.values():
                if _memory(source.by(0)) == _memory(value):
                    proxy.aliases = source.aliases
                    proxy.aliases[id(proxy)] = proxy
            return proxy

        if isinstance(result, tuple) and type(result).__module__ == "torch.return_types":
            return type(result)(map(wrapped, result))
        return replaced(result, wrapped)

    def _settled(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call a function that makes a tensor of sizes with those of the first witness."""

        def plain(value: Any) -> Any:
            return self.decided(value.seen) if isinstance(value, TRACED) else value

        args, kwargs = replaced((args, kwargs), plain)
        return target(*args, **kwargs)

    @staticmethod
    def _first(value: Any) -> Any:
        return value.by(0) if isinstance(value, TensorProxy) else value


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
