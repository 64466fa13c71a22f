"""Regions: which entries of an input are replaced together, as labels of the entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lrp_fx._common import check_count, is_int
from lrp_fx.errors import InputError, OptionError


class Regions(Protocol):
    """Divides the entries of one sample into regions."""

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """The region of each entry.

        Args:
            shape: of one sample, without the batch dimension.

        Returns:
            int64 of a shape that broadcasts to ``shape``, with the values 0 … K − 1.

        Raises:
            InputError: if samples of this shape have no such regions.
        """


@dataclass(frozen=True)
class Patches:
    """A grid of patches on images ``(C, H, W)``; all channels of a pixel go together.

    Where H or W is not a multiple of the grid, some patches are one pixel larger.

    Args:
        rows: how many patches from top to bottom.
        columns: how many from left to right; None for as many as rows.
    """

    rows: int = 14
    columns: int | None = None

    def __post_init__(self) -> None:
        check_count("rows", self.rows)
        if self.columns is not None:
            check_count("columns", self.columns)

    def __str__(self) -> str:
        return f"{self.rows} × {self.columns or self.rows} patches"

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """The patch of each pixel, ``(H, W)``."""
        columns = self.columns or self.rows
        if len(shape) != 3 or shape[1] < self.rows or shape[2] < columns:
            raise InputError(
                f"a grid of {self.rows} × {columns} patches needs images (C, H, W) of at least as "
                f"many pixels, not {tuple(shape)}; for tokens, columns or time steps use Positions"
            )
        height, width = shape[1:]
        row = torch.arange(height) * self.rows // height
        column = torch.arange(width) * columns // width
        return row[:, None] * columns + column


@dataclass(frozen=True)
class Positions:
    """The positions along one dimension: tokens, columns of a table, time steps, electrodes.

    Args:
        dim: the dimension, counted with the batch: 1 for tokens ``(N, T)``, embedded tokens
            ``(N, T, D)`` and tables ``(N, D)``, 2 for time in ``(N, C, T)``.
        width: how many neighbouring positions make one region.
    """

    dim: int = 1
    width: int = 1

    def __post_init__(self) -> None:
        check_count("width", self.width)
        if not is_int(self.dim) or self.dim == 0:
            raise OptionError(
                f"dim must be an int other than 0, the dimension of the batch, got {self.dim!r}"
            )

    def __str__(self) -> str:
        wide = f", {self.width} each" if self.width > 1 else ""
        return f"positions of dimension {self.dim}{wide}"

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """The region of each position, of size 1 along all other dimensions."""
        place = self.dim - 1 if self.dim > 0 else len(shape) + self.dim
        if not 0 <= place < len(shape):
            raise InputError(
                f"inputs of shape (N, {', '.join(map(str, shape))}) have no dimension {self.dim}"
            )
        sizes = [shape[place] if each == place else 1 for each in range(len(shape))]
        return (torch.arange(shape[place]) // self.width).reshape(sizes)


def region_means(relevance: Tensor, labels: Tensor) -> Tensor:
    """The mean relevance of each region; channels and features are summed.

    Args:
        relevance: ``(N, …)``, with the inputs' dimensions.
        labels: what :class:`Regions` return.

    Returns:
        ``(N, K)``.

    Raises:
        InputError: if the regions divide a dimension that the relevance lacks, such as channels.
    """
    sizes = relevance.shape[1:]
    if labels.ndim > len(sizes):
        raise InputError(
            f"regions of shape {tuple(labels.shape)} do not fit samples of shape {tuple(sizes)}"
        )
    own = (1,) * (len(sizes) - labels.ndim) + tuple(labels.shape)
    for dim, (size, regions) in enumerate(zip(sizes, own, strict=True), start=1):
        if regions not in (1, size):
            raise InputError(
                f"the regions divide dimension {dim} into {regions} entries, but the relevance of "
                f"shape {tuple(relevance.shape)} has {size} there: use regions along another "
                "dimension, or a method that returns relevance of the inputs' shape"
            )
    labels = labels.to(relevance.device)
    flat = labels.expand(relevance.shape[1:]).flatten()
    count = int(labels.max()) + 1
    sums = relevance.new_zeros(len(relevance), count).index_add(1, flat, relevance.flatten(1))
    return sums / labels.flatten().bincount(minlength=count)
