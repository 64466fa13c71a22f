"""Relevance through look-ups: that of a row of a constant table goes to the index that chose it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.aten import arguments, aten, name_of, packet_of
from lrp_fx.capture import where
from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.relevance.adjoints import ROUTING
from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import (
    Facts,
    Operation,
    Received,
    Site,
    always,
    argument,
    by_operand,
    others,
)
from lrp_fx.relevance.routing import RoutingRelevance
from lrp_fx.relevance.taken import Taken, by_stabilizer
from lrp_fx.rules import Proportional, Route, Rule

_BAGS = ("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
_TABLE_AND_INDICES: dict[str, tuple[str | None, str]] = {
    "embedding": ("weight", "indices"),
    "index": ("self", "indices"),
    "index_select": ("self", "index"),
    "gather": ("self", "index"),
    "one_hot": (None, "self"),
    **dict.fromkeys(_BAGS, ("weight", "indices")),
}
_MEAN, _MAX = 1, 2
"""Modes of an embedding bag, beside 0 for the sum."""


def table_of(node: fx.Node) -> Any:
    """The table of a look-up, None where it is an identity matrix."""
    table, _ = _TABLE_AND_INDICES[name_of(node)]
    return None if table is None else arguments(node)[table]


def indices_of(node: fx.Node) -> list[fx.Node]:
    """The tensors that say which entries of a table are looked up; none of any other operation."""
    if node.op != "call_function" or name_of(node) not in _TABLE_AND_INDICES:
        return []
    _, name = _TABLE_AND_INDICES[name_of(node)]
    return [index for index in argument(name)(node) if isinstance(index, fx.Node)]


def looked_up(node: fx.Node, is_dynamic: Callable[[Any], bool]) -> list[fx.Node]:
    """The indices that get the relevance of a look-up: none where the table depends on the input."""
    indices = indices_of(node)
    if not indices or is_dynamic(table_of(node)):
        return []
    return [index for index in dict.fromkeys(indices) if is_dynamic(index)]


class LookUpRelevance(RelevanceNode):
    """``R_i = Σ_d R_id``: an index gets the relevance of all the features that it looked up.

    Several indices of one look-up, ``table[i, j]``, get equal shares.

    Args:
        start: the dimension of the output in which the indices' dimensions begin.
        wanted: of each tensor of indices, whether its relevance is wanted.
        rank: how many dimensions of the output the indices have at least.
    """

    def __init__(self, start: int, wanted: Sequence[bool], rank: int = 0) -> None:
        super().__init__()
        self.start, self.wanted, self.rank = start, tuple(wanted), rank

    def propagate(self, relevance: Tensor, *shapes: torch.Size) -> list[Tensor]:
        """The relevance of the indices that want it, of their shapes.

        Args:
            relevance: of the output: the indices' dimensions, and those of the features.
            shapes: of all tensors of indices, which broadcast to one another.
        """
        rank = max(self.rank, *map(len, shapes))
        start = self.start % relevance.dim() if relevance.dim() else 0
        features = [d for d in range(relevance.dim()) if not start <= d < start + rank]
        total = relevance.sum(features) if features else relevance
        if sum(self.wanted) > 1:
            total = total / sum(self.wanted)
        pairs = zip(shapes, self.wanted, strict=True)
        return [sum_to(total, shape) for shape, wanted in pairs if wanted]


class EmbeddingBagRelevance(RelevanceNode):
    """``R_i = Σ_d e_id R_bd / S(y_bd)`` for the index i of bag b, with ``y_b`` the sum of its ``e_i``.

    ``e_i`` is the row that was looked up, times its weight, or divided by the size of its bag for a mean.
    """

    result = "new"

    def __init__(self, rule: Proportional) -> None:
        super().__init__()
        self.rule = rule

    def propagate(
        self,
        relevance: Tensor,
        output: Tensor,
        weight: Tensor,
        indices: Tensor,
        offsets: Tensor,
        weights: Tensor | None,
        mode: int,
        padding_idx: int | None,
    ) -> Tensor:
        """The relevance of the indices, (entries,).

        Args:
            relevance: (bags, features).
            output: of this shape too.
            weight: the table.
            indices: (entries,).
            offsets: where each bag begins.
            weights: a factor of each entry, or None.
            mode: 0 for sums, 1 for means.
            padding_idx: the index of entries that do not count; None or negative for none.
        """
        places = torch.arange(indices.shape[0], device=indices.device, dtype=offsets.dtype)
        bags = torch.searchsorted(offsets.contiguous(), places, right=True) - 1
        counts = (indices != (-1 if padding_idx is None else padding_idx)).to(relevance.dtype)
        bags = bags.clamp(max=relevance.shape[0] - 1)
        if mode == _MEAN:
            sizes = relevance.new_zeros(relevance.shape[0]).index_add(0, bags, counts)
            counts = counts / sizes.clamp(min=1)[bags]
        if weights is not None:
            counts = counts * weights
        quotient = self.rule.stabilizer.quotient(relevance, output)
        return counts * (weight[indices] * quotient[bags]).sum(1)

    def taken(self, relevance: Tensor, output: Tensor, *options: Any) -> Taken:
        """The stabilizer's share, and that of empty bags."""
        return by_stabilizer(self.rule.stabilizer, relevance, output)


def _tables(node: fx.Node) -> list[Any]:
    table = table_of(node)
    return [] if table is None else [table]


def _receivers(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    return looked_up(node, facts.is_dynamic) or _tables(node)


def _write(site: Site) -> Received:
    wanted = looked_up(site.node, site.facts.is_dynamic)
    if not wanted:
        return _write_routing(site)
    if name_of(site.node) in _BAGS:
        return _write_bag(site)
    indices = indices_of(site.node)
    start, rank = _dimensions(site.node)
    module = LookUpRelevance(start, [site.receives(index) for index in indices], rank)
    call = site.call(module, site.relevance, *map(site.shape, indices))
    return by_operand(site, call, indices)


def _dimensions(node: fx.Node) -> tuple[int, int]:
    """Where the dimensions of the indices begin in the output, and how many they are at least."""
    bound, name = arguments(node), name_of(node)
    if name == "index_select":
        return bound["dim"], 1
    if name != "index":
        return 0, 0
    places = [place for place, index in enumerate(bound["indices"]) if index is not None]
    is_one_block = places[-1] - places[0] == len(places) - 1
    return places[0] if is_one_block else 0, 0


def _write_routing(site: Site) -> Received:
    """To the entries of a table that depends on the input."""
    table, packet, options = table_of(site.node), packet_of(site.node.target), others(site.node)
    if name_of(site.node) == "embedding":
        packet, options = aten.index, {"indices": indices_of(site.node)}
    assert packet is not None
    if packet not in (aten.index, aten.index_select, aten.gather):
        raise UnsupportedOperationError(
            f"the table of '{site.node.name}' {where(site.node)} is computed from the explained inputs: "
            "look its rows up by F.embedding and sum them"
        )
    module = RoutingRelevance(packet, ROUTING[str(packet.__name__)], site.engine)
    return {table: [site.call(module, site.relevance, site.shape(table), **site.value(options))]}


def _write_bag(site: Site) -> Received:
    bound = arguments(site.node)
    if bound["mode"] == _MAX:
        raise UnsupportedOperationError(
            f"no relevance is described for an embedding bag of maxima {where(site.node)}: use "
            "F.embedding and amax, or explain the bag's output by LayerLRPFx"
        )
    assert isinstance(site.rule, Proportional)
    names = ("weight", "indices", "offsets", "per_sample_weights", "mode", "padding_idx")
    inputs = site.value([bound[name] for name in names])
    output = site.item(site.node, 0)
    module = EmbeddingBagRelevance(site.rule)
    return {bound["indices"]: [site.call(module, site.relevance, output, *inputs)]}


_SOURCE = "the sum over the features; the adjoint where the table depends on the input"

OPERATIONS = [
    *(
        Operation(
            name=name,
            kind="routing" if name in ROUTING else "embedding",
            operands=_tables,
            default=always(Route()),
            receivers=_receivers,
            write=_write,
            source=_SOURCE,
        )
        for name in _TABLE_AND_INDICES
        if name not in _BAGS
    ),
    *(
        Operation(
            name=name,
            kind="embedding",
            operands=_tables,
            default=always(Proportional()),
            alternatives=(Proportional,),
            receivers=_receivers,
            write=_write,
            source="e · R / S(Σe), summed over the features",
        )
        for name in _BAGS
    ),
]
