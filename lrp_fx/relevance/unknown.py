"""On request, the ε rule through an operation that nobody has described."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from lrp_fx.aten import Packet, arguments, packet_of
from lrp_fx.relevance.engines import vjp
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import Facts, Operation, Received, Site, always
from lrp_fx.relevance.taken import Taken, by_stabilizer, together
from lrp_fx.rules import Epsilon


class VjpRelevance(RelevanceNode):
    """``R_i = x_i ⊙ J_iᵀ[R / S(y)]`` by the operation's vector-Jacobian product."""

    def __init__(self, packet: Packet, rule: Epsilon) -> None:
        super().__init__()
        self.packet, self.rule = packet, rule

    def extra_repr(self) -> str:
        """The operation and the rule."""
        return f"{self.packet.__name__}, {self.rule}"

    def propagate(
        self, relevance: Tensor, output: Tensor, places: list[int], bound: dict[str, Any]
    ) -> list[Tensor]:
        """The relevance of the arguments at ``places`` among all, those in lists counted singly."""
        leaves, spec = tree_flatten(bound)

        def forward(*operands: Tensor) -> Any:
            filled = list(leaves)
            for place, operand in zip(places, operands, strict=True):
                filled[place] = operand
            return self.packet(**tree_unflatten(filled, spec))

        operands = [leaves[place] for place in places]
        _, pullback = vjp(forward, *operands)
        cotangents = pullback(self.rule.stabilizer.quotient(relevance, output))
        return [x * c for x, c in zip(operands, cotangents, strict=True)]

    def taken(
        self, relevance: Tensor, output: Tensor, places: list[int], bound: dict[str, Any]
    ) -> Taken:
        """The stabilizer's share, and what ``x ⊙ Jᵀ q`` is short of ``q · y``."""
        shares = self.propagate(relevance, output, places, bound)
        quotient = self.rule.stabilizer.quotient(relevance, output)
        remainder = (quotient * output).sum() - sum(share.sum() for share in shares)
        taken = by_stabilizer(self.rule.stabilizer, relevance, output)
        return together(taken, {"linearization": remainder})


def _operands(node: fx.Node) -> list[Any]:
    return [leaf for leaf in tree_flatten(arguments(node))[0] if isinstance(leaf, fx.Node)]


def _receivers(node: fx.Node, rule: Any, facts: Facts) -> list[Any]:
    return [operand for operand in _operands(node) if facts.is_dynamic(operand)]


def _write(site: Site) -> Received:
    bound = arguments(site.node)
    packet = packet_of(site.node.target)
    assert packet is not None and isinstance(site.rule, Epsilon)
    leaves = tree_flatten(bound)[0]
    places = [place for place, leaf in enumerate(leaves) if site.receives(leaf)]
    call = site.call(
        VjpRelevance(packet, site.rule),
        site.relevance,
        site.value(site.node),
        places,
        site.value(bound),
    )
    received: Received = {}
    for place, part in zip(places, site.parts_of(call, len(places)), strict=True):
        received.setdefault(leaves[place], []).append(part)
    return received


UNKNOWN = Operation(
    name="*",
    kind="unknown",
    operands=_operands,
    default=always(Epsilon()),
    alternatives=(Epsilon,),
    receivers=_receivers,
    write=_write,
    source="unknown='vjp': the ε rule through the vector-Jacobian product",
)
