"""A classifier of colours that is made in milliseconds, for tests of pages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lrp_fx.app import Classifier
from lrp_fx.zoo import Preprocessing

NAMES = ("red", "green", "blue", "grey")
PREPROCESSING = Preprocessing(40, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class ColourClassifier(nn.Module):
    """Compares the mean colours of a picture; the last class is the same for all pictures."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 3, padding=1, stride=2)
        self.last = nn.Linear(6, 4)
        with torch.no_grad():
            for layer in (self.first, self.second, self.last):
                layer.weight.copy_(0.1 * torch.randn(layer.weight.shape, generator=generator))
                layer.bias.copy_(0.1 * torch.randn(layer.bias.shape, generator=generator))
            for colour in range(3):  # one path for each colour
                self.first.weight[colour, colour] += 0.2
                self.second.weight[colour, colour] += 0.2
                self.last.weight[colour, colour] += 3

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.second(self.first(x).relu()).relu()
        return self.last(hidden.mean((2, 3)))


def colour_classifier() -> Classifier:
    """As the page takes it."""
    model = ColourClassifier().eval()
    return Classifier(
        "colours",
        model,
        PREPROCESSING.display,
        PREPROCESSING.normalized,
        NAMES,
        PREPROCESSING.bounds(),
        PREPROCESSING,
    )
