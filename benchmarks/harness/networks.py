"""The networks that are measured, and the photographs.

All but EfficientNet-Lite0 have random weights; their batch norms have the statistics of one batch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor, nn

from lrp_fx.zoo import LoadedModel, load

Kind = Literal["convolutional", "vision transformer", "text"]

SIDE = 224  # of the images
LENGTH = 128  # of the texts, in tokens
VOCABULARY = 30522
EXAMPLES = Path(__file__).parents[2] / "examples" / "photographs"


class Bert(nn.Module):
    """A BERT of 6 layers with a classifier; from token numbers, or from their embeddings."""

    def __init__(self, layers: int = 6, width: int = 768, length: int = 1024) -> None:
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            intermediate_size=4 * width,
            max_position_embeddings=length,
            num_labels=10,
        )
        self.network = BertForSequenceClassification(config)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=tokens).logits
        return logits

    def embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.network.get_input_embeddings()(tokens)
        return embedded

    def from_embedded(self, embedded: Tensor) -> Tensor:
        logits: Tensor = self.network(inputs_embeds=embedded).logits
        return logits


class SmallCNN(nn.Module):
    """So small that it costs next to nothing to run it: it loads the code of a contestant."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Linear(8 * 3 * 3, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


@dataclass(frozen=True)
class Network:
    """A network, and what goes into it."""

    name: str
    title: str
    kind: Kind
    build: Callable[[], nn.Module]
    side: int = SIDE
    length: int = LENGTH
    trained: bool = False

    def make(self, seen: Tensor | None = None) -> nn.Module:
        """The network in eval mode, its parameters frozen.

        Args:
            seen: the batch whose statistics the batch norms get; noise unless given.
        """
        torch.manual_seed(0)
        model = self.build()
        if self.kind == "convolutional" and not self.trained:
            noise = torch.randn(4, 3, self.side, self.side)
            settle_batch_norm(model, noise if seen is None else seen)
        return model.eval().requires_grad_(False)

    def inputs(self, batch: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        if self.kind == "text":
            return torch.randint(VOCABULARY, (batch, self.length), generator=generator)
        return torch.randn(batch, 3, self.side, self.side, generator=generator)

    def tiny(self) -> Network:
        """The smallest network of the same kind."""
        if self.kind == "text":
            return Network("tiny", "tiny", self.kind, lambda: Bert(1, 64, 16), length=4)
        return Network("tiny", "tiny", "convolutional", SmallCNN, side=8)


def torchvision_network(name: str, title: str, kind: Kind = "convolutional") -> Network:
    def build() -> nn.Module:
        model = torchvision.models.get_model(name, weights=None)
        if (
            kind == "vision transformer"
        ):  # its classifier starts as zero, and so would all relevance
            nn.init.normal_(model.heads.head.weight, std=0.02)
        return model

    return Network(name, title, kind, build)


def _by_name(*networks: Network) -> dict[str, Network]:
    return {network.name: network for network in networks}


NETWORKS = _by_name(
    torchvision_network("vgg16", "VGG-16"),
    torchvision_network("resnet50", "ResNet-50"),
    torchvision_network("mobilenet_v2", "MobileNet-V2"),
    torchvision_network("efficientnet_b0", "EfficientNet-B0"),
    torchvision_network("vit_b_16", "ViT-B/16", "vision transformer"),
    Network("bert", "BERT, 6 layers", "text", Bert),
)
RESNETS = _by_name(
    *(torchvision_network(f"resnet{depth}", f"ResNet-{depth}") for depth in (18, 34, 50, 101, 152))
)


@cache
def loaded() -> LoadedModel:
    """EfficientNet-Lite0 with its ImageNet weights, which a package ships, and its preprocessing."""
    return load("efficientnet-lite0")


TRAINED = Network(
    "efficientnet-lite0",
    "EfficientNet-Lite0",
    "convolutional",
    lambda: loaded().model,
    trained=True,
)


@torch.no_grad()
def settle_batch_norm(model: nn.Module, x: Tensor) -> None:
    """Give batch norms the statistics of one batch, so that activations stay of order one."""
    norms = [module for module in model.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain average of what was seen: this batch
        norm.train()
    if norms:
        model(x)


def _folder(package: str) -> Path:
    """Of a package, which is found and not imported: only its data are wanted."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"photographs are missing: pip install {package}")
    return Path(spec.submodule_search_locations[0])


def photographs() -> tuple[Tensor, Tensor]:
    """The 20 labelled photographs of the package foolbox as inputs, and their labels."""
    files = sorted((_folder("foolbox") / "data").glob("imagenet_*.jpg"))
    labels = torch.tensor([int(file.stem.rpartition("_")[2]) for file in files])
    return _read(files), labels


def other_photographs() -> Tensor:
    """Twelve photographs of the packages gradio and scikit-image, without labels, as inputs."""
    gradio, skimage = _folder("gradio") / "media_assets" / "images", _folder("skimage") / "data"
    files = [gradio / name for name in ("bus.png", "cheetah.jpg", "cheetah1.jpg", "lion.jpg")]
    files += [gradio / "tower.jpg", skimage / "rocket.jpg"]
    names = ("astronaut", "camera", "chelsea", "coffee", "coins", "motorcycle_left")
    return _read([*files, *(skimage / f"{name}.png" for name in names)])


def examples() -> Tensor:
    """The two photographs of the examples, as inputs."""
    return _read(sorted(EXAMPLES.glob("*.jpg")))


def _read(files: list[Path]) -> Tensor:
    return torch.stack([loaded().preprocess(Image.open(file).convert("RGB")) for file in files])


def similarity(a: Tensor, b: Tensor) -> float:
    """The cosine between two maps, the smallest of the batch."""
    a, b = (each.detach().double().flatten(1) for each in (a, b))
    a, b = (each / each.abs().amax(1, keepdim=True) for each in (a, b))  # some are tiny, some huge
    return float(F.cosine_similarity(a, b).min())


def deviations(mine: Tensor, exact: Tensor) -> list[float]:
    """max |mine − exact| of max |exact|, of each sample, in ascending order."""
    distance = (mine - exact).abs().flatten(1).amax(1) / exact.abs().flatten(1).amax(1)
    return sorted(distance.tolist())
