"""The LRP rules, immutable descriptions, and the stabilizer of their denominators.

All rules for linear operations are instances of one formula. Let ``R`` be the relevance of the
output and ``S`` the stabilizer, and let ``z_k = W_k x_k + b_k``. Then the relevance of the input is

    R_in = sum_g c_g · sum_k s_k · x_k ⊙ W_kᵀ [ m_g ⊙ R / S( sum_k s_k z_k ) ]

``g`` runs over the groups of the rule, each with a coefficient ``c_g`` and an output mask ``m_g``.
``k`` runs over the branches of a group, each with a sign ``s_k`` and with a part of the input
(``x_k``), of the weight (``W_k``) and of the bias (``b_k``). ``R`` has the shape of the operation's
output, with the batch in front, and ``R_in`` that of its input.

A rule only returns the table of its groups and branches. ``lrp_fx.relevance.linear`` applies any
table to any linear operation, so a new rule takes a few lines:

    @dataclass(frozen=True)
    class MyRule(LinearRule):
        def table(self) -> Table:
            return (Group((Branch(FULL, PLUS, ZERO),)),)

``linear.py`` has the rules for linear operations, ``without_weights.py`` those for additions, products,
pooling and other operations without weights. Each file lists in its ``__all__`` what users get.
"""

from __future__ import annotations

from lrp_fx.rules import base, linear, tables, without_weights
from lrp_fx.rules.base import *
from lrp_fx.rules.linear import *
from lrp_fx.rules.stabilizer import Stabilizer as Stabilizer, may_write as may_write
from lrp_fx.rules.tables import *
from lrp_fx.rules.tables import part_of as part_of
from lrp_fx.rules.without_weights import *

__all__: list[str] = []
__all__ += base.__all__
__all__ += linear.__all__
__all__ += tables.__all__
__all__ += without_weights.__all__
