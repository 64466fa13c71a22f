"""The attributions: the public classes of the library, with the interface of Captum."""

from __future__ import annotations

from lrp_fx.attribution.arguments import check_inputs
from lrp_fx.attribution.base import explained, stacked, takes_target
from lrp_fx.attribution.boundary import documented
from lrp_fx.attribution.contrast import against, against_all, against_rest
from lrp_fx.attribution.given import AnyArrays, AnyInputs, AnyTensors, Array, Given, Inputs, given
from lrp_fx.attribution.identity import check_same, identity_of
from lrp_fx.attribution.layer import LayerLRPFx, NeuronLRPFx
from lrp_fx.attribution.lrp import LRPFx
from lrp_fx.attribution.options import Changes, Keywords, Options, check_names, shows_options
from lrp_fx.attribution.similarity import bilrp

__all__ = [
    "AnyArrays",
    "AnyInputs",
    "AnyTensors",
    "Array",
    "Changes",
    "Given",
    "Inputs",
    "Keywords",
    "LRPFx",
    "LayerLRPFx",
    "NeuronLRPFx",
    "Options",
    "against",
    "against_all",
    "against_rest",
    "bilrp",
    "check_inputs",
    "check_names",
    "check_same",
    "documented",
    "explained",
    "given",
    "identity_of",
    "shows_options",
    "stacked",
    "takes_target",
]
