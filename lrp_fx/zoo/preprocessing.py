"""Turns a photograph into the tensor that a classifier expects.

torchvision is imported by what needs it: half of the time of all imports is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from lrp_fx.errors import InputError

MOST_PIXELS = 2**24
"""A photograph is not resized to more pixels than this: a long strip would fill the memory."""
USUAL_SIDE = 512
"""The number of pixels to which the transforms of other libraries resize the shorter side."""


@dataclass(frozen=True)
class Preprocessing:
    """Resizes the photograph, crops a square from the centre, and normalises.

    Args:
        resize: the new length of the shorter side, in pixels; or height and width; 0 to keep the
            size.
        crop: the side of the square, in pixels; 0 to crop nothing.
        mean: one value per channel, for pixels in [0, 1].
        std: one value per channel, for pixels in [0, 1].
        interpolation: how to resize, as torchvision's ``InterpolationMode`` calls it.
        grey: whether the network takes one channel.
    """

    resize: int | tuple[int, int]
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    grey: bool = False

    def display(self, photograph: Image.Image) -> Image.Image:
        """The part of the photograph that the network sees, before normalisation.

        Raises:
            InputError: if it is a strip that would become too large, or smaller than the crop.
        """
        from torchvision.transforms import InterpolationMode, functional

        seen = photograph.convert("L" if self.grey else "RGB")
        if self.resize:
            side = self.resize
            check_resized(seen, side)
            mode = InterpolationMode(self.interpolation)
            seen = functional.resize(seen, [side] if isinstance(side, int) else side, mode)
        if self.crop:
            if self.crop > min(seen.size):
                raise InputError(
                    f"the photograph has {seen.width} × {seen.height} pixels, and a square of "
                    f"{self.crop} cannot be cropped from it: resize it, or crop less"
                )
            seen = functional.center_crop(seen, [self.crop])
        check_size(*seen.size)
        return seen

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest values that :meth:`tensor` can have, ``(C, 1, 1)`` each."""
        return bounds_of(self.mean, self.std)

    def tensor(self, photograph: Image.Image) -> Tensor:
        """The input of the network for a photograph, ``(C, crop, crop)`` in float32.

        Raises:
            InputError: as :meth:`display`.
        """
        return self.normalized(self.display(photograph))

    def normalized(self, picture: Image.Image) -> Tensor:
        """The input for a picture that is resized and cropped already, ``(C, H, W)`` in float32."""
        from torchvision.transforms import functional

        pixels = functional.to_tensor(picture)
        normalised: Tensor = functional.normalize(pixels, list(self.mean), list(self.std))
        return normalised


@dataclass(frozen=True)
class Normalised:
    """The preprocessing of another library that ends in a normalisation.

    Args:
        transform: from a photograph to the input ``(C, H, W)``.
        mean: the numbers that it subtracts, one per channel, for pixels in [0, 1].
        std: the numbers by which it then divides.
    """

    transform: Callable[[Image.Image], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tensor(self, photograph: Image.Image) -> Tensor:
        """The input of the network for a photograph, ``(C, H, W)``.

        Raises:
            InputError: if the photograph is a strip that would become too large.
        """
        check_resized(photograph, USUAL_SIDE)
        return self.transform(photograph.convert("L" if len(self.mean) == 1 else "RGB"))

    def display(self, photograph: Image.Image) -> Image.Image:
        """The picture that the network sees, before normalisation.

        Raises:
            InputError: as :meth:`tensor`.
        """
        from torchvision.transforms import functional

        mean, std = (torch.tensor(each)[:, None, None] for each in (self.mean, self.std))
        pixels = (self.tensor(photograph).float() * std + mean).clamp(0, 1)
        shown: Image.Image = functional.to_pil_image(pixels)
        return shown

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest values that :meth:`tensor` can have, ``(C, 1, 1)`` each."""
        return bounds_of(self.mean, self.std)


def bounds_of(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """The values of a black and of a white pixel after normalisation, ``(C, 1, 1)`` each."""
    m, s = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return -m / s, (1 - m) / s


def check_resized(photograph: Image.Image, side: int | tuple[int, int]) -> None:
    """Raise an ``InputError`` if the photograph would be too large with this shorter side."""
    if isinstance(side, int):
        shorter, longer = sorted(photograph.size)
        height, width = side, round(side * longer / shorter)
    else:
        height, width = side
    if height * width > MOST_PIXELS:
        raise InputError(
            f"the photograph has {photograph.width} × {photograph.height} pixels; resized to {height} "
            f"on its shorter side it would have more than {MOST_PIXELS // 10**6} million: crop it first"
        )


def check_size(width: int, height: int) -> None:
    """Raise an ``InputError`` if the network would get too many pixels."""
    if width * height > MOST_PIXELS:
        raise InputError(
            f"the network would get {width} × {height} pixels, more than {MOST_PIXELS // 10**6} "
            "million: resize the photograph"
        )
