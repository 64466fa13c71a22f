"""Plan: which operation gets which rule, from the explained output down to the inputs."""

from __future__ import annotations

from lrp_fx.plan.final_probabilities import explained_output
from lrp_fx.plan.layers import Layer, as_layers, find_layer, layer_name
from lrp_fx.plan.outputs import OutputKey, candidates, explained_result
from lrp_fx.plan.plan import Hook, HookFunction, Plan, Step, squashed
from lrp_fx.plan.unknown import UNKNOWN_POLICIES, Unknown
from lrp_fx.plan.view import View, plan_of_view

__all__ = [
    "UNKNOWN_POLICIES",
    "Hook",
    "HookFunction",
    "Layer",
    "OutputKey",
    "Plan",
    "Step",
    "Unknown",
    "View",
    "as_layers",
    "candidates",
    "explained_output",
    "explained_result",
    "find_layer",
    "layer_name",
    "plan_of_view",
    "squashed",
]
