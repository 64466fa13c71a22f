"""Every preset on the odd networks of ``models.py``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from lrp_fx import LRPFx
from lrp_fx.composites import PRESETS, EpsilonGammaBox
from tests.helpers.models import NETWORKS

TARGET = 1
COMPOSITES: dict[str, Any] = {
    **{name: name for name in PRESETS if name != "epsilon_gamma_box"},
    "epsilon_gamma_box": EpsilonGammaBox(-4.0, 4.0),
}
"""Every preset."""
each_composite = pytest.mark.parametrize("composite", COMPOSITES)
HALF_A_SECOND = ("unet", "decoder", "rearranged")
"""What symbolic tracing does not read takes that long for each LRPFx: two presets suffice."""

NOT_WITH_A_BOX = ("branches",)
"""It pools the image before the first convolution, whose bounds are not known then."""

PAIRS = [
    (name, composite)
    for name in NETWORKS
    for composite in COMPOSITES
    if name not in HALF_A_SECOND or composite in ("epsilon_plus", "epsilon_alpha2_beta1")
    if name not in NOT_WITH_A_BOX or composite != "epsilon_gamma_box"
]


@lru_cache(maxsize=4)
def reading(name: str, propagation: str = "direct") -> LRPFx:
    """An attribution that has read a network; ``with_composite`` explains it under any other."""
    network = NETWORKS[name]
    lrp = LRPFx(network.model(), "zero", output=network.output, propagation=propagation)  # type: ignore[arg-type]
    lrp.attribute(network.inputs(), target=TARGET)
    return lrp


def in_one(maps: tuple[Tensor, ...]) -> Tensor:
    """The relevance of all inputs, (N, features)."""
    return torch.cat([each.flatten(1) for each in maps], 1)
