"""Optimizations: a faster or smaller relevance pass with the same result up to rounding.

Each optimization is a pass over the graph, in a file of its own, and can be switched off.
"""

from __future__ import annotations

from lrp_fx.optimize.draft import Draft as Draft
from lrp_fx.optimize.passes import (
    NOTHING as NOTHING,
    Optimizations as Optimizations,
    optimize as optimize,
)
from lrp_fx.optimize.standing_in import Rectified as Rectified, find_rectified as find_rectified
