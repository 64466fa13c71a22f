"""Image classifiers of timm: ``timm/NAME``."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import nn

from lrp_fx.errors import in_words
from lrp_fx.zoo.hub import silent_hub, why_out_of_reach
from lrp_fx.zoo.loaded import LoadedModel, ZooError, loaded_model
from lrp_fx.zoo.preprocessing import Normalised
from lrp_fx.zoo.published import imagenet
from lrp_fx.zoo.weights import fill, read_state

TIMM = "timm/"


def timm_model(name: str, file: Path | None) -> LoadedModel:
    """A classifier of timm with its published weights, or with those in a file.

    Raises:
        ZooError: if timm is missing, the name is unknown, the weights cannot be downloaded, or do
            not fit.
    """
    try:
        import timm
    except ModuleNotFoundError:
        raise ZooError(f"{TIMM}{name} needs the package timm: pip install timm") from None
    if name.partition(".")[0] not in timm.list_models():
        near = difflib.get_close_matches(name, timm.list_models())
        advice = f": did you mean {' or '.join(TIMM + each for each in near)}?" if near else ""
        raise ZooError(f"timm has no model {name!r}{advice}")
    alone = why_out_of_reach() if file is None else ""
    try:
        place = _kept(timm.get_pretrained_cfg(name)) if alone else {}
        with silent_hub():
            network: nn.Module = timm.create_model(
                name, pretrained=file is None, pretrained_cfg_overlay=place
            )
    except Exception as error:  # of the hub: several libraries, each with errors of its own
        raise ZooError(
            f"cannot download weights for {TIMM}{name} ({alone or in_words(error)}): pass --weights FILE"
        ) from error
    if file is not None:
        fill(network, read_state(file), TIMM + name, file)
    config: dict[str, Any] = timm.data.resolve_data_config({}, model=network)
    preprocessing = Normalised(
        timm.data.create_transform(**config, is_training=False),
        tuple(config["mean"]),
        tuple(config["std"]),
    )
    return loaded_model(TIMM + name, network, preprocessing, _categories(network))


def _kept(config: Any) -> dict[str, str]:
    """Where weights of the hub lie on this machine; empty for those that come from elsewhere.

    Raises:
        FileNotFoundError: if they were never loaded.
    """
    import huggingface_hub

    name = getattr(config, "hf_hub_id", None)
    if name is None:
        return {}
    for file in (
        "model.safetensors",
        getattr(config, "hf_hub_filename", None) or "pytorch_model.bin",
    ):
        path = huggingface_hub.try_to_load_from_cache(name, file)
        if isinstance(path, str):
            return {"file": path}
    raise FileNotFoundError(name)


def _categories(network: Any) -> tuple[str, ...]:
    """The names of the classes of ImageNet, if the network has as many; timm keeps no others."""
    names = imagenet()
    return names if getattr(network, "num_classes", 0) == len(names) else ()
