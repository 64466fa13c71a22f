"""Relevance through batch norms that could not be folded, and through negation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from lrp_fx.aten import arguments
from lrp_fx.relevance.activation import PassRelevance, write_pass
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import Facts, Operation, Received, Site, always, argument, first
from lrp_fx.rules import Epsilon, Pass, Rule


class AffineRelevance(RelevanceNode):
    """The ε rule on ``y = s x + t`` per channel: ``R_in = s x ⊙ R / S(y)``; the shift absorbs."""

    def __init__(self, rule: Epsilon) -> None:
        super().__init__()
        self.rule = rule

    def extra_repr(self) -> str:
        """The rule."""
        return str(self.rule)

    def propagate(
        self,
        relevance: Tensor,
        input: Tensor,
        output: Tensor,
        weight: Tensor | None,
        running_var: Tensor,
        eps: float,
    ) -> Tensor:
        """The relevance of the input, (N, C, …)."""
        scale = (running_var + eps).rsqrt()
        if weight is not None:
            scale = scale * weight
        scale = scale.reshape(-1, *[1] * (input.dim() - 2))
        return input * scale * self.rule.stabilizer.quotient(relevance, output)


def _default(node: fx.Node, facts: Facts) -> Rule:
    return Pass() if facts.is_preprocessing(node) else Epsilon()


def _write(site: Site) -> Received:
    bound: dict[str, Any] = arguments(site.node)
    operand = bound["input"]
    if isinstance(site.rule, Pass):
        return {operand: [site.call(PassRelevance(), site.relevance)]}
    assert isinstance(site.rule, Epsilon)
    values = site.value((operand, site.node, bound["weight"], bound["running_var"]))
    call = site.call(AffineRelevance(site.rule), site.relevance, *values, bound["eps"])
    return {operand: [call]}


OPERATIONS = [
    Operation(
        name="batch_norm",
        kind="normalization",
        operands=argument("input"),
        default=_default,
        default_label="Epsilon on the affine map; Pass on a model input",
        alternatives=(Epsilon, Pass),
        write=_write,
        source="ε rule on y = s x + t",
    ),
    Operation(
        name="neg",
        kind="activation",
        operands=first,
        default=always(Pass()),
        alternatives=(Pass,),
        write=write_pass,
        source="a product with the constant −1",
    ),
]
