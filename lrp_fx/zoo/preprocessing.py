"""Turns a photograph into the tensor that a classifier expects."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional


@dataclass(frozen=True)
class Preprocessing:
    """Resizes the shorter side, crops a square from the centre, and normalises.

    Args:
        resize: the new length of the shorter side, in pixels.
        crop: the side of the square, in pixels.
        mean: one value per channel, for pixels in [0, 1].
        std: one value per channel, for pixels in [0, 1].
        interpolation: how to resize.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: InterpolationMode = InterpolationMode.BILINEAR

    def display(self, photograph: Image.Image) -> Image.Image:
        """The part of the photograph that the network sees, in colour and before normalisation."""
        resized = functional.resize(photograph.convert("RGB"), [self.resize], self.interpolation)
        cropped: Image.Image = functional.center_crop(resized, [self.crop])
        return cropped

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest values that :meth:`tensor` can have, ``(3, 1, 1)`` each."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return -mean / std, (1 - mean) / std

    def tensor(self, photograph: Image.Image) -> Tensor:
        """The input of the network for a photograph, ``(3, crop, crop)`` in float32."""
        return self.normalized(self.display(photograph))

    def normalized(self, picture: Image.Image) -> Tensor:
        """The input for a picture that is resized and cropped already, ``(3, H, W)`` in float32."""
        pixels = functional.to_tensor(picture)
        normalised: Tensor = functional.normalize(pixels, list(self.mean), list(self.std))
        return normalised
