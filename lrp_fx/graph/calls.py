"""ATen calls in a graph: the name of the operation, and its arguments by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor, fx

from lrp_fx.graph.private_torch import OpOverload, OpOverloadPacket, schema_of

if TYPE_CHECKING:

    class Packet(OpOverloadPacket):
        """An ATen operation with all its overloads, as torch leaves it untyped."""

        def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
            """The operation on tensors."""
            ...

        def overloads(self) -> list[str]:
            """The names of its overloads."""
            ...

    class _Aten(Protocol):
        def __getattr__(self, name: str) -> Packet: ...

    aten: _Aten
else:
    Packet = OpOverloadPacket
    aten = torch.ops.aten


Argument: TypeAlias = Any
"""An argument of a call: a node, a constant, or lists of these; torch.fx gives it no narrower type."""


def packet_of(target: Any) -> Packet | None:
    """The overload packet of the target of an ATen call; None for any other target."""
    if isinstance(target, OpOverload):
        target = target.overloadpacket
    return target if isinstance(target, Packet) else None


def overloads_of(packet: Packet) -> list[str]:
    """The names of a packet's overloads."""
    return list(packet.overloads())


def name_of(node: fx.Node) -> str:
    """The short name of a node's operation: ``conv2d`` for a call of ``torch.ops.aten.conv2d``.

    The name is empty for a node that is not a call, since a parameter may be named ``conv2d`` too.
    Python functions that are named like an ATen operation get a prefix: arithmetic of sizes is
    ``python.mul``.
    """
    if node.op != "call_function":
        return ""
    packet = packet_of(node.target)
    if packet is not None:
        return str(packet.__name__)
    name: str = getattr(node.target, "__name__", str(node.target))
    return f"python.{name}" if hasattr(aten, name) else name


@dataclass(frozen=True)
class _Overload:
    """The parameters of one overload.

    Args:
        positional: the names of those that may be given by place.
        required: the names of those without a default.
        defaults: the default of each, by name; None for a required one.
        types: the type of each, by name.
        lengths: the length of each list in whose place one number may be given.
    """

    positional: tuple[str, ...]
    required: tuple[str, ...]
    defaults: Mapping[str, Any]
    types: Mapping[str, str]
    lengths: Mapping[str, int]


@cache
def _overloads(packet: Packet) -> tuple[_Overload, ...]:
    """The overloads of an operation, but those with an ``out`` argument."""
    overloads = []
    for overload in overloads_of(packet):
        schema = schema_of(getattr(packet, overload))
        if any(argument.is_out for argument in schema.arguments):
            continue
        parameters = schema.arguments
        overloads.append(
            _Overload(
                tuple(a.name for a in parameters if not a.kwarg_only),
                tuple(a.name for a in parameters if not a.has_default_value()),
                {a.name: a.default_value for a in parameters},
                {a.name: str(a.type) for a in parameters},
                {a.name: a.N for a in parameters if a.N},
            )
        )
    return tuple(overloads)


def bind(packet: Packet, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call by their ATen names, with defaults filled in.

    If several overloads accept these arguments by number and name, the types of the values decide:
    in ``max(x, 1)`` the second argument is a dimension, in ``max(x, y)`` another tensor. If the
    types fit no overload, the first candidate is used. One number in place of a list is that number
    in each place, as in ``adaptive_avg_pool2d(x, 1)``.

    Returns:
        The arguments, or None if no overload accepts them.
    """
    found = _bound(packet, args, kwargs)
    return None if found is None else found[0]


def types_of(node: fx.Node) -> Mapping[str, str]:
    """The types of an ATen call's parameters by name, as torch writes them: ``"Tensor"``, ``"number"``.

    Raises:
        ValueError: if the node is no ATen call.
    """
    found = _bound(called(node), node.args, node.kwargs)
    if found is None:
        raise ValueError(f"not an ATen call: {node.format_node()}")
    return found[1]


def _bound(
    packet: Packet, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], Mapping[str, str]] | None:
    """The arguments of a call by name and the types of its parameters; see :func:`bind`."""
    fallback = None
    for overload in _overloads(packet):
        kinds = overload.types
        if len(args) > len(overload.positional) or not kwargs.keys() <= kinds.keys():
            continue
        given = dict(zip(overload.positional, args, strict=False))
        if kwargs:
            if given.keys() & kwargs.keys():
                continue
            given.update(kwargs)
        if not all(name in given for name in overload.required):
            continue
        bound = {**overload.defaults, **given}
        for name, length in overload.lengths.items():
            bound[name] = _listed(bound[name], length)
        if all(_fits(value, kinds[name]) for name, value in given.items()):
            return bound, kinds
        fallback = fallback or (bound, kinds)
    return fallback


def _listed(value: Any, length: int) -> Any:
    """A number in place of a list of that length as a list; any other value as it is."""
    return [value] * length if length and isinstance(value, int) else value


def _fits(value: Any, kind: str) -> bool:
    """Whether a value may be passed for a parameter of this type.

    The type of a graph's node is not known. It counts as anything but a number, since most nodes
    are tensors: ``y`` in ``scatter(x, 1, i, y)`` is taken for a tensor.
    """
    if isinstance(value, (fx.Node, fx.Proxy)):
        return kind != "number"
    if value is None:
        return kind.startswith("Optional[")
    kind = kind.removeprefix("Optional[")
    if isinstance(value, (list, tuple)):
        return kind.startswith("List[")
    if isinstance(value, bool):
        return not kind.startswith(("Tensor", "str"))
    if isinstance(value, (int, float)):
        return not kind.startswith(("Tensor", "str", "bool"))
    return kind.startswith("Tensor") == isinstance(value, torch.Tensor)


def called(node: fx.Node) -> Packet:
    """The packet of an ATen call; a ``ValueError`` for any other node."""
    packet = packet_of(node.target)
    if packet is None:
        raise ValueError(f"not an ATen call: {node.format_node()}")
    return packet


def operand(node: fx.Node, place: int = 0) -> fx.Node:
    """The node that a call reads in this place of its arguments; a ``ValueError`` if it is none."""
    value = node.args[place]
    if not isinstance(value, fx.Node):
        raise ValueError(f"not a node in place {place}: {node.format_node()}")
    return value


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an ATen call by name, with defaults filled in.

    Raises:
        ValueError: if the node is not an ATen call.
    """
    bound = bind(called(node), node.args, node.kwargs)
    if bound is None:
        raise ValueError(f"not an ATen call: {node.format_node()}")
    return bound


def as_tuple(value: Any, length: int) -> tuple[Any, ...]:
    """An ATen int list as a tuple; a single number, or a list of one, is repeated ``length`` times."""
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return values * length if len(values) == 1 else values
