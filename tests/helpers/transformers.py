"""Small vision transformers, and CP-LRP."""

from __future__ import annotations

from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from lrp_fx import Composite, rules
from lrp_fx.composites import compat, operation


def cp_lrp() -> Composite:
    """``compat.attnlrp`` with constant attention weights."""
    constant = [
        (operation("softmax"), rules.Nothing()),
        (operation("bilinear"), rules.ValuePath(rules.Stabilizer(0.0))),
    ]
    return Composite([*constant, *compat.attnlrp().assignments], strict=False)


def vision_transformer() -> nn.Module:
    return VisionTransformer(16, 4, 2, 4, 16, 32, num_classes=5)


def swin() -> nn.Module:
    return SwinTransformer(
        [2, 2], 8, [2, 2], [2, 4], [4, 4], num_classes=5, stochastic_depth_prob=0
    )
