"""Relevance through operations that only move values, by their adjoint: ``R_in = Jᵀ R``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.graph import (
    CASTS,
    Packet,
    arguments,
    aten,
    called,
    name_of,
    names_where,
    row_named,
    where,
)
from lrp_fx.relevance.adjoints import ROUTING, Adjoint
from lrp_fx.relevance.causes import Taken, of_constants
from lrp_fx.relevance.engines import Engine, pull, sum_to
from lrp_fx.relevance.handling import (
    Operation,
    Received,
    Site,
    always,
    argument,
    by_operand,
    first,
    others,
)
from lrp_fx.relevance.node import RelevanceNode, SharingRelevance
from lrp_fx.relevance.spreading import JOINS, default_rule, spread
from lrp_fx.rules import Route, Uniform


class RoutingRelevance(RelevanceNode):
    """``R_in = Jᵀ R`` through an operation of one operand that only moves values.

    Args:
        packet: the operation.
        adjoint: its adjoint.
        engine: the engine that computes ``Jᵀ R``.
    """

    result = "moved"

    def __init__(self, packet: Packet, adjoint: Adjoint, engine: Engine) -> None:
        super().__init__()
        self.packet, self.adjoint = packet, adjoint
        self.engine: Engine = engine

    def propagate(self, relevance: Tensor, shape: torch.Size, /, **options: Any) -> Tensor:
        """The relevance of the operand, of ``shape``; ``options`` are the other arguments."""
        return pull(
            self.engine,
            lambda x: self.packet(x, **options),
            lambda q: self.adjoint(q, shape, **options),
            shape,
            relevance,
        )

    def taken(self, relevance: Tensor, shape: torch.Size, /, **options: Any) -> Taken:
        """The relevance of entries that constant padding added."""
        if self.packet is not aten.pad or options.get("mode", "constant") != "constant":
            return {}
        inside = self.packet(relevance.new_ones(shape), options["pad"])
        return {"padding": (relevance * (1 - inside)).sum()}


class JoinRelevance(SharingRelevance):
    """``R_k = R[piece k]`` through cat or stack: each operand ``k`` gets the relevance of its piece.

    Args:
        stacked: whether the operation is stack.
        wanted: for each operand, whether its relevance is wanted.
    """

    result = "moved"

    def __init__(self, stacked: bool, wanted: Sequence[bool]) -> None:
        super().__init__(wanted)
        self.stacked = stacked

    def shares(self, relevance: Tensor, shapes: list[torch.Size], dim: int = 0) -> list[Tensor]:
        """The relevance of each operand, of its shape."""
        if self.stacked:
            return list(relevance.unbind(dim))
        rank = relevance.dim()
        # torch.cat accepts empty tensors of shape (0,) beside tensors of any shape
        sizes = [shape[dim] if len(shape) == rank else 0 for shape in shapes]
        pieces = torch.split(relevance, sizes, dim)
        return [p.reshape(shape) for p, shape in zip(pieces, shapes, strict=True)]


class SplitRelevance(RelevanceNode):
    """``R_in = Jᵀ R`` through split, chunk or unbind: the relevance of the pieces is joined.

    Pieces that the model does not use have no relevance and count as zeros.

    Args:
        packet: the operation.
        indices: the indices of the pieces with relevance; negative ones count from the end.
    """

    def __init__(self, packet: Packet, indices: Sequence[int]) -> None:
        super().__init__()
        self.packet, self.indices = packet, tuple(indices)

    def propagate(
        self, relevances: list[Tensor], shape: torch.Size, dim: int = 0, **options: Any
    ) -> Tensor:
        """The relevance of the operand, of ``shape``; ``options`` are the other arguments."""
        nothing = relevances[0].new_zeros(1).expand(shape)
        pieces = list(self.packet(nothing, dim=dim, **options))
        read: dict[int, Tensor] = {}
        for index, relevance in zip(self.indices, relevances, strict=True):
            place = index % len(pieces)
            read[place] = read[place] + relevance if place in read else relevance
        joined = torch.stack if self.packet is aten.unbind else torch.cat
        return joined([read.get(i, piece) for i, piece in enumerate(pieces)], dim)


class CastRelevance(RelevanceNode):
    """``R_in = R`` through a cast, in the dtype of the operand."""

    def propagate(self, relevance: Tensor, operand: Tensor) -> Tensor:
        """The relevance of the operand; for an integer operand it stays in floating point."""
        return relevance.to(operand.dtype) if operand.is_floating_point() else relevance


class WhereRelevance(RelevanceNode):
    """``R_a = m ⊙ R`` and ``R_b = (1 − m) ⊙ R`` through ``where(m, a, b)``.

    Both are summed to the shapes of the operands.
    """

    def propagate(
        self, relevance: Tensor, condition: Tensor, *shapes: torch.Size | None
    ) -> list[Tensor]:
        """The relevance of ``a`` and ``b``, of these shapes; None stands for a constant."""
        masks = zip((~condition, condition), shapes, strict=True)
        return [
            sum_to(relevance.masked_fill(mask, 0), shape)
            for mask, shape in masks
            if shape is not None
        ]

    def taken(self, relevance: Tensor, condition: Tensor, *shapes: torch.Size | None) -> Taken:
        """The relevance of entries that came from a constant."""
        masks = zip((~condition, condition), shapes, strict=True)
        return of_constants(
            relevance.masked_fill(mask, 0) for mask, shape in masks if shape is None
        )


class ScatterRelevance(SharingRelevance):
    """``R_src = R[piece]``, and ``R_self = R`` with zeros in the piece that ``src`` overwrites.

    Args:
        scatter: the operation, ``slice_scatter`` or ``select_scatter``.
        wanted: whether the relevance of ``self`` and of ``src`` is wanted.
    """

    def __init__(self, scatter: Packet, wanted: Sequence[bool]) -> None:
        super().__init__(wanted)
        self.packet = scatter
        self.take: Packet = getattr(aten, str(scatter.__name__).removesuffix("_scatter"))

    def shares(self, relevance: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        """The relevance of ``self`` and of ``src``; ``options`` are the other arguments."""
        piece: Tensor = self.take(relevance, **options)
        return self.packet(relevance, torch.zeros_like(piece), **options), piece


class OrderRelevance(RelevanceNode):
    """``R_i = R_j`` for the value ``j`` of topk, sort, median … that came from the place ``i``.

    Places from which no value came get zero.
    """

    def propagate(
        self, relevance: Tensor, shape: torch.Size, indices: Tensor, dim: int = -1
    ) -> Tensor:
        """The relevance of the operand, of ``shape``.

        Args:
            relevance: the relevance of the values.
            shape: the shape of the operand.
            indices: the place of each value along ``dim``.
            dim: the dimension along which values are chosen.
        """
        if relevance.dim() < len(shape):  # the dimension was removed (keepdim=False)
            relevance, indices = relevance.unsqueeze(dim), indices.unsqueeze(dim)
        return relevance.new_zeros(shape).scatter_add(dim, indices, relevance)


def _write(site: Site) -> Received:
    (operand,) = first(site.node)
    module = RoutingRelevance(called(site.node), ROUTING[name_of(site.node)], site.engine)
    options = site.value(others(site.node))
    relevance = spread(site) if name_of(site.node) in JOINS else site.relevance
    return {operand: [site.call(module, relevance, site.shape(operand), **options)]}


def _write_cast(site: Site) -> Received:
    (operand,) = first(site.node)
    return {operand: [site.call(CastRelevance(), site.relevance, site.value(operand))]}


def _write_join(site: Site) -> Received:
    bound = arguments(site.node)
    operands = list(bound["tensors"])
    shapes = [site.shape(operand) for operand in operands]
    wanted = [site.receives(operand) for operand in operands]
    module = JoinRelevance(stacked=name_of(site.node) == "stack", wanted=wanted)
    call = site.call(module, spread(site), shapes, dim=bound["dim"])
    return by_operand(site, call, operands)


def _write_split(site: Site) -> Received:
    (operand,) = first(site.node)
    options = site.value(others(site.node))
    module = SplitRelevance(called(site.node), list(site.parts))
    call = site.call(module, list(site.parts.values()), site.shape(operand), **options)
    return {operand: [call]}


def _write_where(site: Site) -> Received:
    bound = arguments(site.node)
    return _write_choice(site, bound["condition"], [bound["self"], bound["other"]])


def _write_masked_fill(site: Site) -> Received:
    bound = arguments(site.node)
    return _write_choice(site, bound["mask"], [bound["value"], bound["self"]])


def _write_choice(site: Site, condition: Any, operands: list[Any]) -> Received:
    shapes = [site.shape(each) if site.receives(each) else None for each in operands]
    call = site.call(WhereRelevance(), site.relevance, site.value(condition), *shapes)
    return by_operand(site, call, operands)


def _write_scatter(site: Site) -> Received:
    bound = arguments(site.node)
    operands = [bound.pop("self"), bound.pop("src")]
    module = ScatterRelevance(called(site.node), list(map(site.receives, operands)))
    call = site.call(module, spread(site), **site.value(bound))
    return by_operand(site, call, operands)


def _write_order(site: Site) -> Received:
    (operand,) = first(site.node)
    bound = arguments(site.node)
    if "dim" not in bound:
        raise UnsupportedOperationError(
            f"'{name_of(site.node)}' {where(site.node)} takes one value out of the whole batch: take one "
            "value of each sample, along a dimension"
        )
    inputs = (site.shape(operand), site.item(site.node, 1), bound["dim"])
    return {operand: [site.call(OrderRelevance(), site.relevance, *inputs)]}


def _routing(name: str, operands: Any, write: Any) -> Operation:
    operation = Operation(
        name=name,
        kind="routing",
        operands=operands,
        default=always(Route()),
        write=write,
        source="the operation's adjoint",
    )
    if name not in JOINS:
        return operation
    return replace(
        operation,
        default=default_rule,
        default_label="Route; Uniform from constant words to the others",
        alternatives=(Route, Uniform),
    )


def _is_look_up(name: str) -> bool:
    """Whether an operation copies the entries at given places; ``embedding.py`` describes these."""
    row = row_named(name)
    return row.takes_part and row.fresh


_ORDERS = names_where(
    lambda row: row.results == "values and places" and row.reduction != "windows"
) - {"max", "min"}
"""Choices of values by their order. The winner takes all under a maximum, see ``pooling.py``."""

OPERATIONS = [
    *(
        _routing(name, first, _write)
        for name in ROUTING
        if name not in CASTS and not _is_look_up(name)
    ),
    *(_routing(name, first, _write_cast) for name in CASTS),
    *(_routing(name, argument("tensors"), _write_join) for name in ("cat", "stack")),
    *(
        _routing(name, first, _write_split)
        for name in sorted(names_where(lambda row: row.results == "pieces"))
    ),
    _routing("where", argument("self", "other"), _write_where),
    _routing("masked_fill", argument("self"), _write_masked_fill),
    *(_routing(name, first, _write_order) for name in sorted(_ORDERS)),
    *(
        _routing(name, argument("self", "src"), _write_scatter)
        for name in ("slice_scatter", "select_scatter")
    ),
]
