"""Imputers: what replaces the removed regions of an input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lrp_fx._common import check_nonnegative, check_number, check_seed
from lrp_fx.errors import InputError, OptionError


class Imputer(Protocol):
    """Replaces the entries of one sample under each of several masks. Its ``str`` names it."""

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with the masked entries replaced.

        Args:
            x: one sample, ``(…)``.
            masks: bool, ``(M, …)``, True where an entry is replaced; they broadcast to ``x``.

        Returns:
            ``(M, …)``.
        """


@dataclass(frozen=True)
class Constant:
    """One value for all entries: 0, the mean of a data set, the number of a mask token.

    Args:
        value: in the units of the input. Integer inputs take whole numbers only.
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        check_number("value", self.value)
        if not math.isfinite(self.value):
            raise OptionError(f"value must be finite, got {self.value!r}")

    def __str__(self) -> str:
        return f"constant {self.value:g}"

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with the value in place of the masked entries.

        Raises:
            InputError: if the inputs' type cannot hold the value.
        """
        self._check_fit(x.dtype)
        return torch.where(masks, torch.full_like(x, self.value), x)

    def _check_fit(self, dtype: torch.dtype) -> None:
        if dtype == torch.bool:
            fits = self.value in (0, 1)
        elif dtype.is_floating_point or dtype.is_complex:
            fits = abs(self.value) <= torch.finfo(dtype).max
        else:
            range_ = torch.iinfo(dtype)
            fits = self.value == int(self.value) and range_.min <= self.value <= range_.max
        if not fits:
            raise InputError(
                f"inputs of {dtype} cannot hold the constant {self.value:g}: choose a value that this "
                "type has, or convert the inputs"
            )


@dataclass(frozen=True)
class Mean:
    """The mean of each channel of the sample: over all dimensions but the first.

    Samples with one dimension, such as the rows of a table, have no channels. Use
    :class:`Constant` with standardised columns there.
    """

    def __str__(self) -> str:
        return "mean"

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with the channels' means in place of the masked entries."""
        mean, _ = _moments(x, "Mean")
        return torch.where(masks, mean.to(x), x)


@dataclass(frozen=True)
class Noise:
    """Normal noise with the mean and the standard deviation of each channel of the sample.

    Args:
        seed: of the noise, which is the same for all samples and methods.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def __str__(self) -> str:
        return "noise" + (f" seed {self.seed}" if self.seed else "")

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with noise in place of the masked entries."""
        mean, deviation = _moments(x, "Noise")
        filled = mean + deviation * _normal(mean, x.shape, self.seed)
        return torch.where(masks, filled.to(x), x)


@dataclass(frozen=True)
class Blur:
    """A copy of the image, blurred by a Gaussian.

    Args:
        sigma: standard deviation of the Gaussian, in pixels. The kernel reaches to 3σ, or as far as
            the image allows.
    """

    sigma: float = 10.0

    def __post_init__(self) -> None:
        check_nonnegative("sigma", self.sigma)
        if not self.sigma:
            raise OptionError("sigma must be above 0: without blur nothing is replaced")

    def __str__(self) -> str:
        return f"blur {self.sigma:g}"

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with the blurred image in place of the masked pixels."""
        from torchvision.transforms.functional import gaussian_blur  # half the time of all imports

        _check_image(x, "Blur")
        reach = min(math.ceil(3 * self.sigma), min(x.shape[1:]) - 1)
        width = 2 * reach + 1
        blurred: Tensor = gaussian_blur(_precise(x), [width, width], [self.sigma, self.sigma])
        return torch.where(masks, blurred.to(x), x)


@dataclass(frozen=True)
class Inpainting:
    """Each removed pixel is the weighted mean of its eight neighbours, plus noise.

    The pixels solve ``Σ_j w_ij (x_i − x_j) = 0``, with the weight 1/6 for direct and 1/12 for
    diagonal neighbours (ROAD, Rong et al. 2022). The filling shows less of the shape of
    the mask than a constant does. The system is solved from coarse to fine, for all masks at once,
    up to an error below the noise.

    Args:
        noise: standard deviation of the noise that is added, in units of the channel's own standard
            deviation. Without noise a model could see which pixels are smooth.
        seed: of the noise, which is the same for all samples and methods.
    """

    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_nonnegative("noise", self.noise)
        check_seed(self.seed)

    def __str__(self) -> str:
        settings = f" noise {self.noise:g}" if self.noise != 0.1 else ""
        return "inpainting" + settings + (f" seed {self.seed}" if self.seed else "")

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with the solution in place of the masked pixels."""
        _check_image(x, "Inpainting")
        mean, deviation = _moments(x, "Inpainting")
        masks = masks.expand(len(masks), *x.shape)[:, :1]
        filled = fill_from_neighbours(torch.where(masks, mean, _precise(x)), masks)
        filled = filled + self.noise * deviation * _normal(mean, x.shape, self.seed)
        return torch.where(masks, filled.to(x), x)


COARSEST = 2  # pixels along a side
ITERATIONS = 20  # on each resolution


def fill_from_neighbours(images: Tensor, masks: Tensor) -> Tensor:
    """Images whose masked pixels are the weighted means of their neighbours.

    The same problem on half the resolution gives the start, and conjugate gradients refine it. In
    units of the image's standard deviation, the error is below a hundredth while half of the patches
    are left, and about a tenth when one is left.

    Args:
        images: ``(M, C, H, W)``. The masked pixels are a start, and stay where all are masked.
        masks: bool, ``(M, 1, H, W)``.
    """
    if min(images.shape[2:]) > COARSEST:
        known = (~masks).to(images)
        share = F.avg_pool2d(known, 2, ceil_mode=True)
        whole = F.avg_pool2d(images, 2, ceil_mode=True)
        part = F.avg_pool2d(images * known, 2, ceil_mode=True) / share
        coarse = fill_from_neighbours(torch.where(share > 0, part, whole), share == 0)
        guess = F.interpolate(coarse, size=tuple(images.shape[2:]), mode="bilinear")
        images = torch.where(masks, guess, images)
    unknown = masks.to(images)
    weights = _neighbours(torch.ones_like(images[:1, :1]))  # less at the border
    residual = unknown * (_neighbours(images) - weights * images)
    direction = residual
    size = _dot(residual, residual)
    rounding = (8 * torch.finfo(images.dtype).eps) ** 2 * _dot(images, images)
    for _ in range(ITERATIONS):
        change = unknown * (weights * direction - _neighbours(direction))
        going_on = size > rounding
        step = torch.where(going_on, size / _dot(direction, change), 0)
        images = images + step * direction
        residual = residual - step * change
        before, size = size, _dot(residual, residual)
        direction = residual + torch.where(going_on, size / before, 0) * direction
    return images


def _neighbours(images: Tensor) -> Tensor:
    """The weighted sum of the eight neighbours of each pixel, ``(M, C, H, W)``."""
    kernel = images.new_tensor([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    count = images.shape[0] * images.shape[1]
    flat = images.reshape(1, count, *images.shape[2:])  # as channels, torch is faster
    kernels = kernel.expand(count, 1, 3, 3)
    return F.conv2d(flat, kernels, padding=1, groups=count).reshape(images.shape)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each channel, ``(M, C, 1, 1)``."""
    return (a * b).sum((2, 3), keepdim=True)


def _moments(x: Tensor, imputer: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, of size 1 along the other dimensions.

    Of half precision in float32.
    """
    if x.ndim < 2 or not x.is_floating_point():
        raise InputError(
            f"{imputer} needs samples (channels, …) of numbers, not {x.dtype} of shape "
            f"{tuple(x.shape)}; use Constant"
        )
    x, dims = _precise(x), tuple(range(1, x.ndim))
    return x.mean(dims, keepdim=True), x.std(dims, correction=0, keepdim=True)


def _precise(x: Tensor) -> Tensor:
    """The same in at least float32, in which all imputers compute."""
    return x.float() if torch.finfo(x.dtype).bits < 32 else x


def _normal(like: Tensor, shape: torch.Size, seed: int) -> Tensor:
    """Normal noise, the same on all devices."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(like)


def _check_image(x: Tensor, imputer: str) -> None:
    if x.ndim != 3 or not x.is_floating_point() or min(x.shape[1:]) < 2:
        raise InputError(
            f"{imputer} needs images (C, H, W), not {x.dtype} of shape {tuple(x.shape)}; use "
            "Constant for tokens, columns and time steps"
        )
