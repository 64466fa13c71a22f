"""Imputers: what replaces the removed regions of an input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from lrp_fx._checks import check_nonnegative, check_number
from lrp_fx.errors import InputError, OptionError

if TYPE_CHECKING:
    import numpy
    from scipy.sparse import csr_matrix


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
        value: in the units of the input.
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        check_number("value", self.value)

    def __str__(self) -> str:
        return f"constant {self.value:g}"

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with the value in place of the masked entries."""
        return torch.where(masks, torch.full_like(x, self.value), x)


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
        return torch.where(masks, mean, x)


@dataclass(frozen=True)
class Noise:
    """Normal noise with the mean and the standard deviation of each channel of the sample.

    Args:
        seed: of the noise, which is the same for all samples and methods.
    """

    seed: int = 0

    def __str__(self) -> str:
        return "noise" + (f" seed {self.seed}" if self.seed else "")

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with noise in place of the masked entries."""
        mean, deviation = _moments(x, "Noise")
        return torch.where(masks, mean + deviation * _normal(x, self.seed), x)


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
        _check_image(x, "Blur")
        reach = min(math.ceil(3 * self.sigma), min(x.shape[1:]) - 1)
        width = 2 * reach + 1
        blurred: Tensor = gaussian_blur(x, [width, width], [self.sigma, self.sigma])
        return torch.where(masks, blurred, x)


@dataclass(frozen=True)
class Inpainting:
    """Each removed pixel is the weighted mean of its eight neighbours, plus noise.

    The pixels solve ``Σ_j w_ij (x_i − x_j) = 0``, with the weight 1/6 for direct and 1/12 for
    diagonal neighbours (ROAD, Rong et al. 2022, section 4). The filling shows less of the shape of
    the mask than a constant does. Needs scipy.

    Args:
        noise: standard deviation of the noise that is added, in units of the channel's own standard
            deviation. Without noise a model could see which pixels are smooth.
        seed: of the noise, which is the same for all samples and methods.
    """

    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_nonnegative("noise", self.noise)

    def __str__(self) -> str:
        settings = f" noise {self.noise:g}" if self.noise != 0.1 else ""
        return "inpainting" + settings + (f" seed {self.seed}" if self.seed else "")

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        """The sample with the solution in place of the masked pixels."""
        _check_image(x, "Inpainting")
        _, deviation = _moments(x, "Inpainting")
        noise = self.noise * deviation * _normal(x, self.seed)
        height, width = x.shape[1:]
        flat = masks.expand(len(masks), *x.shape)[:, 0].reshape(len(masks), -1).cpu().numpy()
        laplacian = _laplacian(height, width)
        values = x.detach().flatten(1).double().cpu().numpy()
        solved = torch.stack([_solve(laplacian, values, mask) for mask in flat])
        filled = solved.reshape(len(masks), *x.shape).to(x)
        return torch.where(masks, filled + noise, x)


def _solve(
    laplacian: csr_matrix,
    values: numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]],
    mask: numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]],
) -> Tensor:
    """The values ``(C, H · W)`` with the masked ones from their neighbours."""
    from scipy.sparse.linalg import splu

    filled = values.copy()
    if mask.all():  # no neighbour is known
        filled[:] = values.mean(1, keepdims=True)
    elif mask.any():
        rows = laplacian[mask]
        known = -(rows[:, ~mask] @ values[:, ~mask].T)
        # symmetric and positive definite: no pivoting needed
        factors = splu(
            rows[:, mask].tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        filled[:, mask] = factors.solve(known).T
    return torch.from_numpy(filled)


def _laplacian(height: int, width: int) -> csr_matrix:
    """``D − W`` of the pixels of an image, with W the weights of the eight neighbours."""
    try:
        from scipy.sparse import diags_array, eye_array, kron
    except ModuleNotFoundError:
        raise OptionError("Inpainting needs the package scipy: pip install scipy") from None

    def chain(size: int) -> csr_matrix:
        return diags_array([1.0, 1.0], offsets=[-1, 1], shape=(size, size))

    down, across = chain(height), chain(width)
    direct = kron(down, eye_array(width)) + kron(eye_array(height), across)
    weights = (direct / 6 + kron(down, across) / 12).tocsr()
    return (diags_array(weights.sum(axis=1)) - weights).tocsr()


def _moments(x: Tensor, imputer: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, of size 1 along the other dimensions."""
    if x.ndim < 2 or not x.is_floating_point():
        raise InputError(
            f"{imputer} needs samples (channels, …) of numbers, not {x.dtype} of shape "
            f"{tuple(x.shape)}; use Constant"
        )
    dims = tuple(range(1, x.ndim))
    return x.mean(dims, keepdim=True), x.std(dims, correction=0, keepdim=True)


def _normal(x: Tensor, seed: int) -> Tensor:
    """Normal noise of the shape of ``x``, the same on all devices."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(x.shape, generator=generator).to(x)


def _check_image(x: Tensor, imputer: str) -> None:
    if x.ndim != 3 or not x.is_floating_point() or min(x.shape[1:]) < 2:
        raise InputError(
            f"{imputer} needs images (C, H, W), not {x.dtype} of shape {tuple(x.shape)}; use "
            "Constant for tokens, columns and time steps"
        )
