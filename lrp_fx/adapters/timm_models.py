"""timm: the preprocessing that a model of timm expects, as the keywords of ``lrp_fx.explain``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict

from torch import Tensor, nn

from lrp_fx._common import needed

if TYPE_CHECKING:
    from PIL import Image


class TimmKeywords(TypedDict):
    """Keywords of :func:`lrp_fx.explain`."""

    preprocess: Callable[[Image.Image], Tensor]
    mean: Sequence[float]
    std: Sequence[float]


def timm_keywords(model: nn.Module) -> TimmKeywords:
    """The preprocessing of a model of timm: ``explain(lrp, photograph, **timm_keywords(model))``.

    It is what ``timm.data.resolve_model_data_config`` says of the model, as for evaluation: resized,
    cropped, normalised.

    Args:
        model: a model of ``timm.create_model``.

    Returns:
        ``preprocess``, a function from a photograph of PIL of any mode to ``(3, H, W)``; ``mean``
        and ``std``, by which a picture undoes the normalisation.

    Raises:
        OptionError: if timm is missing.
    """
    with needed("the preprocessing of a model of timm needs"):
        from timm.data import create_transform, resolve_model_data_config
    settings = resolve_model_data_config(model)
    transform = create_transform(**settings, is_training=False)

    def preprocess(photograph: Image.Image) -> Tensor:
        found: Tensor = transform(photograph.convert("RGB"))
        return found

    return {"preprocess": preprocess, "mean": settings["mean"], "std": settings["std"]}
