"""Convolutions, transposed convolutions, linear layers, products with constants: their rules, written."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lrp_fx.aten import arguments, name_of, packet_of
from lrp_fx.errors import InputError
from lrp_fx.relevance.linear import Denominators, LinearRelevance
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import (
    Facts,
    Operation,
    Received,
    Site,
    argument,
    operation_of,
)
from lrp_fx.relevance.weighted import ADJOINTS
from lrp_fx.rules import (
    Epsilon,
    LinearRule,
    Pass,
    Rule,
    ZBox,
)


class SameShapeRelevance(RelevanceNode):
    """The relevance itself, for a layer whose output has the shape of its input (Captum's identity)."""

    def propagate(self, relevance: Tensor, shape: torch.Size) -> Tensor:
        """The relevance.

        Raises:
            InputError: where the shapes differ, so that it is nobody's.
        """
        if relevance.shape != shape:
            raise InputError(
                f"Pass() hands relevance of shape {tuple(relevance.shape)} to an input of shape "
                f"{tuple(shape)}: it is for layers that keep the shape"
            )
        return relevance


def _default(node: fx.Node, facts: Facts) -> Rule:
    return Epsilon()


def _write(site: Site) -> Received:
    node, rule = site.node, site.rule
    bound = arguments(node)
    input, weight, bias = (bound.pop(name) for name in ("input", "weight", "bias"))
    if isinstance(rule, Pass):
        return {input: [site.call(SameShapeRelevance(), site.relevance, site.shape(input))]}
    assert isinstance(rule, LinearRule)
    packet = packet_of(node.target)
    assert packet is not None
    module = LinearRelevance(
        packet,
        rule,
        nonnegative=site.facts.is_nonnegative(input),
        nonnegative_output=site.output_is_nonnegative(),
        bias=site.bias,  # type: ignore[arg-type]
        engine=site.engine,
    )
    module.filtered = site.filtered and module.can_be_restricted(bound.get("groups", 1))
    options = dict(site.value(bound))
    if isinstance(rule, ZBox):
        options["low"], options["high"] = site.bound(input, rule.low, rule.high)
    output = site.output() if module.reads_output else None
    x, w, b = site.value((input, weight, bias))
    if site.engine == "direct" and not module.filtered:
        operands = (x, output, w, b)
        denominators = site.call(Denominators(module), *operands, suffix="denominators", **options)
        options["denominators"] = denominators
    return {input: [site.call(module, site.relevance, x, output, w, b, **options)]}


OPERATIONS = [
    Operation(
        name=name,
        kind="convolution" if name.startswith("conv") else "dense",
        operands=argument("input"),
        default=_default,
        default_label="Epsilon",
        alternatives=(LinearRule, Pass),
        write=_write,
        source="table of branches, lrp_fx.rules",
    )
    for name in ADJOINTS
]


def is_linear(node: fx.Node) -> bool:
    """Whether rules for linear operations apply to the node."""
    return node.op == "call_function" and name_of(node) in ADJOINTS


def has_weights(node: fx.Node) -> bool:
    """Whether the node is a linear operation, or a recurrent layer, which is made of them."""
    operation = operation_of(node)
    return is_linear(node) or (operation is not None and operation.kind == "recurrent")
