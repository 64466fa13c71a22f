"""A trained network and labelled photographs."""

import importlib.util
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lrp_fx.zoo import LoadedModel, load

EXAMPLES = Path(__file__).parents[2] / "examples" / "photographs"
CORRELATION = 0.999
"""Of the two maps of a photograph; what is promised, and far below what is seen (1 − 2e-7)."""


@cache
def network() -> LoadedModel:
    """The network as a user has it."""
    return load("efficientnet-lite0")


@cache
def photographs() -> tuple[Tensor, Tensor]:
    """The 20 photographs as the network's input, and their labels."""
    package = importlib.util.find_spec("foolbox")  # its import would want its own dependencies
    assert package is not None, 'the photographs are missing: pip install "lrp_fx[test]"'
    (folder,) = package.submodule_search_locations or ()
    files = sorted(Path(folder, "data").glob("imagenet_*.jpg"))
    inputs = torch.stack([network().preprocess(Image.open(file)) for file in files])
    return inputs, torch.tensor([int(file.stem.rpartition("_")[2]) for file in files])


def correlation(found: Tensor, expected: Tensor) -> float:
    """Pearson's, between the pixels of two maps."""
    return float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1])
