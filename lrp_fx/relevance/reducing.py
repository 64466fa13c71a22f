"""Relevance through reductions by index: each entry of the result is a maximum, minimum or product.

``scatter_reduce`` puts each source entry into the group of the target entry that its index names;
the target entry itself may belong to the group. Sums and means are written by ``scatter_add``
before.

    maximum, minimum: all relevance goes to the winner (Bach et al. 2015), to equal winners in equal
                      shares, as in torch's derivative
    product:          each of n factors gets 1/n
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph import arguments
from lrp_fx.relevance.handling import Operation, Received, Site, always, argument, by_operand
from lrp_fx.relevance.node import SharingRelevance
from lrp_fx.rules import Route


class GroupRelevance(SharingRelevance):
    """``R_i = m_i R_k / Σ_j m_j`` for the entries ``i`` of the group of the result ``k``.

    ``m`` is one for the entries that equal the maximum or minimum of their group, and for all factors
    of a product.

    Args:
        reduce: ``"amax"``, ``"amin"`` or ``"prod"``.
        include_self: whether a target entry belongs to its group; if not, it only counts where no
            index names it.
        wanted: whether the relevance of the target and of the source is wanted.
    """

    result = "new"

    def __init__(self, reduce: str, include_self: bool, wanted: tuple[bool, bool]) -> None:
        super().__init__(wanted)
        self.reduce, self.include_self = reduce, include_self

    def extra_repr(self) -> str:
        """The reduction."""
        return self.reduce

    def shares(
        self,
        relevance: Tensor,
        output: Tensor,
        target: Tensor,
        source: Tensor,
        dim: int,
        index: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The relevance of the target and of the source, each of its shape.

        Args:
            relevance: the relevance of the result.
            output: the result, of the shape of the target.
            target: the tensor whose entries are reduced with those of the source.
            source: the source, at least as large as the index.
            dim: the dimension along which the index counts.
            index: for each source entry the place of its group along ``dim``.
        """
        ahead = tuple(slice(size) for size in index.shape)
        named = relevance.new_zeros(target.shape).scatter(dim, index, 1.0)
        of_target = named if self.include_self else torch.zeros_like(named)
        of_source = relevance.new_ones(index.shape)
        if self.reduce != "prod":
            of_target = of_target * (target == output)
            of_source = of_source * (source[ahead] == output.gather(dim, index))
        of_target = torch.where(named > 0, of_target, 1.0)
        count = of_target.scatter_add(dim, index, of_source)
        each = relevance / count.clamp(min=1)
        share = relevance.new_zeros(source.shape)
        share[ahead] = of_source * each.gather(dim, index)
        return of_target * each, share


def _write(site: Site) -> Received:
    bound = arguments(site.node)
    operands = (bound["self"], bound["src"])
    wanted = (site.receives(operands[0]), site.receives(operands[1]))
    module = GroupRelevance(bound["reduce"], bound["include_self"], wanted)
    values: Any = site.value((site.node, *operands, bound["dim"], bound["index"]))
    return by_operand(site, site.call(module, site.relevance, *values), operands)


OPERATIONS = [
    Operation(
        name="scatter_reduce",
        kind="choice",
        operands=argument("self", "src"),
        default=always(Route()),
        default_label="Route",
        write=_write,
        source="to the winners of each group; 1/n to each of n factors",
    )
]
