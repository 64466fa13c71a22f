"""From a photograph to the tensor a classifier expects."""

from dataclasses import dataclass

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

    def tensor(self, photograph: Image.Image) -> Tensor:
        """The input of the network, ``(3, crop, crop)`` in float32, for one photograph."""
        pixels = functional.to_tensor(self.display(photograph))
        normalised: Tensor = functional.normalize(pixels, list(self.mean), list(self.std))
        return normalised
