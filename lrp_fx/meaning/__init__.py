"""What values mean: which depend on the inputs, which are gates, statistics or attention weights."""

from __future__ import annotations

from lrp_fx.meaning.dependence import REDUCTIONS as REDUCTIONS, Dependence as Dependence
from lrp_fx.meaning.facts import (
    AFFINE as AFFINE,
    Analysis as Analysis,
    analyse as analyse,
    dynamic_values as dynamic_values,
    has_attention as has_attention,
    is_place as is_place,
    linear_ranks as linear_ranks,
)
from lrp_fx.meaning.shares import behind_views as behind_views, is_sum_of as is_sum_of
from lrp_fx.meaning.signs import (
    CHOICES as CHOICES,
    NONNEGATIVE as NONNEGATIVE,
    TRUTHS as TRUTHS,
    are_all as are_all,
    holds_truths as holds_truths,
    is_nonnegative as is_nonnegative,
    is_rectifier as is_rectifier,
)
from lrp_fx.meaning.value_ranges import (
    ANYTHING as ANYTHING,
    Range as Range,
    is_softsign as is_softsign,
    ranges as ranges,
)
