"""lrp_fx: layer-wise relevance propagation for any PyTorch model, as a graph program."""

from __future__ import annotations

from lrp_fx import composites, errors, evaluate, operations, rules, visualize
from lrp_fx._common import __version__
from lrp_fx.attribution import (
    LayerLRPFx,
    LRPFx,
    NeuronLRPFx,
    against,
    against_all,
    against_rest,
    bilrp,
)
from lrp_fx.composites import Composite
from lrp_fx.concepts import ConceptLRPFx, References
from lrp_fx.evaluate import search
from lrp_fx.explanation import Explanation, explain, load_explanation
from lrp_fx.optimize import Optimizations
from lrp_fx.relevance import relevance_filter
from lrp_fx.rules import Stabilizer

__all__ = [
    "Composite",
    "ConceptLRPFx",
    "Explanation",
    "LRPFx",
    "LayerLRPFx",
    "NeuronLRPFx",
    "Optimizations",
    "References",
    "Stabilizer",
    "__version__",
    "against",
    "against_all",
    "against_rest",
    "bilrp",
    "composites",
    "errors",
    "evaluate",
    "explain",
    "load_explanation",
    "operations",
    "relevance_filter",
    "rules",
    "search",
    "visualize",
]
