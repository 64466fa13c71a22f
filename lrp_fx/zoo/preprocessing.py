"""From a photograph to the tensor a classifier expects."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side to ``resize``, cut ``crop`` x ``crop`` from the centre, normalise.

    ``mean`` and ``std`` hold one value per channel, for pixels in [0, 1].
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: InterpolationMode = InterpolationMode.BILINEAR

    def display(self, photograph: Image.Image) -> Image.Image:
        """The part of the photograph that the network sees, in colour and not normalised."""
        resized = functional.resize(photograph.convert("RGB"), [self.resize], self.interpolation)
        cropped: Image.Image = functional.center_crop(resized, [self.crop])
        return cropped

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value that :meth:`tensor` can have, ``(3, 1, 1)`` each."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return -mean / std, (1 - mean) / std

    def tensor(self, photograph: Image.Image) -> Tensor:
        """The input of the network, ``(3, crop, crop)`` in float32, for one photograph."""
        pixels = functional.to_tensor(self.display(photograph))
        normalised: Tensor = functional.normalize(pixels, list(self.mean), list(self.std))
        return normalised
