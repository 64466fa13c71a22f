"""Canonize: rewrite a captured graph as a simpler one that computes the same.

All captures end in the same operations, and each computation in one form. Batch norm is folded,
dropout and other identities are removed, and nodes are named after their modules. The passes work
on a copy; the user's model is never changed.
"""

from __future__ import annotations

from lrp_fx.canonize.forward import may_vanish as may_vanish
from lrp_fx.canonize.pipeline import canonize as canonize
from lrp_fx.canonize.products import has_given_factors as has_given_factors
