"""Models by name: packaged, of torchvision, timm and Hugging Face, and of the user."""

from __future__ import annotations

import difflib
from pathlib import Path

from lrp_fx.zoo.hugging_face import HUGGING_FACE, image_classifier
from lrp_fx.zoo.loaded import LoadedModel, ZooError
from lrp_fx.zoo.own import own_model
from lrp_fx.zoo.published import EFFICIENTNET, TORCHVISION, efficientnet, torchvision_model
from lrp_fx.zoo.timm_models import TIMM, timm_model


def load(name: str, weights: Path | None = None) -> LoadedModel:
    """The model called ``name``, with its usual weights or those given.

    Args:
        name: one of :func:`names`; ``timm/NAME`` of timm; ``hf/NAME`` of Hugging Face, or a folder
            of one of its models; or ``package.module:factory`` or ``path/to/file.py:factory``, a
            function without arguments that returns the model, ``(model, preprocess)`` or
            ``(model, preprocess, categories)``.
        weights: a ``.safetensors`` file, or the file of a state dict, as
            ``torch.save(model.state_dict(), file)`` writes it.

    Raises:
        ZooError: if the name is unknown, a package is missing, the weights cannot be downloaded, or
            the file does not fit the model.
        InputError: if a factory fails.
    """
    if name == EFFICIENTNET:
        return efficientnet(weights)
    if name in names():
        return torchvision_model(name.removeprefix(TORCHVISION), weights)
    if name.startswith(TIMM):
        return timm_model(name.removeprefix(TIMM), weights)
    if name.startswith(HUGGING_FACE):
        return image_classifier(name.removeprefix(HUGGING_FACE), weights)
    place, colon, attribute = name.rpartition(":")
    if colon and place and attribute:
        return own_model(name, weights)
    if Path(name, "config.json").is_file():
        return image_classifier(name, weights)
    raise ZooError(f"there is no model {name!r}: {_advice(name)}")


def names() -> tuple[str, ...]:
    """The names of the packaged model and of torchvision's classifiers."""
    from torchvision import models  # half of the time of all imports

    listed = models.list_models(module=models)
    return (EFFICIENTNET, *(TORCHVISION + name for name in listed))


def _advice(name: str) -> str:
    """Advice for an unknown name: the nearest known names; ``vgg16`` is near ``torchvision/vgg16``."""
    if name.endswith(".py"):
        return f"name the function in it that makes the model, such as {name}:make"
    full = {known.removeprefix(TORCHVISION): known for known in names()}
    near = difflib.get_close_matches(name.lower().removeprefix(TORCHVISION), full)
    if near:
        return f"did you mean {' or '.join(full[bare] for bare in near)}?"
    return (
        f"use {EFFICIENTNET}, {TORCHVISION}NAME, {TIMM}NAME, {HUGGING_FACE}NAME, or FILE.py:FACTORY "
        "for a model of your own"
    )
