"""Relevance of constant indices, such as a start token, shared out to those of the input.

The model itself may add a constant index to those of the input. The size of an index has no
meaning, so it cannot keep a share of the relevance in proportion to its size, as a constant summand
does. Its relevance goes in equal shares to the indices that come from the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import Packet, arguments, called, name_of
from lrp_fx.relevance.handling import Facts, Site
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Route, Rule, Uniform

_OPERANDS = {
    "cat": ("tensors",),
    "stack": ("tensors",),
    "slice_scatter": ("self", "src"),
    "select_scatter": ("self", "src"),
    "pad": ("self",),
}
"""Operations that join tensors along one dimension, and the arguments that they join."""

JOINS = frozenset(_OPERANDS)


class SpreadRelevance(RelevanceNode):
    """``R_i + Σ_c R_c / n``: the ``n`` indices ``i`` of the input share the relevance of constants ``c``.

    The sum runs along one dimension. If all indices along it are constants, they keep their
    relevance.

    Args:
        packet: the operation that joins the indices.
        listed: whether the operation takes its operands as a list.
        dim: the dimension along which they are joined.
        wanted: for each operand, whether it depends on the explained inputs.
    """

    result = "new"

    def __init__(self, packet: Packet, listed: bool, dim: int, wanted: Sequence[bool]) -> None:
        super().__init__()
        self.packet, self.listed, self.dim = packet, listed, dim
        self.wanted = tuple(wanted)

    def extra_repr(self) -> str:
        """The operation and the dimension."""
        return f"{self.packet.__name__}, dim={self.dim}"

    def propagate(self, relevance: Tensor, shapes: list[torch.Size], **options: Any) -> Tensor:
        """The relevance of the output with that of the constants shared out, of the same shape.

        Args:
            relevance: the relevance of the output, (N, …).
            shapes: the shapes of the operands.
            options: the other arguments of the operation.
        """
        pairs = zip(shapes, self.wanted, strict=True)
        marks = [relevance.new_full((), float(w)).expand(shape) for shape, w in pairs]
        is_name = self.packet(*([marks] if self.listed else marks), **options)
        count = is_name.sum(self.dim, keepdim=True)
        constants = (relevance * (1 - is_name)).sum(self.dim, keepdim=True)
        spread = is_name * (relevance + constants / count.clamp(min=1))
        return torch.where(count > 0, spread, relevance)


def default_rule(node: fx.Node, facts: Facts) -> Rule:
    """``Uniform`` if the node joins indices of the input with constant ones, else ``Route``."""
    return Uniform() if facts.is_categorical(node) and _joins_constants(node, facts) else Route()


def spread(site: Site) -> fx.Node:
    """The relevance of the output of a join; with ``Uniform`` that of constants is shared out."""
    dim = _dimension(site.node)
    bound = arguments(site.node)
    if site.rule != Uniform() or dim is None:
        return site.relevance
    names = _OPERANDS[name_of(site.node)]
    operands = _operands(site.node)
    options = site.value({name: value for name, value in bound.items() if name not in names})
    listed = names == ("tensors",)
    wanted = [site.facts.is_dynamic(operand) for operand in operands]
    module = SpreadRelevance(called(site.node), listed, dim, wanted)
    if name_of(site.node) == "pad":
        options = {**options, "value": 0.0}
    shapes = list(map(site.shape, operands))
    return site.call(module, site.relevance, shapes, suffix="spread", **options)


def _joins_constants(node: fx.Node, facts: Facts) -> bool:
    """Whether a join contains constants."""
    if name_of(node) == "pad":
        return _dimension(node) is not None
    return not all(map(facts.is_dynamic, _operands(node)))


def _operands(node: fx.Node) -> list[Any]:
    bound = arguments(node)
    found = [bound[name] for name in _OPERANDS[name_of(node)]]
    return list(found[0]) if isinstance(found[0], (list, tuple)) else found


def _dimension(node: fx.Node) -> int | None:
    """The dimension of a join; None for padding of several dimensions or in another mode."""
    bound = arguments(node)
    if name_of(node) != "pad":
        return int(bound["dim"])
    sides = bound["pad"]
    padded = [k for k in range(len(sides) // 2) if any(s != 0 for s in sides[2 * k : 2 * k + 2])]
    if bound["mode"] != "constant" or len(padded) != 1:
        return None
    return -1 - padded[0]
