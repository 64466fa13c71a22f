"""Relevance through element-wise functions of one operand: it passes unchanged."""

from __future__ import annotations

import torch
from torch import Tensor

from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.handling import Operation, Received, Site, always, first
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Pass

ACTIVATIONS = (
    *("relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "threshold", "leaky_relu"),
    *(
        "prelu",
        "_prelu_kernel",
        "rrelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
    ),
    *("tanh", "sigmoid", "hardsigmoid", "log_sigmoid", "softplus"),
    *("hardshrink", "softshrink"),
)

FUNCTIONS = (
    *("neg", "abs", "square", "pow", "sqrt", "rsqrt", "reciprocal"),
    *("exp", "exp2", "expm1", "log", "log2", "log1p", "sin", "cos", "erf"),
)


class PassRelevance(RelevanceNode):
    """``R_in = R``; where the operation broadcast its operand, summed down to the operand's shape."""

    result = "moved"

    def propagate(self, relevance: Tensor, shape: torch.Size | None = None) -> Tensor:
        """The relevance itself."""
        return relevance if shape is None else sum_to(relevance, shape)


def write_pass(site: Site) -> Received:
    """Pass the relevance to the first operand."""
    (operand,) = first(site.node)
    return {operand: [site.call(PassRelevance(), site.relevance)]}


OPERATIONS = [
    Operation(
        name=name,
        kind="activation" if name in ACTIVATIONS else "function",
        operands=first,
        default=always(Pass()),
        alternatives=(Pass,),
        write=write_pass,
        source="the only conserving choice for a function of one value (Bach et al. 2015)",
    )
    for name in (*ACTIVATIONS, *FUNCTIONS)
    if name != "pow"  # of two values, described in ``integers.py``
]
