"""Photographs of any kind, as the 8-bit RGB pixels that a figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx._common import entries, needed
from lrp_fx.errors import InputError
from lrp_fx.visualize.arrays import Floats
from lrp_fx.visualize.colors import Pixels
from lrp_fx.visualize.smoothing import smoothed

if TYPE_CHECKING:
    from PIL import Image

Photograph: TypeAlias = "Image.Image | Tensor | NDArray[np.generic]"
Photographs: TypeAlias = "Photograph | Sequence[Photograph]"
Statistics: TypeAlias = "Sequence[float] | Tensor | float | None"
CHANNELS = (1, 3, 4)
OVERSHOOT = 0.15
"""How far beyond black and white floats may lie, in parts of white: bicubic resizing does that."""
LUMINANCE = np.array([0.299, 0.587, 0.114])
"""The weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""


@dataclass(frozen=True)
class Picture:
    """A photograph as it is drawn.

    Args:
        pixels: (H, W, 3).
        words: its kind, for the title of its panel.
    """

    pixels: Pixels
    words: str = "input"

    @property
    def stated(self) -> str:
        """The words, if they say more than that it is an input."""
        return "" if self.words in ("input", "photograph") else self.words

    @property
    def grey(self) -> Floats:
        """The brightness of each pixel, (H, W), from 0 to 1."""
        brightness: Floats = self.pixels @ LUMINANCE / 255
        return brightness


def as_pictures(
    photographs: Photographs, count: int, mean: Statistics = None, std: Statistics = None
) -> list[Picture]:
    """The pictures of a batch.

    Args:
        photographs: for one sample a photograph, for several a list of them, or a tensor or array
            (N, C, H, W). See :func:`as_picture`.
        count: the number N of samples.
        mean: what was subtracted from pixels in [0, 1], one value or one per channel.
        std: what they were then divided by.

    Raises:
        InputError: if there are not N photographs, or one cannot be drawn.
    """
    if isinstance(photographs, (Tensor, np.ndarray)):
        several = list(photographs) if photographs.ndim == 4 else [photographs]
    elif isinstance(photographs, (list, tuple)):
        several = list(photographs)
        if len(several) == 1 and isinstance(several[0], (Tensor, np.ndarray)):
            return as_pictures(several[0], count, mean, std)  # a tuple of inputs, as for Captum
    else:
        several = [photographs]
    if len(several) != count:
        hint = (
            "; relevance of shape (N, H, W) is one map of N channels: pass heatmap[:, None] for N maps"
            if count == 1
            else ""
        )
        raise InputError(f"{count} maps need as many photographs, got {len(several)}{hint}")
    return [as_picture(each, mean, std) for each in several]


def as_pixels(photograph: Photographs, mean: Statistics = None, std: Statistics = None) -> Pixels:
    """The pixels of one photograph or of a batch of one, (H, W, 3); see :func:`as_picture`."""
    (picture,) = as_pictures(photograph, 1, mean, std)
    return picture.pixels


def as_picture(photograph: Photograph, mean: Statistics = None, std: Statistics = None) -> Picture:
    """The pixels of one photograph.

    Args:
        photograph: one of these.

            * a picture of PIL of any mode. 16-bit pictures are scaled by their range (12 or 16
              bits), those of floats or 32-bit integers from their minimum to their maximum, and
              transparent pixels are shown on white;
            * a tensor (C, H, W) or (H, W);
            * an array (H, W), (H, W, C) or (C, H, W).

            8-bit values are shown as they are, 16-bit values by their range (12 or 16 bits), floats
            in [0, 1] and in [0, 255] too; what interpolation put slightly beyond is cut. Other
            values are stretched from their minimum to their maximum, which the title says. A fourth
            channel of 8 or 16 bits is transparency. Of channels other than 1 or 3 the mean is shown.
        mean: what was subtracted from pixels in [0, 1], one value or one per channel. With ``std``
            a normalised tensor is shown as the photograph that it was.
        std: what they were then divided by.

    Raises:
        InputError: if it is none of these, or holds NaN or infinity.
    """
    if isinstance(photograph, Tensor):
        if photograph.is_meta:
            raise InputError("the photograph has no values (device meta)")
        dense = photograph.detach().cpu()
        dense = dense.to_dense() if dense.layout != torch.strided else dense
        array: NDArray[np.generic] = (
            dense.float().numpy() if dense.dtype in _UNKNOWN_TO_NUMPY else dense.numpy()
        )
        return _of_array(array, mean, std, channels_first=True)
    if isinstance(photograph, np.ndarray):
        return _of_array(photograph, mean, std, channels_first=False)
    with needed("photographs need"):
        from PIL import Image
    if isinstance(photograph, Image.Image):
        if mean is not None or std is not None:
            raise InputError("mean and std belong to normalised tensors, not to pictures of PIL")
        return _of_pil(photograph)
    raise InputError(
        "a photograph must be a picture of PIL, a tensor (C, H, W) or an array (H, W, C), not "
        f"{type(photograph).__name__}"
    )


_UNKNOWN_TO_NUMPY = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


def _of_pil(image: Image.Image) -> Picture:
    """A picture of PIL."""
    from PIL import Image

    if not image.width or not image.height:
        raise InputError(f"the photograph has no pixels: its size is {image.size}")
    if image.mode == "La":  # grey times alpha, which PIL converts to nothing else
        image = image.convert("LA")
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        values, words = _of_sixteen_bits(values)
        return Picture(_eight_bits(values), words)
    if image.mode in ("I", "F"):
        values, words = _stretched(np.asarray(image, dtype=np.float64))
        return Picture(_eight_bits(values), words)
    if image.has_transparency_data:
        above = image.convert("RGBA")
        white = Image.new("RGBA", above.size, "white")
        image = Image.alpha_composite(white, above)
    try:
        return Picture(np.asarray(image.convert("RGB")), "photograph")
    except ValueError as error:
        raise InputError(
            f"a photograph of mode {image.mode} cannot be drawn: pass photograph.convert('RGB')"
        ) from error


def _of_array(
    array: NDArray[np.generic], mean: Statistics, std: Statistics, *, channels_first: bool
) -> Picture:
    """The pixels of an array or a tensor."""
    if array.dtype.kind not in "fiub" or array.ndim not in (2, 3) or not array.size:
        raise InputError(
            "a photograph must have shape (C, H, W), (H, W, C) or (H, W) and hold real numbers, not "
            f"{array.shape} of {array.dtype}"
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("the photograph holds NaN or infinity: pass finite pixels")
    if values.ndim == 2:
        values = values[:, :, None]
    elif _has_channels_first(values.shape, channels_first):
        values = values.transpose(1, 2, 0)
    words = "input"
    pixels = array.dtype in (np.uint8, np.uint16)
    if mean is not None or std is not None:
        if array.dtype.kind != "f":
            raise InputError(
                f"mean and std belong to normalised floats, not to pixels of {array.dtype}"
            )
        values = values * _statistic("std", std, 1.0, values.shape[-1])
        values = values + _statistic("mean", mean, 0.0, values.shape[-1])
    elif array.dtype == np.uint8:
        values = values / 255
    elif array.dtype == np.uint16:
        values, words = _of_sixteen_bits(values)
    elif values.min() < -OVERSHOOT * values.max() or values.max() > 255 * (1 + OVERSHOOT):
        values, words = _stretched(values)
    elif values.max() > 2:
        values = values / 255
    if values.shape[-1] not in CHANNELS or (values.shape[-1] == 4 and not pixels):
        words = f"{words}, mean of {values.shape[-1]} channels"
        values = values.mean(axis=-1, keepdims=True)
    if values.shape[-1] == 4:
        alpha = np.clip(values[..., 3:], 0, 1)
        values = values[..., :3] * alpha + 1 - alpha
    return Picture(_eight_bits(values), words)


def _of_sixteen_bits(values: Floats) -> tuple[Floats, str]:
    """Values in [0, 1], and words for the range that was used: many cameras fill 12 bits only."""
    bits = 12 if values.max() < 2**12 else 16
    return values / (2**bits - 1), f"{bits}-bit photograph"


def _has_channels_first(shape: tuple[int, ...], first: bool) -> bool:
    """Whether the channels of a 3-D shape come first; sizes that are not numbers of channels decide."""
    begins, ends = shape[0] in CHANNELS, shape[-1] in CHANNELS
    return first if begins == ends else begins


def _statistic(name: str, value: Statistics, default: float, channels: int) -> Floats:
    """A mean or a standard deviation as one value per channel."""
    if value is None:
        return np.full(channels, default)
    plain = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value
    listed = plain if entries(plain) is None else list(np.ravel(np.asarray(plain, np.float64)))
    values = np.atleast_1d(np.asarray(listed, dtype=np.float64))
    if values.size not in (1, channels) or not np.isfinite(values).all():
        raise InputError(
            f"{name} must be one finite number or one for each of {channels} channels, got {value!r}"
        )
    return values


def _stretched(values: Floats) -> tuple[Floats, str]:
    """Values from their minimum (black) to their maximum (white), and words that say so."""
    if not np.isfinite(values).all():
        raise InputError("the photograph holds NaN or infinity: pass finite pixels")
    low, high = float(values.min()), float(values.max())
    if high == low:
        return np.full_like(values, 0.5), "input, one constant value"
    half = values / 2 - low / 2  # halves, so that the difference of huge values stays finite
    return half / (high / 2 - low / 2), f"input, from {low:.3g} (black) to {high:.3g} (white)"


def _eight_bits(values: Floats) -> Pixels:
    """Values in [0, 1] as 8-bit RGB, (H, W, 3)."""
    pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def sketch(picture: Picture, sigma: float = 2.0) -> Floats:
    """The outlines of a picture as a pencil would draw them, (H, W): 1 is paper, 0 a full line.

    The brightness is divided by its smoothed copy, so that even parts become exactly 1.
    """
    grey = picture.grey + 0.05  # dark parts would otherwise be lines all over
    ratio = grey / smoothed(grey, sigma)
    return np.clip((ratio - 0.72) / (0.96 - 0.72), 0, 1)
