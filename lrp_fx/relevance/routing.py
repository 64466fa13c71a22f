"""Relevance through operations that only move values: it moves back, ``R_in = Jᵀ R``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lrp_fx.aten import Packet, arguments, name_of, packet_of
from lrp_fx.relevance.adjoints import ROUTING, Adjoint
from lrp_fx.relevance.engines import Engine, pull, sum_to
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import Operation, Received, Site, always, argument, first, others
from lrp_fx.rules import Route


class RoutingRelevance(RelevanceNode):
    """``R_in = Jᵀ R`` of a routing operation."""

    def __init__(self, packet: Packet, adjoint: Adjoint, engine: Engine) -> None:
        super().__init__()
        self.packet, self.adjoint = packet, adjoint
        self.engine: Engine = engine

    def extra_repr(self) -> str:
        """The operation."""
        return str(self.packet.__name__)

    def propagate(self, relevance: Tensor, shape: torch.Size, /, **options: Any) -> Tensor:
        """The relevance of the operand, of ``shape``."""
        return pull(
            self.engine,
            lambda x: self.packet(x, **options),
            lambda q: self.adjoint(q, shape, **options),
            shape,
            relevance,
        )


class JoinRelevance(RelevanceNode):
    """Back through cat or stack: each operand gets its piece."""

    def __init__(self, stacked: bool) -> None:
        super().__init__()
        self.stacked = stacked

    def propagate(self, relevance: Tensor, shapes: list[torch.Size], dim: int = 0) -> list[Tensor]:
        """The relevance of each operand, of its shape."""
        if self.stacked:
            return list(relevance.unbind(dim))
        rank = relevance.dim()
        # torch.cat takes old-style empty tensors of shape (0,) along with any others
        sizes = [shape[dim] if len(shape) == rank else 0 for shape in shapes]
        pieces = torch.split(relevance, sizes, dim)
        return [p.reshape(shape) for p, shape in zip(pieces, shapes, strict=True)]


class SplitRelevance(RelevanceNode):
    """Back through split, chunk or unbind: the pieces together, zeros for those that nobody read."""

    def __init__(self, packet: Packet) -> None:
        super().__init__()
        self.packet = packet

    def extra_repr(self) -> str:
        """The operation."""
        return str(self.packet.__name__)

    def propagate(
        self, relevances: list[Tensor | None], shape: torch.Size, dim: int = 0, **options: Any
    ) -> Tensor:
        """The relevance of the operand, of ``shape``."""
        some = next(r for r in relevances if r is not None)
        nothing = some.new_zeros(1).expand(shape)
        pieces = list(self.packet(nothing, dim=dim, **options))
        for index, relevance in enumerate(relevances):
            if relevance is not None:
                pieces[index] = relevance
        joined = torch.stack if str(self.packet.__name__) == "unbind" else torch.cat
        return joined(pieces, dim)


class WhereRelevance(RelevanceNode):
    """Back through ``where(condition, a, b)``: each operand gets what was taken from it."""

    def propagate(
        self, relevance: Tensor, condition: Tensor, shape: torch.Size, chosen: bool
    ) -> Tensor:
        """The relevance of one operand, of ``shape``."""
        return sum_to(relevance.masked_fill(~condition if chosen else condition, 0), shape)


class SliceScatterRelevance(RelevanceNode):
    """Back through ``slice_scatter``: the slice to the inserted part, the rest to the frame."""

    def propagate(self, relevance: Tensor, which: str, **options: Any) -> Tensor:
        """The relevance of the operand named ``which``."""
        piece = torch.ops.aten.slice(relevance, **options)
        if which == "src":
            return piece  # type: ignore[no-any-return]
        zeros = torch.zeros_like(piece)
        return torch.ops.aten.slice_scatter(  # type: ignore[no-any-return]
            relevance, zeros, **options
        )


def _write(site: Site) -> Received:
    (operand,) = first(site.node)
    packet = packet_of(site.node.target)
    assert packet is not None
    module = RoutingRelevance(packet, ROUTING[name_of(site.node)], site.engine)
    options = site.value(others(site.node))
    return {operand: [site.call(module, site.relevance, site.shape(operand), **options)]}


def _write_join(site: Site) -> Received:
    bound = arguments(site.node)
    operands = list(bound["tensors"])
    shapes = [site.shape(operand) for operand in operands]
    module = JoinRelevance(stacked=name_of(site.node) == "stack")
    pieces = site.parts_of(
        site.call(module, site.relevance, shapes, dim=bound["dim"]), len(operands)
    )
    received: Received = {}
    for operand, piece in zip(operands, pieces, strict=True):
        if site.receives(operand):
            received.setdefault(operand, []).append(piece)
    return received


def _write_split(site: Site) -> Received:
    (operand,) = first(site.node)
    packet = packet_of(site.node.target)
    assert packet is not None
    parts = [site.parts.get(index) for index in range(max(site.parts) + 1)]
    options = site.value(others(site.node))
    call = site.call(SplitRelevance(packet), parts, site.shape(operand), **options)
    return {operand: [call]}


def _write_where(site: Site) -> Received:
    bound = arguments(site.node)
    condition = site.value(bound["condition"])
    received: Received = {}
    for name, chosen in (("self", True), ("other", False)):
        operand = bound[name]
        if site.receives(operand):
            inputs = (condition, site.shape(operand), chosen)
            call = site.call(WhereRelevance(), site.relevance, *inputs)
            received.setdefault(operand, []).append(call)
    return received


def _write_masked_fill(site: Site) -> Received:
    bound = arguments(site.node)
    operand = bound["self"]
    inputs = (site.value(bound["mask"]), site.shape(operand), False)
    return {operand: [site.call(WhereRelevance(), site.relevance, *inputs)]}


def _write_slice_scatter(site: Site) -> Received:
    bound = arguments(site.node)
    options = site.value({k: v for k, v in bound.items() if k not in ("self", "src")})
    received: Received = {}
    for name in ("self", "src"):
        if site.receives(bound[name]):
            call = site.call(SliceScatterRelevance(), site.relevance, name, **options)
            received.setdefault(bound[name], []).append(call)
    return received


def _routing(name: str, operands: Any, write: Any) -> Operation:
    return Operation(
        name=name,
        kind="routing",
        operands=operands,
        default=always(Route()),
        write=write,
        source="the operation's adjoint",
    )


OPERATIONS = [
    *(_routing(name, first, _write) for name in ROUTING),
    *(_routing(name, argument("tensors"), _write_join) for name in ("cat", "stack")),
    *(
        _routing(name, first, _write_split)
        for name in ("split", "split_with_sizes", "chunk", "unbind", "tensor_split")
    ),
    _routing("where", argument("self", "other"), _write_where),
    _routing("masked_fill", argument("self"), _write_masked_fill),
    _routing("slice_scatter", argument("self", "src"), _write_slice_scatter),
]
