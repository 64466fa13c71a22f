"""Relevance through operations that place entries of tensors at other positions.

To find out where the entries of the result come from, the operation is run on integer tensors that
number the entries of its operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.graph import (
    Packet,
    arguments,
    aten,
    called,
    name_of,
    tree_flatten,
    tree_unflatten,
    where,
)
from lrp_fx.relevance.activation import PassRelevance
from lrp_fx.relevance.causes import Taken, by_stabilizer, of_constants, together
from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, by_operand
from lrp_fx.relevance.node import RelevanceNode, SharingRelevance
from lrp_fx.rules import Pass, Proportional, Route, Rule, Stabilizer, Uniform

_OPERANDS: dict[str, tuple[str, ...]] = {
    "index_put": ("self", "values"),
    "scatter_add": ("self", "src"),
    "index_add": ("self", "source"),
    "scatter": ("self", "src", "value"),
    "masked_scatter": ("self", "source"),
    "masked_select": ("self",),
    "index_copy": ("self", "source"),
    "index_fill": ("self", "value"),
    "put": ("self", "source"),
    "diagonal_scatter": ("self", "src"),
    "tril": ("self",),
    "triu": ("self",),
    "diag": ("self",),
    "diag_embed": ("self",),
    "diagflat": ("self",),
    "rot90": ("self",),
    "fliplr": ("self",),
    "flipud": ("self",),
    "block_diag": ("tensors",),
    "broadcast_tensors": ("tensors",),
    "meshgrid": ("tensors",),
    "cartesian_prod": ("tensors",),
    "combinations": ("self",),
}
"""The operands whose entries are placed. The other arguments say where they are placed."""
_SUMS = {"index_put": "values", "scatter_add": "src", "index_add": "source"}
"""The operand that is added to entries of ``self``; ``index_put`` adds only if it accumulates."""
_ALWAYS = ("scatter_add", "index_add")
_CHOICES = {"minimum": torch.le, "fmin": torch.le, "maximum": torch.ge, "fmax": torch.ge}
"""Operations that choose one of two entries, with the test by which the first one is chosen."""


class PlacingRelevance(RelevanceNode):
    """``R_i = Σ_j R_j`` over the entries ``j`` of the results that came from the entry ``i``.

    This is the adjoint ``R_in = Jᵀ R``. The operation is run on the numbers of the entries, to find
    out which entry came from where.

    Args:
        packet: the operation.
        wanted: for each operand that is a tensor, whether its relevance is wanted.
    """

    result = "new"

    def __init__(self, packet: Packet, wanted: Sequence[bool]) -> None:
        super().__init__()
        self.packet, self.wanted = packet, tuple(wanted)

    def propagate(
        self,
        relevances: Sequence[Tensor],
        indices: Sequence[int | None],
        shapes: Sequence[torch.Size],
        operands: dict[str, Any],
        options: dict[str, Any],
    ) -> list[Tensor]:
        """The relevance of each operand whose relevance is wanted, of its shape.

        Args:
            relevances: the relevance of the results.
            indices: the index of each of these results; None if the operation has only one.
            shapes: the shapes of the operands that are tensors.
            operands: the operands by name, with None in place of tensors.
            options: the other arguments, by name.
        """
        total = self._total(relevances, indices, shapes, operands, options)
        kept = [shape for shape, wanted in zip(shapes, self.wanted, strict=True) if wanted]
        pieces = torch.split(total[1:], [shape.numel() for shape in kept])
        return [piece.reshape(shape) for piece, shape in zip(pieces, kept, strict=True)]

    def taken(self, *operands: Any) -> Taken:
        """The relevance of entries that came from no wanted operand."""
        return {"constant": self._total(*operands)[0]}

    def _total(
        self,
        relevances: Sequence[Tensor],
        indices: Sequence[int | None],
        shapes: Sequence[torch.Size],
        operands: dict[str, Any],
        options: dict[str, Any],
    ) -> Tensor:
        """The relevance of the wanted entries by number, counted from 1; at 0 that of all others."""
        device, count = relevances[0].device, 1
        numbers: list[Tensor] = []
        for shape, wanted in zip(shapes, self.wanted, strict=True):
            if wanted:
                end = count + shape.numel()
                numbers.append(torch.arange(count, end, device=device).reshape(shape))
                count = end
            else:
                numbers.append(torch.zeros(shape, dtype=torch.long, device=device))
        waiting = iter(numbers)
        leaves, spec = tree_flatten(operands)
        leaves = [next(waiting) if leaf is None else leaf for leaf in leaves]
        value = self.packet(**tree_unflatten(leaves, spec), **options)
        total = relevances[0].new_zeros(count)
        for relevance, index in zip(relevances, indices, strict=True):
            came_from = value if index is None else value[index]
            total = total.index_add(0, came_from.reshape(-1), relevance.reshape(-1))
        return total


class ChoiceRelevance(SharingRelevance):
    """``R_a = m ⊙ R`` and ``R_b = (1 − m) ⊙ R`` for the minimum or maximum of ``a`` and ``b``.

    ``m`` is one where ``a`` was chosen, which is also the case if both are equal.

    Args:
        name: the ATen name of the operation.
        wanted: for ``a`` and ``b``, whether its relevance is wanted.
    """

    result = "new"

    def __init__(self, name: str, wanted: Sequence[bool]) -> None:
        super().__init__(wanted)
        self.name = name

    def shares(self, relevance: Tensor, one: Tensor, other: Tensor) -> list[Tensor]:
        """The relevance of ``a`` and of ``b``, each of its shape."""
        is_first = _CHOICES[self.name](one, other)
        pairs = ((~is_first, one), (is_first, other))
        return [sum_to(relevance.masked_fill(mask, 0), each.shape) for mask, each in pairs]


class ReceivingRelevance(RelevanceNode):
    """``R_self = self ⊙ q`` and ``R_src = src ⊙ Pᵀ q`` with ``q = R / S(z)`` for ``z = self + P src``.

    ``P`` places the entries of ``src``. The rule is the ε rule (Bach et al. 2015) on all terms of
    the sum. Categorical values get equal shares instead (``Uniform``), since their size has no
    meaning: ones take the place of ``self`` and ``src`` in the formulas, or zeros for a constant.

    Args:
        packet: the operation.
        rule: the rule for sums.
        wanted: whether the relevance of ``self`` and of ``src`` is wanted.
    """

    result = "new"

    def __init__(
        self, packet: Packet, rule: Proportional | Uniform, wanted: tuple[bool, bool]
    ) -> None:
        super().__init__()
        self.packet, self.rule, self.wanted = packet, rule, wanted

    def propagate(
        self, relevance: Tensor, frame: Tensor, source: Tensor, options: dict[str, Any]
    ) -> list[Tensor]:
        """The relevance of ``self`` and ``src``, as far as it is wanted.

        Args:
            relevance: the relevance of the output.
            frame: ``self``, of the shape of the output.
            source: ``src``.
            options: the other arguments, by name.
        """
        frame, source, z = self._terms(relevance, frame, source, options)
        quotient = self._stabilizer.quotient(relevance, z)
        shares = (frame * quotient, source * self._taken_from(quotient, source.shape, options))
        return [share for share, wanted in zip(shares, self.wanted, strict=True) if wanted]

    def taken(
        self, relevance: Tensor, frame: Tensor, source: Tensor, options: dict[str, Any]
    ) -> Taken:
        """The shares of the stabilizer and of a constant operand."""
        frame, source, z = self._terms(relevance, frame, source, options)
        quotient = self._stabilizer.quotient(relevance, z)
        added = self._added(torch.zeros_like(frame), source, options)
        terms = zip((frame, added), self.wanted, strict=True)
        constant = of_constants(term * quotient for term, wanted in terms if not wanted)
        return together(by_stabilizer(self._stabilizer, relevance, z), constant)

    @property
    def _stabilizer(self) -> Stabilizer:
        return self.rule.stabilizer if isinstance(self.rule, Proportional) else Stabilizer(0.0)

    def _terms(
        self, relevance: Tensor, frame: Tensor, source: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        if isinstance(self.rule, Uniform):
            of_frame, of_source = (float(wanted) for wanted in self.wanted)
            frame = relevance.new_full(frame.shape, of_frame)
            source = relevance.new_full(source.shape, of_source)
        return frame, source, self._added(frame, source, options)

    def _added(self, frame: Tensor, source: Tensor, options: dict[str, Any]) -> Tensor:
        return self.packet(frame, **{_SUMS[str(self.packet.__name__)]: source}, **options)

    def _taken_from(self, quotient: Tensor, shape: torch.Size, options: dict[str, Any]) -> Tensor:
        """``Pᵀ q``, of the shape of ``src``."""
        name = str(self.packet.__name__)
        if name == "index_put":
            values: Tensor = aten.index(quotient, options["indices"])
            return sum_to(values, shape)
        dim, index = options["dim"], options["index"]
        if name == "scatter_add":  # src may be larger than the index
            return quotient.gather(dim, index)
        taken: Tensor = quotient.index_select(dim, index) * options["alpha"]
        return taken


def operands_of(node: fx.Node) -> list[Any]:
    """The operands whose entries are placed."""
    bound = arguments(node)
    return tree_flatten([bound[key] for key in _OPERANDS[name_of(node)] if key in bound])[0]


def _adds(node: fx.Node) -> bool:
    return name_of(node) in _SUMS and bool(arguments(node).get("accumulate", True))


def _default(node: fx.Node, facts: Facts) -> Rule:
    if not _adds(node):
        return Route()
    return Uniform() if facts.is_categorical(node) else Proportional()


def write_placing(site: Site) -> Received:
    """Write the relevance node of an operation that places entries or adds them to others."""
    if _adds(site.node):
        return _write_sum(site)
    node, bound = site.node, arguments(site.node)
    if bound.get("reduce"):
        raise UnsupportedOperationError(
            f"there is no rule for 'scatter' {where(node)} with reduce={bound['reduce']!r}: use "
            "scatter_add"
        )
    placed = {key: bound.pop(key) for key in _OPERANDS[name_of(node)] if key in bound}
    leaves, spec = tree_flatten(placed)
    moved = [leaf for leaf in leaves if isinstance(leaf, fx.Node)]
    # None stands for a tensor, 0 for a number, which is an entry of no tensor
    marked = tree_unflatten([None if isinstance(leaf, fx.Node) else 0 for leaf in leaves], spec)
    module = PlacingRelevance(called(node), [site.receives(each) for each in moved])
    parts: dict[Any, fx.Node] = dict(site.parts) or {None: site.relevance}
    shapes = [site.shape(each) for each in moved]
    inputs = (list(parts.values()), list(parts), shapes, marked, site.value(bound))
    return by_operand(site, site.call(module, *inputs), moved)


def _write_sum(site: Site) -> Received:
    bound = arguments(site.node)
    assert isinstance(site.rule, (Proportional, Uniform))
    operands = (bound.pop("self"), bound.pop(_SUMS[name_of(site.node)]))
    wanted = (site.receives(operands[0]), site.receives(operands[1]))
    module = ReceivingRelevance(called(site.node), site.rule, wanted)
    call = site.call(module, site.relevance, *site.value(operands), site.value(bound))
    return by_operand(site, call, operands)


def _both(node: fx.Node) -> list[Any]:
    return list(arguments(node).values())[:2]


def _choice(node: fx.Node, facts: Facts) -> Rule:
    return Route() if all(map(facts.is_dynamic, _both(node))) else Pass()


def _write_choice(site: Site) -> Received:
    """Write the node of a minimum or maximum; with a constant it is a clamp, which passes all."""
    operands = _both(site.node)
    wanted = [operand for operand in operands if site.receives(operand)]
    if not all(map(site.facts.is_dynamic, operands)):
        (operand,) = wanted
        return {operand: [site.call(PassRelevance(), site.relevance, site.shape(operand))]}
    module = ChoiceRelevance(name_of(site.node), [site.receives(each) for each in operands])
    return by_operand(site, site.call(module, site.relevance, *site.value(operands)), operands)


PLACING = [
    *(
        Operation(
            name=name,
            kind="sum" if name in _ALWAYS else "routing",
            kind_at=lambda node: "sum" if _adds(node) else "routing",
            operands=operands_of,
            default=_default,
            default_label="Proportional where entries are added; else Route",
            alternatives=(Proportional, Uniform) if name in _SUMS else (),
            write=write_placing,
            source="each entry's relevance to where it came from",
        )
        for name in _OPERANDS
    ),
    *(
        Operation(
            name=name,
            kind="choice",
            operands=_both,
            default=_choice,
            default_label="Pass beside a constant; else Route",
            write=_write_choice,
            source="to the entry that was chosen",
        )
        for name in _CHOICES
    ),
]

_LOOKING_UP = ("scatter", "scatter_add", "index_put")
"""Operations that may be look-ups; ``embedding.py`` describes them."""

OPERATIONS = [each for each in PLACING if each.name not in _LOOKING_UP]
