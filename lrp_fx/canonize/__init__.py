"""Canonize: a captured graph becomes a simpler one that computes the same.

One vocabulary and one spelling for all captures, batch norm folded, dropout and other identities
removed, nodes named after their modules. The passes work on a copy; the user's model is never changed.
"""

from __future__ import annotations

from lrp_fx.canonize.forward import may_vanish
from lrp_fx.canonize.pipeline import canonize
from lrp_fx.canonize.products import has_given_factors

__all__ = [
    "canonize",
    "has_given_factors",
    "may_vanish",
]
