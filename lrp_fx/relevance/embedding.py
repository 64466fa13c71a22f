"""Relevance through look-ups: an index gets the relevance of the table row that it selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.graph import arguments, aten, name_of, packet_of, where
from lrp_fx.relevance.activation import write_pass
from lrp_fx.relevance.adjoints import ROUTING
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.handling import (
    Facts,
    Operation,
    Received,
    Site,
    always,
    argument,
    by_operand,
    others,
)
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.placing import PLACING, operands_of, write_placing
from lrp_fx.relevance.routing import RoutingRelevance
from lrp_fx.rules import Pass, Proportional, Route, Rule

_BAGS = ("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
_WRITING = {
    "scatter": (("self", "src", "value"), "index"),
    "scatter_add": (("self", "src"), "index"),
    "index_put": (("self", "values"), "indices"),
}
"""These count as look-ups if all written values are constant: ``zeros.scatter(1, words, 1)``."""
_TABLES_AND_INDICES: dict[str, tuple[tuple[str, ...], str]] = {
    "embedding": (("weight",), "indices"),
    "index": (("self",), "indices"),
    "index_select": (("self",), "index"),
    "gather": (("self",), "index"),
    "take": (("self",), "index"),
    "take_along_dim": (("self",), "indices"),
    "one_hot": ((), "self"),
    **dict.fromkeys(_BAGS, (("weight",), "indices")),
    **_WRITING,
}
_MEAN, _MAX = 1, 2
"""The modes of an embedding bag; the mode 0 is the sum."""


def _tables(node: fx.Node) -> list[Any]:
    """The table of a look-up; none for ``one_hot``, several operands for operations that write."""
    names, _ = _TABLES_AND_INDICES[name_of(node)]
    bound = arguments(node)
    return [bound[name] for name in names if name in bound]


def indices_of(node: fx.Node) -> list[fx.Node]:
    """The index tensors of a look-up; an empty list for any other operation."""
    if node.op != "call_function" or name_of(node) not in _TABLES_AND_INDICES:
        return []
    _, name = _TABLES_AND_INDICES[name_of(node)]
    return [index for index in argument(name)(node) if isinstance(index, fx.Node)]


def looked_up(node: fx.Node, is_dynamic: Callable[[Any], bool]) -> list[fx.Node]:
    """The indices that get the relevance of a look-up; none if the table depends on the input."""
    indices = indices_of(node)
    if not indices or any(map(is_dynamic, _tables(node))):
        return []
    return [index for index in dict.fromkeys(indices) if is_dynamic(index)]


class LookUpRelevance(RelevanceNode):
    """``R_i = Σ_d R_id``: an index ``i`` gets the relevance of all features ``d`` that it looked up.

    If one look-up has several index tensors, as in ``table[i, j]``, they get equal shares.

    Args:
        start: the dimension of the output at which the dimensions of the indices begin.
        wanted: for each index tensor, whether its relevance is wanted.
        rank: the minimal number of dimensions that the indices have in the output.
    """

    def __init__(self, start: int, wanted: Sequence[bool], rank: int = 0) -> None:
        super().__init__()
        self.start, self.wanted, self.rank = start, tuple(wanted), rank

    def propagate(self, relevance: Tensor, *shapes: torch.Size) -> list[Tensor]:
        """The relevance of each index tensor whose relevance is wanted, of its shape.

        Args:
            relevance: the relevance of the output, with the dimensions of the indices and of the
                features.
            shapes: the shapes of all index tensors, which broadcast with each other.
        """
        rank = max(self.rank, *map(len, shapes))
        start = self.start % relevance.dim() if relevance.dim() else 0
        features = [d for d in range(relevance.dim()) if not start <= d < start + rank]
        total = relevance.sum(features) if features else relevance
        if sum(self.wanted) > 1:
            total = total / sum(self.wanted)
        pairs = zip(shapes, self.wanted, strict=True)
        return [sum_to(total, shape) for shape, wanted in pairs if wanted]


class WrittenRelevance(RelevanceNode):
    """``R_i = Σ_p R_p / n_p`` over the places ``p`` to which the index ``i`` wrote.

    ``n_p`` is the number of writes to the place ``p``: several indices that wrote to one place
    share its relevance equally, like the words in a bag of words. ``index_put`` with several index
    tensors splits it further, as :class:`LookUpRelevance` does.

    Args:
        name: ``scatter``, ``scatter_add`` or ``index_put``.
        wanted: for each index tensor, whether its relevance is wanted.
    """

    result = "new"

    def __init__(self, name: str, wanted: Sequence[bool]) -> None:
        super().__init__()
        self.name, self.wanted = name, tuple(wanted)

    def propagate(
        self, relevance: Tensor, places: dict[str, Any], *shapes: torch.Size
    ) -> list[Tensor]:
        """The relevance of each index tensor whose relevance is wanted, of its shape.

        Args:
            relevance: the relevance of the output.
            places: the arguments that say where the operation writes.
            shapes: the shapes of the index tensors.
        """
        share = relevance / self._count(relevance, places).clamp(min=1)
        if self.name != "index_put":
            return [share.gather(places["dim"], places["index"])]
        start, rank = _block(places["indices"])
        written = aten.index(share, places["indices"])
        return LookUpRelevance(start, self.wanted, rank).propagate(written, *shapes)

    def taken(self, relevance: Tensor, places: dict[str, Any], *shapes: torch.Size) -> Taken:
        """The relevance of entries to which nothing was written."""
        return {"constant": relevance.masked_fill(self._count(relevance, places) != 0, 0).sum()}

    def _count(self, relevance: Tensor, places: dict[str, Any]) -> Tensor:
        """The number of writes to each entry."""
        nothing = torch.zeros_like(relevance)
        if self.name == "index_put":
            one = relevance.new_ones(())
            return aten.index_put(nothing, places["indices"], one, True)
        index = places["index"]
        return nothing.scatter_add(places["dim"], index, relevance.new_ones(index.shape))


class EmbeddingBagRelevance(RelevanceNode):
    """``R_i = Σ_d e_id R_bd / S(y_bd)`` for an index ``i`` in bag ``b`` with ``y_b = Σ_{i in b} e_i``.

    The ε rule of Bach et al. 2015 on the sum of a bag. ``e_i`` is the row that ``i`` looks up,
    times the weight of ``i`` if there are weights, and divided by the size of the bag in a mean.
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
            relevance: the relevance of the bags, (bags, features).
            output: the output ``y``, (bags, features).
            weight: the table, (rows, features).
            indices: the indices, (entries,).
            offsets: the entry at which each bag begins, (bags,) or (bags + 1,).
            weights: a factor for each entry, (entries,), or None.
            mode: 0 for sums, 1 for means.
            padding_idx: the index whose entries do not count; None or negative for none.
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
        """The share of the stabilizer, which includes the relevance of empty bags."""
        return by_stabilizer(self.rule.stabilizer, relevance, output)


def _receivers(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    return looked_up(node, facts.is_dynamic) or _tables(node)


def _receivers_of_writing(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    return looked_up(node, facts.is_dynamic) or operands_of(node)


def _write_writing(site: Site) -> Received:
    if looked_up(site.node, site.facts.is_dynamic):
        return _write_written(site)
    return write_placing(site)


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
    """The dimension of the output at which the indices begin, and their least number of dimensions."""
    bound, name = arguments(node), name_of(node)
    if name == "index_select":
        return bound["dim"], 1
    if name != "index":
        return 0, 0
    return _block(bound["indices"])


def _block(indices: Sequence[Any]) -> tuple[int, int]:
    """As :func:`_dimensions`, for ``x[indices]``."""
    places = [place for place, index in enumerate(indices) if index is not None]
    is_one_block = places[-1] - places[0] == len(places) - 1
    return places[0] if is_one_block else 0, 0


def _write_written(site: Site) -> Received:
    bound, indices = arguments(site.node), indices_of(site.node)
    module = WrittenRelevance(name_of(site.node), [site.receives(index) for index in indices])
    where_to = {key: bound[key] for key in ("dim", "index", "indices") if key in bound}
    call = site.call(module, site.relevance, site.value(where_to), *map(site.shape, indices))
    return by_operand(site, call, indices)


def _write_routing(site: Site) -> Received:
    """Write a node that routes relevance to the entries of a table that depends on the input."""
    (table,), packet, options = _tables(site.node), packet_of(site.node.target), others(site.node)
    if name_of(site.node) == "embedding":
        packet, options = aten.index, {"indices": indices_of(site.node)}
    assert packet is not None
    if str(packet.__name__) not in ROUTING:
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
            f"there is no rule for an embedding bag with mode 'max' {where(site.node)}: use "
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
        for name in _TABLES_AND_INDICES
        if name not in _BAGS and name not in _WRITING
    ),
    *(
        replace(each, receivers=_receivers_of_writing, write=_write_writing)
        for each in PLACING
        if each.name in _WRITING
    ),
    Operation(
        name="embedding_renorm",
        kind="embedding",
        operands=argument("self"),
        default=always(Pass()),
        write=write_pass,
        source="the table whose rows are scaled down to max_norm before they are looked up",
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
