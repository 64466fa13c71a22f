"""Composites: presets, composites of the user, and composites that reproduce other tools."""

from __future__ import annotations

from lrp_fx.composites import compat
from lrp_fx.composites.composite import Composite
from lrp_fx.composites.matchers import (
    Matcher,
    Place,
    anything,
    convolution,
    dense,
    first,
    last,
    module_type,
    operation,
    patch_embedding,
    path,
)
from lrp_fx.composites.presets import (
    CPLRP,
    PRESETS,
    AttnLRP,
    Epsilon,
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGamma,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    Uniform,
    Zero,
    ZPlus,
    by_name,
    default_composite,
)
from lrp_fx.relevance import TopK

__all__ = [
    "CPLRP",
    "PRESETS",
    "AttnLRP",
    "Composite",
    "Epsilon",
    "EpsilonAlpha2Beta1",
    "EpsilonAlpha2Beta1Flat",
    "EpsilonGamma",
    "EpsilonGammaBox",
    "EpsilonPlus",
    "EpsilonPlusFlat",
    "Matcher",
    "Place",
    "TopK",
    "Uniform",
    "ZPlus",
    "Zero",
    "anything",
    "by_name",
    "compat",
    "convolution",
    "default_composite",
    "dense",
    "first",
    "last",
    "module_type",
    "operation",
    "patch_embedding",
    "path",
]
