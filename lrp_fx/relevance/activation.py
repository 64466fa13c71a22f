"""Relevance through element-wise monotone activations: it passes unchanged."""

from __future__ import annotations

from torch import Tensor

from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import Operation, Received, Site, always, first
from lrp_fx.rules import Pass

NAMES = [
    "relu",
    "relu6",
    "hardtanh",
    "clamp",
    "clamp_min",
    "clamp_max",
    "gelu",
    "silu",
    "hardswish",
    "tanh",
    "sigmoid",
    "hardsigmoid",
    "elu",
    "selu",
    "celu",
    "softplus",
    "softsign",
    "leaky_relu",
    "prelu",
    "_prelu_kernel",
    "mish",
    "log_sigmoid",
    "threshold",
    "rrelu",
    "hardshrink",
    "softshrink",
    "tanhshrink",
]


class PassRelevance(RelevanceNode):
    """``R_in = R``."""

    def propagate(self, relevance: Tensor) -> Tensor:
        """The relevance itself."""
        return relevance


def write_pass(site: Site) -> Received:
    """Pass the relevance to the first operand."""
    operand = next(o for o in first(site.node))
    return {operand: [site.call(PassRelevance(), site.relevance)]}


OPERATIONS = [
    Operation(
        name=name,
        kind="activation",
        operands=first,
        default=always(Pass()),
        alternatives=(Pass,),
        write=write_pass,
        source="Bach et al. 2015: element-wise activations pass relevance on",
    )
    for name in NAMES
]
