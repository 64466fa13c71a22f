"""What makes a relevance pass faster or smaller, and its result equal up to rounding.

Each optimization is a pass over a graph, in a file of its own, and can be switched off.
"""

from __future__ import annotations

from lrp_fx.optimize.compiling import NO_COMPILER, check_compiler, compiled
from lrp_fx.optimize.differences import take_differences
from lrp_fx.optimize.kernels import take_kernels
from lrp_fx.optimize.layout import lay_out_weights, preferred_layout
from lrp_fx.optimize.optimizations import NOTHING, Optimizations
from lrp_fx.optimize.overwriting import activate_in_place, overwrite_relevance
from lrp_fx.optimize.recomputing import recompute
from lrp_fx.optimize.standins import stand_ins

__all__ = [
    "NOTHING",
    "NO_COMPILER",
    "Optimizations",
    "activate_in_place",
    "check_compiler",
    "compiled",
    "lay_out_weights",
    "overwrite_relevance",
    "preferred_layout",
    "recompute",
    "stand_ins",
    "take_differences",
    "take_kernels",
]
