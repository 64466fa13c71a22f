"""On request, the ε rule through an operation that nobody has described."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from lrp_fx.aten import Packet, arguments, packet_of
from lrp_fx.relevance.engines import vjp
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import Facts, Operation, Received, Site, always
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
        self, relevance: Tensor, output: Tensor, names: list[str], bound: dict[str, Any]
    ) -> list[Tensor]:
        """The relevance of the arguments called ``names``."""

        def forward(*operands: Tensor) -> Any:
            return self.packet(**{**bound, **dict(zip(names, operands, strict=True))})

        operands = [bound[name] for name in names]
        _, pullback = vjp(forward, *operands)
        cotangents = pullback(self.rule.stabilizer.quotient(relevance, output))
        return [x * c for x, c in zip(operands, cotangents, strict=True)]


def _operands(node: fx.Node) -> list[Any]:
    return [value for value in arguments(node).values() if isinstance(value, fx.Node)]


def _receivers(node: fx.Node, rule: Any, facts: Facts) -> list[Any]:
    return [operand for operand in _operands(node) if facts.is_dynamic(operand)]


def _write(site: Site) -> Received:
    bound = arguments(site.node)
    packet = packet_of(site.node.target)
    assert packet is not None and isinstance(site.rule, Epsilon)
    names = [key for key, value in bound.items() if site.receives(value)]
    call = site.call(
        VjpRelevance(packet, site.rule),
        site.relevance,
        site.value(site.node),
        names,
        site.value(bound),
    )
    received: Received = {}
    for name, part in zip(names, site.parts_of(call, len(names)), strict=True):
        received.setdefault(bound[name], []).append(part)
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
