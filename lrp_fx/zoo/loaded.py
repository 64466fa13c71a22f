"""A model with everything that is needed to apply it to a photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor, nn

from lrp_fx.errors import LRPError
from lrp_fx.zoo.preprocessing import Normalised, Preprocessing


class ZooError(LRPError):
    """A model cannot be loaded: unknown name, missing package, no network, or wrong weights."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, with everything needed to apply it to a photograph.

    Args:
        name: the name that :func:`load` knows.
        model: the model; a classifier maps ``(N, C, H, W)`` to logits ``(N, classes)``.
        preprocess: turns a PIL image into an input ``(C, H, W)``; None for a model of the user
            that brings none.
        display: turns a PIL image into the picture that the network then sees; None if it is not
            known.
        bounds: the smallest and the largest values of an input, ``(C, 1, 1)`` each; None if they
            are not known.
        categories: the names of the outputs; empty if they have none.
    """

    name: str
    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor] | None
    display: Callable[[Image.Image], Image.Image] | None
    bounds: tuple[Tensor, Tensor] | None
    categories: tuple[str, ...]


def loaded_model(
    name: str,
    network: nn.Module,
    preprocessing: Preprocessing | Normalised,
    categories: Sequence[str],
) -> LoadedModel:
    """The network in eval mode with its preprocessing."""
    return LoadedModel(
        name,
        network.eval(),
        preprocessing.tensor,
        preprocessing.display,
        preprocessing.bounds(),
        tuple(categories),
    )
