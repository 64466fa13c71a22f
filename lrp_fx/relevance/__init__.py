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
from lrp_fx.relevance.activation import (
    described_as_passing as described_as_passing,
)
from lrp_fx.relevance.addition import AdditionRelevance as AdditionRelevance
from lrp_fx.relevance.adjoints import ROUTING as ROUTING
from lrp_fx.relevance.causes import CAUSES as CAUSES, Cause as Cause
from lrp_fx.relevance.edges.auxiliary import (
    BoundRelevance as BoundRelevance,
    KeepRelevance as KeepRelevance,
)
from lrp_fx.relevance.edges.hooks import HookRelevance as HookRelevance
from lrp_fx.relevance.edges.masks import (
    BypassRelevance as BypassRelevance,
    MaskRelevance as MaskRelevance,
    check_dim as check_dim,
)
from lrp_fx.relevance.edges.open_top_k import OpenTopKFilter as OpenTopKFilter
from lrp_fx.relevance.edges.top_k import (
    FILTER_BY as FILTER_BY,
    FilterBy as FilterBy,
    Kept as Kept,
    KeptPlaces as KeptPlaces,
    TopK as TopK,
    TopKFilter as TopKFilter,
    nonzero_places as nonzero_places,
    relevance_filter as relevance_filter,
)
from lrp_fx.relevance.embedding import indices_of as indices_of, looked_up as looked_up
from lrp_fx.relevance.engines import ENGINES as ENGINES, Engine as Engine
from lrp_fx.relevance.handling import (
    BIAS_POLICIES as BIAS_POLICIES,
    BiasPolicy as BiasPolicy,
    Counts as Counts,
    Facts as Facts,
    Operation as Operation,
    Received as Received,
    Site as Site,
    always as always,
    argument as argument,
    by_operand as by_operand,
    first as first,
    operation_of as operation_of,
    register as register,
    registry as registry,
)
from lrp_fx.relevance.linear import write as linear_operations
from lrp_fx.relevance.linear.adjoints import ADJOINTS as ADJOINTS
from lrp_fx.relevance.linear.branches import Operands as Operands
from lrp_fx.relevance.linear.formula import Formula as Formula
from lrp_fx.relevance.linear.steps import Share as Share, Step as Step
from lrp_fx.relevance.linear.write import has_weights as has_weights, is_linear as is_linear
from lrp_fx.relevance.matmul import BilinearRelevance as BilinearRelevance
from lrp_fx.relevance.node import EdgeRelevance as EdgeRelevance, RelevanceNode as RelevanceNode
from lrp_fx.relevance.portable_adjoints import PORTABLE as PORTABLE
from lrp_fx.relevance.softmax import SoftmaxRelevance as SoftmaxRelevance
from lrp_fx.relevance.spreading import JOINS as JOINS
from lrp_fx.relevance.start import (
    SelectorTarget as SelectorTarget,
    Start as Start,
    StartRelevance as StartRelevance,
    TensorStart as TensorStart,
    contrast_with_rest as contrast_with_rest,
    vanishes_with_output as vanishes_with_output,
)
from lrp_fx.relevance.target import (
    JointTarget as JointTarget,
    LargestTarget as LargestTarget,
    Places as Places,
    Target as Target,
    indexed_sizes as indexed_sizes,
    places_on as places_on,
    target_places as target_places,
)
from lrp_fx.relevance.unknown import UNKNOWN as UNKNOWN, VjpRelevance as VjpRelevance

for _kind in (
    *(linear_operations, activation, pooling, addition, product, routing, placing, embedding),
    *(integers, normalization, softmax, shares, matmul, recurrent, experts, reducing, sampling),
):
    register(_kind.OPERATIONS)
