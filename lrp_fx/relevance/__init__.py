"""How relevance goes back through each kind of operation; every file one kind."""

from __future__ import annotations

from lrp_fx.relevance import (
    activation,
    addition,
    bilinear,
    embedding,
    experts,
    integers,
    layers,
    normalization,
    placing,
    pooling,
    product,
    recurrent,
    routing,
    softmax,
)
from lrp_fx.relevance.engines import ENGINES, Engine
from lrp_fx.relevance.layers import has_weights, is_linear
from lrp_fx.relevance.linear import Denominators, Formula, Quotient, Share
from lrp_fx.relevance.node import EdgeRelevance, RelevanceNode
from lrp_fx.relevance.operation import (
    BIAS_POLICIES,
    BiasPolicy,
    Facts,
    Operation,
    Received,
    Site,
    operation_of,
    register,
    registry,
)
from lrp_fx.relevance.taken import CAUSES, Cause, Taken
from lrp_fx.relevance.unknown import UNKNOWN

for _kind in (
    *(layers, activation, pooling, addition, product, routing, placing, embedding, integers),
    *(normalization, softmax, bilinear, recurrent, experts),
):
    register(_kind.OPERATIONS)

__all__ = [
    "BIAS_POLICIES",
    "CAUSES",
    "ENGINES",
    "UNKNOWN",
    "BiasPolicy",
    "Cause",
    "Denominators",
    "EdgeRelevance",
    "Engine",
    "Facts",
    "Formula",
    "Operation",
    "Quotient",
    "Received",
    "RelevanceNode",
    "Share",
    "Site",
    "Taken",
    "has_weights",
    "is_linear",
    "operation_of",
    "registry",
]
