"""Descriptions of the linear operations: convolutions, linear layers, products with constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import Packet, arguments, called, name_of, product
from lrp_fx.relevance.activation import SameShapeRelevance
from lrp_fx.relevance.causes import Taken
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, argument, operation_of
from lrp_fx.relevance.linear.adjoints import ADJOINTS
from lrp_fx.relevance.linear.mirrored import cheapest_formula
from lrp_fx.relevance.linear.steps import Denominators, Quotient, Share
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Epsilon, LinearRule, Pass, Rule, Uniform, ZBox


class CategoricalSumRelevance(RelevanceNode):
    """``R_in = Mᵀ[R / M1]`` with ``M = (W ≠ 0)``: equal shares for the indices in a weighted sum.

    A hash such as ``31 a + 7 b`` computes one index from two. The size of an index has no meaning,
    so the shares do not depend on it.

    Args:
        packet: the operation.
        engine: the engine that computes the adjoint.
    """

    result = "new"

    def __init__(self, packet: Packet, engine: Engine) -> None:
        super().__init__()
        name = str(packet.__name__)
        self.kernel: Callable[..., Tensor] = product if name == "product" else packet
        self.adjoint = ADJOINTS[name]
        self.engine: Engine = engine

    def propagate(
        self, relevance: Tensor, shape: torch.Size, weight: Tensor, **options: Any
    ) -> Tensor:
        """The relevance of the indices, of ``shape``.

        Args:
            relevance: the relevance of the output.
            shape: the shape of the operand.
            weight: the weight of the operation.
            options: the other arguments: stride, padding … or the form of a product.
        """
        counts, pullback = self._counts(relevance, shape, weight, options)
        return pullback(relevance / counts.clamp(min=1))

    def taken(self, relevance: Tensor, shape: torch.Size, weight: Tensor, **options: Any) -> Taken:
        """The relevance of sums in which all weights are zero."""
        counts, _ = self._counts(relevance, shape, weight, options)
        return {"constant": relevance.masked_fill(counts != 0, 0).sum()}

    def _counts(
        self, relevance: Tensor, shape: torch.Size, weight: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """``M1``, the number of indices in each sum, and the map ``q ↦ Mᵀ q``."""
        ones, mask = relevance.new_ones(shape), (weight != 0).to(relevance.dtype)
        return linearize(
            self.engine,
            lambda value: self.kernel(value, mask, None, **options),
            lambda q: self.adjoint(q, ones, mask, **options),
            ones,
        )


def _default(node: fx.Node, facts: Facts) -> Rule:
    return Uniform() if facts.is_categorical(node) else Epsilon()


def _write(site: Site) -> Received:
    node, rule = site.node, site.rule
    bound = arguments(node)
    input, weight, bias = (bound.pop(name) for name in ("input", "weight", "bias"))
    if isinstance(rule, Pass):
        return {input: [site.call(SameShapeRelevance(), site.relevance, site.shape(input))]}
    packet = called(node)
    if isinstance(rule, Uniform):
        names = CategoricalSumRelevance(packet, site.engine)
        inputs = (site.shape(input), site.value(weight))
        return {input: [site.call(names, site.relevance, *inputs, **site.value(bound))]}
    assert isinstance(rule, LinearRule)
    nonnegative, positive = site.facts.is_nonnegative(input), site.is_only_where_positive()
    one_sided = nonnegative and positive
    formula = cheapest_formula(rule, site.bias, site.engine, one_sided=one_sided).of(
        packet,
        rule,
        nonnegative=nonnegative,
        nonnegative_output=site.output_is_nonnegative(),
        positive=positive,
        bias=site.bias,
        engine=site.engine,
    )
    weights = [site.modified(weight, part) for part in formula.parts]
    operands = {"input": site.value(input), "weights": weights, "bias": site.value(bias)}
    operands |= site.value(bound)
    if isinstance(rule, ZBox):
        operands["low"], operands["high"] = site.bound(input, rule.low, rule.high)
    output = {"output": site.output()} if formula.divides_by_output else {}
    read = {**(operands if formula.computes_denominators else {}), **output}
    masked = [site.output()] if formula.reads_mask else []
    z = site.call(Denominators(formula), suffix="denominators", **read)
    q = site.call(Quotient(formula), site.relevance, z, *masked, suffix="quotient")
    return {input: [site.call(Share(formula), q, **operands)]}


OPERATIONS = [
    Operation(
        name=name,
        kind="convolution" if name.startswith("conv") else "dense",
        operands=argument("input"),
        default=_default,
        default_label="Epsilon; Uniform for categories",
        alternatives=(LinearRule, Pass),
        write=_write,
        source="table of branches, lrp_fx.rules",
    )
    for name in ADJOINTS
]


def is_linear(node: fx.Node) -> bool:
    """Whether the node is a linear operation, to which :class:`LinearRule` applies."""
    return node.op == "call_function" and name_of(node) in ADJOINTS


def has_weights(node: fx.Node) -> bool:
    """Whether the node is a linear operation or a recurrent layer, which contains linear maps."""
    operation = operation_of(node)
    return is_linear(node) or (operation is not None and operation.kind == "recurrent")
