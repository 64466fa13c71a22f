"""Adapters: the library behind the interfaces of Captum, braindecode, Quantus, timm and others.

No package but torch and Captum is needed to import them.
"""

from __future__ import annotations

from lrp_fx.adapters.braindecode import lrp
from lrp_fx.adapters.captum_lrp import LRP, LayerLRP, captum_composite
from lrp_fx.adapters.tables import relevance_transformer
from lrp_fx.adapters.text import explain_text
from lrp_fx.adapters.timm_models import timm_keywords
from lrp_fx.evaluate import explain_func

__all__ = [
    "LRP",
    "LayerLRP",
    "captum_composite",
    "explain_func",
    "explain_text",
    "lrp",
    "relevance_transformer",
    "timm_keywords",
]
