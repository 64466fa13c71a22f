"""What values mean: which depend on the inputs, which are gates, statistics or attention weights."""

from __future__ import annotations

from lrp_fx.meaning.dependence import REDUCTIONS, Dependence
from lrp_fx.meaning.facts import (
    AFFINE,
    Analysis,
    analyse,
    dynamic_values,
    has_attention,
    is_place,
    linear_ranks,
)
from lrp_fx.meaning.shares import behind_views, is_sum_of
from lrp_fx.meaning.signs import NONNEGATIVE, TRUTHS, is_nonnegative, is_rectifier
from lrp_fx.meaning.value_ranges import ANYTHING, Range, is_softsign, ranges

__all__ = [
    "AFFINE",
    "ANYTHING",
    "NONNEGATIVE",
    "REDUCTIONS",
    "TRUTHS",
    "Analysis",
    "Dependence",
    "Range",
    "analyse",
    "behind_views",
    "dynamic_values",
    "has_attention",
    "is_nonnegative",
    "is_place",
    "is_rectifier",
    "is_softsign",
    "is_sum_of",
    "linear_ranks",
    "ranges",
]
