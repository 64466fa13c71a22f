"""The tracer: records what code does with proxies as an fx graph of ATen calls."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from lrp_fx.capture.captured import Call
from lrp_fx.capture.emitter import Emitter, NotLowered
from lrp_fx.capture.lowering import body_of, lower
from lrp_fx.capture.proxies import (
    TRACED,
    TensorProxy,
    Traced,
    UnknownProxy,
    leaves,
    replaced,
    traced,
)
from lrp_fx.capture.results import is_of_shapes, only_writes, results_of, returns_tensors
from lrp_fx.capture.trail import refuse_question
from lrp_fx.capture.witnesses import Witnesses
from lrp_fx.graph import Packet, aten, packet_of, shares_memory, version_of

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
_OF_MEMORY = (aten.stride, aten.sym_stride, aten.is_contiguous, aten.storage_offset)


class NotTraceable(BaseException):
    """The model's Python code cannot be followed without values; another capture has to be used.

    It is a BaseException, so that no ``except Exception`` in the model's code catches it.

    Args:
        reason: why.
        asks_value: the code asks for the value of a tensor that depends on the inputs.
    """

    def __init__(self, reason: str, *, asks_value: bool = False) -> None:
        super().__init__(reason)
        self.asks_value = asks_value


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


class SymbolicTracer(fx.proxy.TracerBase):
    """Records the ATen calls that code makes on proxies, as an fx graph.

    Args:
        witnesses: the shapes to follow; None if there are no example inputs.
        poses: whether ``isinstance`` takes proxies for those of :mod:`torch.fx` too. Packages that
            know these ask them for no values, and take the branch that holds for all. What the
            user's own code does for them may hold for fewer, so it sees tensors.
    """

    def __init__(self, witnesses: Witnesses | None, *, poses: bool = False) -> None:
        super().__init__()
        self.poses = poses
        self.graph = fx.Graph()
        self.witnesses = witnesses
        self.calls: list[Call] = []
        self.call_counts: dict[str, int] = {}
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Tensor] = {}
        self.numbers: dict[fx.Node, Sequence[Any]] = {}
        """The sizes in the graph, with their values for the witnesses."""
        self._sizes: dict[tuple[fx.Node, int], Traced] = {}
        self._snapshots: dict[int, tuple[Tensor, int, fx.Node]] = {}
        self.refused: NotTraceable | None = None
        """The first refusal, which the model's code may have caught."""
        self.emitter = Emitter(self.emit, self._call_inplace, self._is_tensor)
        self.mode = Numbers(self)

    def source(self) -> str | None:
        """``file:line`` in the user's code of the call that is being recorded."""
        return None

    def refusal(self, reason: str, *, asks_value: bool = False) -> NotTraceable:
        """The error to raise where the code cannot be followed."""
        error = NotTraceable(reason, asks_value=asks_value)
        self.refused = self.refused or error
        return error

    # the interface of TracerBase

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

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, fx.Node):
            return a
        if isinstance(a, TensorProxy):
            return self.node_of(a)
        if isinstance(a, TRACED):
            assert self.witnesses is not None
            return a.seen[0] if self.witnesses.agree(a.seen) else a.node
        if isinstance(a, Tensor):
            return self.node_of(self.constant(a))
        if type(a) is torch.Size:
            a = tuple(a)
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
        node.meta["source"] = self.source()
        return node

    # what proxies need

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
        found = list(leaves((args, kwargs)))
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

    def plain(self, proxy: TensorProxy) -> Tensor:
        """The tensor itself, if its values are known: it is computed from sizes alone."""
        values = proxy.seen
        if values is None or self.witnesses is None or values[0].is_meta:
            raise self.refusal("a Python branch on a tensor's value", asks_value=True)
        found: Tensor = self.witnesses.decide(values)
        return found

    def decided(self, values: Sequence[Any]) -> Any:
        """The value of the first witness, by which the code goes on."""
        assert self.witnesses is not None
        return self.witnesses.decide(values)

    def number(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of arithmetic with sizes; that of a comparison is decided."""
        witnesses = self.witnesses
        assert witnesses is not None
        values = witnesses.results(function, lambda i: (self._at(args, i), {}), False)
        if values is None:
            raise self.refusal("arithmetic with a size")
        if isinstance(values[0], bool):
            return witnesses.decide(values)
        if witnesses.agree(values):
            return values[0]
        return self._traced(self._node("call_function", function, args, {}), values)

    def _traced(self, node: fx.Node, values: Sequence[Any]) -> Traced:
        self.numbers[node] = values
        return traced(self, node, values)

    # values that are known, because they are computed from sizes and numbers alone

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

    def _of_known(self, value: Tensor) -> TensorProxy:
        assert self.witnesses is not None
        values = self.witnesses.everywhere(value)
        return TensorProxy.of(self, None, seen=values, at=value.device)

    def _settled(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call a function that makes a tensor of sizes with those of the first witness."""

        def plain(value: Any) -> Any:
            return self.decided(value.seen) if isinstance(value, TRACED) else value

        args, kwargs = replaced((args, kwargs), plain)
        return target(*args, **kwargs)

    def node_of(self, proxy: TensorProxy) -> fx.Node:
        """The node of a proxy. A known value becomes a constant of the graph, as it is now."""
        if proxy.node is not None:
            return proxy.node
        value = self.plain(proxy)
        known, version, node = self._snapshots.get(id(value), (None, -1, None))
        if node is None or known is not value or version != version_of(value):
            node = self.node_of(self.constant(value.detach().clone()))
            self._snapshots[id(value)] = value, version_of(value), node
        return node

    # the graph

    def _node(self, kind: str, target: Any, args: Any, kwargs: Any) -> fx.Node:
        return self.create_node(kind, target, self.create_arg(args), self.create_arg(kwargs))

    def _tensor(self, node: fx.Node) -> TensorProxy:
        return TensorProxy.of(self, node)

    def _unknown(self, kind: str, target: Any, args: Any, kwargs: Any) -> UnknownProxy:
        """A proxy for a size or a number; arithmetic with it stays Python arithmetic."""
        return UnknownProxy(self._node(kind, target, args, kwargs), self)

    def emit(self, packet: Packet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record an ATen call."""
        if only_writes(packet):
            raise self.refusal(f"{packet} writes to its arguments")
        values = self._values(packet, args, kwargs)
        if values is not None and is_of_shapes(packet) and self.witnesses.agree(values):  # type: ignore[union-attr]
            return self._of_known(values[0])
        if not returns_tensors(packet):
            if values is None or packet in _OF_MEMORY:
                raise self.refusal(f"{packet} asks how a tensor lies in memory, or for its values")
            return self.decided(values)
        node = self._node("call_function", packet, args, kwargs)
        source = args[0] if args else None
        sources = source if isinstance(source, (list, tuple)) else [source]
        at = self._device(args, kwargs)
        if values is None:
            result: Any = UnknownProxy(node, self) if results_of(node) else self._tensor(node)
            made = [result]
        elif isinstance(values[0], Tensor):
            result = self._with(node, values, at)
            made = [result]
        else:
            made = [
                self._with(
                    self._node("call_function", operator.getitem, (node, place), {}),
                    [None if each is None else each[place] for each in values],
                    at,
                )
                for place in range(len(values[0]))
            ]
            named = getattr(torch.return_types, str(packet.__name__), tuple)
            result = made if isinstance(values[0], list) else named(made)
        if shares_memory(packet) and isinstance(sources[0], TensorProxy):
            for proxy in made:
                if isinstance(proxy, TensorProxy):
                    proxy.aliases = sources[0].aliases
                    proxy.aliases[id(proxy)] = proxy
        return result

    def _with(self, node: fx.Node, values: Sequence[Any], at: torch.device | None) -> TensorProxy:
        node.meta["dtype"] = values[0].dtype
        at = at if values[0].is_meta else values[0].device
        return TensorProxy.of(self, node, seen=values, at=at)

    def _values(self, packet: Packet, args: Any, kwargs: Any) -> list[Any] | None:
        """What an ATen call returns for each witness; None if that is unknown."""
        witnesses, is_same = self.witnesses, True
        if witnesses is None:
            return None
        for each in leaves((args, kwargs)):
            if isinstance(each, TRACED):
                is_same = False
            elif isinstance(each, TensorProxy):
                if each.seen is None:
                    return None
                is_same = is_same and witnesses.is_same(each.seen)
            elif type(each) is UnknownProxy:
                return None
        by_form = is_of_shapes(packet)
        return witnesses.results(
            packet, lambda i: (self._at(args, i, by_form), self._at(kwargs, i)), is_same
        )

    def _at(self, value: Any, i: int, of_shapes: bool = False) -> Any:
        """Arguments as a witness has them; with ``of_shapes``, only the forms of tensors count."""

        def of(each: Any) -> Any:
            if isinstance(each, TRACED):
                return each.seen[i]
            if not isinstance(each, TensorProxy):
                return each
            own = each.by(i)
            if of_shapes and own.is_meta:
                return torch.empty((), dtype=own.dtype, device=each.at).expand(own.shape)
            return own

        return replaced(value, of)

    @staticmethod
    def _first(value: Any) -> Any:
        return value.by(0) if isinstance(value, TensorProxy) else value

    @staticmethod
    def _device(args: Any, kwargs: Any) -> torch.device | None:
        """The device of a result: the one that is asked for, or that of the operands."""
        found = list(leaves((args, kwargs)))
        asked = [each for each in found if isinstance(each, torch.device)]
        held = [
            x.at if isinstance(x, TensorProxy) else x.device for x in found if isinstance(x, Tensor)
        ]
        return next(iter([*asked, *(each for each in held if each is not None)]), None)

    def _call_inplace(self, packet: Packet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = args[0]
        if not isinstance(target, TensorProxy):
            raise self.refusal("an in-place operation on a constant")
        if set(target.aliases) - set(target.whole):
            raise self.refusal("an in-place operation on a tensor that shares memory with another")
        node = self._node("call_function", packet, args, kwargs)
        values = None
        if target.seen is not None and self.witnesses is not None:
            values = [v if v is None else self.witnesses.bare(v) for v in target.seen]
            node.meta["dtype"] = values[0].dtype
        for proxy in list(target.whole.values()):
            proxy.node, proxy.value, proxy.seen = node, None, values
        return target

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
        values = None
        if value.layout == torch.strided:
            bare = self.witnesses.bare(value) if self.witnesses else value.detach().to("meta")
            values = self.witnesses.everywhere(bare) if self.witnesses else [bare]
        return TensorProxy.of(self, node, seen=values, value=value, at=value.device)

    @staticmethod
    def _is_tensor(value: Any) -> bool:
        return isinstance(value, Tensor) or (
            type(value) is UnknownProxy and bool(results_of(value.node))
        )

    @staticmethod
    def _is_tuple(value: Any) -> bool:
        return type(value) is UnknownProxy and bool(results_of(value.node))

    def finished(self) -> None:
        """Write sizes that all witnesses agree on as numbers, and remove nodes that nobody reads."""
        for node, values in self.numbers.items():
            if self.witnesses is not None and self.witnesses.agree(values):
                plain = functools.partial(_in_place_of, node, values[0])
                for user in list(node.users):
                    user.args = fx.map_arg(user.args, plain)
                    user.kwargs = fx.map_arg(user.kwargs, plain)
        for node in reversed(list(self.graph.nodes)):
            is_plain = node.op == "call_function" and packet_of(node.target) is None
            if not node.users and (is_plain or node.op == "get_attr"):
                self.graph.erase_node(node)


def _in_place_of(old: fx.Node, new: Any, node: fx.Node) -> Any:
    return new if node is old else node


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
