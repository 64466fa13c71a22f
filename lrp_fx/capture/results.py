"""What ATen operations return: how many tensors, their names, or numbers."""

from __future__ import annotations

import functools

from torch import fx

from lrp_fx.graph import Packet, aten, overloads_of, packet_of, row_named, schema_of


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
def only_writes(packet: Packet) -> bool:
    """Whether every overload of an operation writes to its arguments."""
    return all(schema_of(getattr(packet, name)).is_mutable for name in overloads_of(packet))


@functools.cache
def returns_tensors(packet: Packet) -> bool:
    """Whether an operation returns tensors, and not numbers such as strides and offsets."""
    schemas = (schema_of(getattr(packet, name)) for name in overloads_of(packet))
    return any("Tensor" in str(result.type) for schema in schemas for result in schema.returns)


def is_of_shapes(packet: Packet) -> bool:
    """Whether the result of an operation depends on the form of its first operand only."""
    return row_named(str(packet.__name__)).says == "shapes"
