"""The attributions: the public classes of the library, with the interface of Captum.

The types of their arguments and results are here too: a room that only calls an explainer imports
from this one alone.
"""

from __future__ import annotations

from lrp_fx.attribution.arguments import check_inputs as check_inputs
from lrp_fx.attribution.base import (
    explained as explained,
    stacked as stacked,
    takes_target as takes_target,
    with_probabilities as with_probabilities,
)
from lrp_fx.attribution.boundary import documented as documented
from lrp_fx.attribution.contrast import (
    against as against,
    against_all as against_all,
    against_rest as against_rest,
)
from lrp_fx.attribution.given import (
    AnyArrays as AnyArrays,
    AnyInputs as AnyInputs,
    AnyTensors as AnyTensors,
    Array as Array,
    Given as Given,
    Inputs as Inputs,
    given as given,
)
from lrp_fx.attribution.identity import check_same as check_same, identity_of as identity_of
from lrp_fx.attribution.layer import LayerLRPFx as LayerLRPFx, NeuronLRPFx as NeuronLRPFx
from lrp_fx.attribution.lrp import LRPFx as LRPFx
from lrp_fx.attribution.options import (
    Changes as Changes,
    Keywords as Keywords,
    Options as Options,
    check_names as check_names,
    shows_options as shows_options,
)
from lrp_fx.attribution.similarity import bilrp as bilrp
from lrp_fx.plan import Layer as Layer, Plan as Plan
from lrp_fx.relevance import (
    FILTER_BY as FILTER_BY,
    BiasPolicy as BiasPolicy,
    Cause as Cause,
    FilterBy as FilterBy,
    LargestTarget as LargestTarget,
    Target as Target,
    check_dim as check_dim,
)
from lrp_fx.run import Explanation as Explanation, Ledger as Ledger, per_sample as per_sample
