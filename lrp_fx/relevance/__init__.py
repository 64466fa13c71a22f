"""How relevance goes back through each kind of operation, one file per kind."""

from __future__ import annotations

from lrp_fx.relevance import (
    activation,
    addition,
    embedding,
    experts,
    integers,
    matmul,
    normalization,
    placing,
    pooling,
    product,
    recurrent,
    reducing,
    routing,
    sampling,
    shares,
    softmax,
)
from lrp_fx.relevance.activation import ACTIVATIONS, FUNCTIONS, described_as_passing
from lrp_fx.relevance.addition import AdditionRelevance
from lrp_fx.relevance.adjoints import ROUTING
from lrp_fx.relevance.causes import CAUSES, Cause, Taken
from lrp_fx.relevance.edges.auxiliary import BoundRelevance, KeepRelevance
from lrp_fx.relevance.edges.hooks import HookRelevance
from lrp_fx.relevance.edges.masks import BypassRelevance, MaskRelevance, check_dim
from lrp_fx.relevance.edges.open_top_k import OpenTopKFilter
from lrp_fx.relevance.edges.top_k import (
    FILTER_BY,
    FilterBy,
    Kept,
    KeptPlaces,
    TopK,
    TopKFilter,
    nonzero_places,
    relevance_filter,
)
from lrp_fx.relevance.embedding import indices_of, looked_up
from lrp_fx.relevance.engines import ENGINES, Engine
from lrp_fx.relevance.handling import (
    BIAS_POLICIES,
    BiasPolicy,
    Counts,
    Facts,
    Operation,
    Received,
    Site,
    always,
    argument,
    by_operand,
    first,
    operation_of,
    register,
    registry,
)
from lrp_fx.relevance.linear import write as linear_operations
from lrp_fx.relevance.linear.adjoints import ADJOINTS
from lrp_fx.relevance.linear.branches import Operands
from lrp_fx.relevance.linear.formula import Formula
from lrp_fx.relevance.linear.steps import Denominators, Quotient, Share, Step
from lrp_fx.relevance.linear.write import has_weights, is_linear
from lrp_fx.relevance.matmul import BilinearRelevance
from lrp_fx.relevance.node import EdgeRelevance, RelevanceNode
from lrp_fx.relevance.portable_adjoints import PORTABLE
from lrp_fx.relevance.softmax import SoftmaxRelevance
from lrp_fx.relevance.spreading import JOINS
from lrp_fx.relevance.start import (
    SelectorTarget,
    Start,
    StartRelevance,
    TensorStart,
    contrast_with_rest,
    vanishes_with_output,
)
from lrp_fx.relevance.target import (
    JointTarget,
    LargestTarget,
    Places,
    Target,
    indexed_sizes,
    places_on,
    target_places,
)
from lrp_fx.relevance.unknown import UNKNOWN, VjpRelevance

for _kind in (
    *(linear_operations, activation, pooling, addition, product, routing, placing, embedding),
    *(integers, normalization, softmax, shares, matmul, recurrent, experts, reducing, sampling),
):
    register(_kind.OPERATIONS)


__all__ = [
    "ACTIVATIONS",
    "ADJOINTS",
    "BIAS_POLICIES",
    "CAUSES",
    "ENGINES",
    "FILTER_BY",
    "FUNCTIONS",
    "JOINS",
    "PORTABLE",
    "ROUTING",
    "UNKNOWN",
    "AdditionRelevance",
    "BiasPolicy",
    "BilinearRelevance",
    "BoundRelevance",
    "BypassRelevance",
    "Cause",
    "Counts",
    "Denominators",
    "EdgeRelevance",
    "Engine",
    "Facts",
    "FilterBy",
    "Formula",
    "HookRelevance",
    "JointTarget",
    "KeepRelevance",
    "Kept",
    "KeptPlaces",
    "LargestTarget",
    "MaskRelevance",
    "OpenTopKFilter",
    "Operands",
    "Operation",
    "Places",
    "Quotient",
    "Received",
    "RelevanceNode",
    "SelectorTarget",
    "Share",
    "Site",
    "SoftmaxRelevance",
    "Start",
    "StartRelevance",
    "Step",
    "Taken",
    "Target",
    "TensorStart",
    "TopK",
    "TopKFilter",
    "VjpRelevance",
    "always",
    "argument",
    "by_operand",
    "check_dim",
    "contrast_with_rest",
    "described_as_passing",
    "first",
    "has_weights",
    "indexed_sizes",
    "indices_of",
    "is_linear",
    "looked_up",
    "nonzero_places",
    "operation_of",
    "places_on",
    "register",
    "registry",
    "relevance_filter",
    "target_places",
    "vanishes_with_output",
]
