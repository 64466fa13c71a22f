"""Plan: which operation gets which rule, from the explained output down to the inputs."""

from __future__ import annotations

from lrp_fx.plan.layers import (
    Layer as Layer,
    as_layers as as_layers,
    find_layer as find_layer,
    layer_name as layer_name,
    path_and_call as path_and_call,
)
from lrp_fx.plan.outputs import OutputKey as OutputKey, candidates as candidates
from lrp_fx.plan.plan import (
    Hook as Hook,
    HookFunction as HookFunction,
    Plan as Plan,
    Step as Step,
)
from lrp_fx.plan.unknown import UNKNOWN_POLICIES as UNKNOWN_POLICIES, Unknown as Unknown
from lrp_fx.plan.view import View as View, plan_of_view as plan_of_view
