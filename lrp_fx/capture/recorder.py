"""The recorder: writes ATen calls on proxies as nodes of an fx graph, and knows their results' shapes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor, fx

from lrp_fx.capture.proxies import (
    TRACED,
    TensorProxy,
    Traced,
    Tracer,
    UnknownProxy,
    leaves,
    replaced,
    traced,
)
from lrp_fx.capture.results import is_of_shapes, only_writes, results_of, returns_tensors
from lrp_fx.capture.witnesses import Witnesses
from lrp_fx.graph import Call, Packet, aten, packet_of, shares_memory, version_of

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


class Recorder(fx.proxy.TracerBase, Tracer):
    """Records ATen calls, and what each returns for the witnesses.

    Args:
        witnesses: the shapes to follow; None if there are no example inputs.
    """

    def __init__(self, witnesses: Witnesses | None) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.witnesses = witnesses
        self.calls: list[Call] = []
        self.call_counts: dict[str, int] = {}
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Tensor] = {}
        self.numbers: dict[fx.Node, Sequence[Any]] = {}
        """The sizes in the graph, with their values for the witnesses."""
        self._snapshots: dict[int, tuple[Tensor, int, fx.Node]] = {}
        self.refused: NotTraceable | None = None
        """The first refusal, which the model's code may have caught."""

    def source(self) -> str | None:
        """``file:line`` in the user's code of the call that is being recorded."""
        return None

    def refusal(self, reason: str, *, asks_value: bool = False) -> NotTraceable:
        """The error to raise where the code cannot be followed."""
        error = NotTraceable(reason, asks_value=asks_value)
        self.refused = self.refused or error
        return error

    def create_arg(self, a: Any) -> Any:
        """The arguments of a node, from those of a call on proxies."""
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
        if isinstance(a, numpy.generic):  # no literal of generated code
            a = a.item()
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
        """A new node, which knows the module and the line of the user that it comes from."""
        node = self.graph.create_node(kind, target, args, kwargs, name, type_expr)
        node.meta["module_calls"] = tuple(self.calls)
        node.meta["source"] = self.source()
        return node

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

    def parameter(self, path: str | None, value: Tensor) -> TensorProxy:
        """A proxy for a tensor that the model holds; its shape, dtype and device are known."""
        if path is None:
            return self.constant(value)
        self.tensors[path] = value
        return self._attribute(path, value)

    def constant(self, value: Tensor) -> TensorProxy:
        """A proxy for a tensor that the code created, or that is not a registered tensor of the model."""
        name = next((n for n, known in self.constants.items() if known is value), None)
        if name is None:
            name = f"_constant_{len(self.constants)}"
            self.constants[name] = value
        return self._attribute(name, value)

    def _attribute(self, name: str, value: Tensor) -> TensorProxy:
        node = self.graph.create_node("get_attr", name, name=name.replace(".", "_"))
        node.meta["dtype"] = value.dtype
        values = None
        if value.layout == torch.strided:
            bare = self.witnesses.bare(value) if self.witnesses else value.detach().to("meta")
            values = self.witnesses.everywhere(bare) if self.witnesses else [bare]
        return TensorProxy.of(self, node, seen=values, value=value, at=value.device)

    def emit(self, packet: Packet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record an ATen call."""
        if only_writes(packet):
            raise self.refusal(f"{packet} writes to its arguments")
        witnesses, values = self.witnesses, self._values(packet, args, kwargs)
        if (
            witnesses is not None
            and values is not None
            and is_of_shapes(packet)
            and witnesses.agree(values)
        ):
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

    def _of_known(self, value: Tensor) -> TensorProxy:
        assert self.witnesses is not None
        values = self.witnesses.everywhere(value)
        return TensorProxy.of(self, None, seen=values, at=value.device)

    def _node(self, kind: str, target: Any, args: Any, kwargs: Any) -> fx.Node:
        return self.create_node(kind, target, self.create_arg(args), self.create_arg(kwargs))

    def _tensor(self, node: fx.Node) -> TensorProxy:
        return TensorProxy.of(self, node)

    def _unknown(self, kind: str, target: Any, args: Any, kwargs: Any) -> UnknownProxy:
        """A proxy for a size or a number; arithmetic with it stays Python arithmetic."""
        return UnknownProxy(self._node(kind, target, args, kwargs), self)

    @staticmethod
    def _is_tensor(value: Any) -> bool:
        return isinstance(value, Tensor) or (
            type(value) is UnknownProxy and bool(results_of(value.node))
        )

    @staticmethod
    def _is_tuple(value: Any) -> bool:
        return type(value) is UnknownProxy and bool(results_of(value.node))

    def finished(self) -> None:
        """Write sizes that all witnesses agree on as numbers, and remove unused nodes."""
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
