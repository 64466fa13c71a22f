"""Localisation: does the relevance lie where the evidence is known to be?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lrp_fx._common import check_count, check_flag, check_made, check_seed, is_int
from lrp_fx.errors import InputError, OptionError
from lrp_fx.evaluate.metric import (
    Explain,
    Forward,
    check_label,
    name_of,
    relevance_of,
    settings_of,
)
from lrp_fx.evaluate.regions import Regions, region_means


@dataclass(frozen=True, kw_only=True)
class MosaicFocus:
    """The share of the positive relevance on the right picture of a mosaic (Arias-Duart et al. 2022).

    Each image stands beside three of other classes in 2 × 2 mosaics, at a random place. Its class is
    explained, and ``Σ R⁺ in its quadrant / Σ R⁺`` is averaged over its mosaics. A quarter is chance,
    and what a map without positive relevance gets. Use images whose class the model recognises.

    In many maps pixels of both signs lie side by side, and cancel when they are looked at from afar.
    Of single pixels their positive part counts, so such maps get a low score. With ``regions`` the
    relevance of each region is summed first, as region perturbation does.

    Args:
        regions: of one image, such as ``Patches()``; None for single pixels.
        mosaics: of each image.
        seed: of the choice of the other images and of the places.
        shrink: whether mosaics get the size of one image, for models of a fixed size.
        batch_size: mosaics that are explained at once.
    """

    higher_is_better: ClassVar[bool] = True

    regions: Regions | None = None
    mosaics: int = 2
    seed: int = 0
    shrink: bool = False
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_count("mosaics", self.mosaics)
        check_count("batch_size", self.batch_size)
        check_flag("shrink", self.shrink)
        check_seed(self.seed)
        if self.regions is not None:
            check_made("regions", self.regions)

    @property
    def name(self) -> str:
        """``focus``."""
        return name_of(self, "focus")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``.

        Raises:
            InputError: if the inputs are not images, or not of four classes.
        """
        if inputs.ndim != 4:
            raise InputError(f"focus needs images (N, C, H, W), not {tuple(inputs.shape)}")
        choices = choose_mosaics(targets.tolist(), self.mosaics, self.seed)
        owners = torch.arange(len(inputs), device=targets.device).repeat_interleave(self.mosaics)
        found = []
        for start in range(0, len(choices), self.batch_size):
            some = choices[start : start + self.batch_size]
            images = torch.stack([mosaic(inputs[list(four)]) for four, _ in some])
            if self.shrink:
                images = shrunk(images, tuple(inputs.shape[2:]))
            explained = targets[owners[start : start + self.batch_size]]
            heat = relevance_of(explain, images, explained).sum(1)
            parts = self._of_regions(quadrants(heat))
            places = torch.tensor([place for _, place in some])
            found.append(quadrant_share(parts, places))
        return torch.cat(found).reshape(len(inputs), -1).mean(1)

    def _of_regions(self, parts: Tensor) -> Tensor:
        """The relevance of the regions of each quadrant, from ``(N, 4, H, W)`` to ``(N, 4, K)``."""
        if self.regions is None:
            return parts.flatten(2)
        count, _, height, width = parts.shape
        labels = self.regions((1, height, width))
        return region_means(parts.reshape(-1, 1, height, width), labels).reshape(count, 4, -1)


def choose_mosaics(
    targets: Sequence[int], count: int, seed: int
) -> list[tuple[tuple[int, ...], int]]:
    """``count`` mosaics for each image: the places of four images of four classes, and its quadrant.

    Raises:
        InputError: if there are fewer than four classes.
    """
    if len(set(targets)) < 4:
        raise InputError(
            f"a mosaic needs images of four classes, but these are of {len(set(targets))}: add images "
            "or leave this metric out"
        )
    draw = random.Random(seed)
    chosen = []
    for own, target in enumerate(targets):
        for _ in range(count):
            classes = {target}
            others: list[int] = []
            while len(others) < 3:
                other = draw.randrange(len(targets))
                if targets[other] not in classes:
                    classes.add(targets[other])
                    others.append(other)
            quadrant = draw.randrange(4)
            chosen.append(((*others[:quadrant], own, *others[quadrant:]), quadrant))
    return chosen


def mosaic(four: Tensor) -> Tensor:
    """Four images ``(4, C, H, W)`` as one of twice the size, ``(C, 2H, 2W)``, row by row."""
    rows = torch.cat([four[:2], four[2:]], dim=2)
    return torch.cat([rows[0], rows[1]], dim=2)


def shrunk(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Images ``(N, C, H, W)`` of a smaller size, of the same type. Whole numbers are rounded."""
    precise = images if images.dtype == torch.float64 else images.float()
    smaller = F.interpolate(precise, size=size, mode="area")
    if not images.is_floating_point():
        smaller = smaller.round()
    return smaller.to(images.dtype)


def quadrants(heat: Tensor) -> Tensor:
    """The quadrants of maps ``(N, 2H, 2W)`` of mosaics, row by row, ``(N, 4, H, W)``.

    The last row or column of a map of odd size is left out.
    """
    height, width = (size // 2 for size in heat.shape[1:])
    parts = heat[:, : 2 * height, : 2 * width].reshape(-1, 2, height, 2, width)
    return parts.transpose(2, 3).flatten(1, 2)


def quadrant_share(parts: Tensor, places: Tensor) -> Tensor:
    """The share of the positive relevance in one quadrant of each mosaic, ``(N,)``.

    Args:
        parts: relevance of the quadrants, ``(N, 4, K)``.
        places: the quadrant, 0 to 3, of each mosaic, ``(N,)``.
    """
    inside = torch.zeros_like(parts, dtype=torch.bool)
    inside[torch.arange(len(parts)), places] = True
    return positive_share(parts, inside).cpu()


def positive_share(heat: Tensor, inside: Tensor) -> Tensor:
    """``Σ R⁺ inside / Σ R⁺`` of each sample; without positive relevance the share of the area.

    Args:
        heat: ``(N, …)``.
        inside: bool, ``(N, …)``.

    Returns:
        ``(N,)``, float64.
    """
    positive = heat.double().clamp(min=0).flatten(1)
    within = inside.flatten(1).double()
    total = positive.sum(1)
    return torch.where(total > 0, (positive * within).sum(1) / total, within.mean(1))


@dataclass(frozen=True, kw_only=True, eq=False)
class RelevanceShare:
    """The share of the positive relevance at a known place, ``Σ R⁺ inside / Σ R⁺``.

    It is the relevance mass accuracy of Arras et al. 2022. Chance is the share of the area; a map
    without positive relevance gets this value.

    Args:
        masks: True at the known place: ``(N, H, W)`` for images, ``(N, T)`` for tokens and time series,
            ``(N, D, H, W)`` for volumes, or of the relevance's shape.
        label: a word for the name, to tell several places apart.
    """

    higher_is_better: ClassVar[bool] = True

    masks: Tensor = field(repr=False)
    label: str | None = None

    def __post_init__(self) -> None:
        check_label(self.label)

    def __repr__(self) -> str:
        return settings_of(self)

    @property
    def name(self) -> str:
        """``share at the place``, and the label."""
        return name_of(self, "share at the place")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        heat, masks = _at_places(relevance_of(explain, inputs, targets), self.masks)
        return positive_share(heat, masks)


@dataclass(frozen=True, kw_only=True, eq=False)
class PointingGame:
    """Whether the largest relevance lies at a known place (Zhang et al. 2018).

    1 for a hit, 0 for a miss. If several entries are equally large, it is the share of them that hits.

    Args:
        masks: True at the known place: ``(N, H, W)`` for images, ``(N, T)`` for tokens and time series,
            ``(N, D, H, W)`` for volumes, or of the relevance's shape.
        tolerance: by how many pixels or positions a hit may miss the place, in every direction.
        label: a word for the name, to tell several places apart.
    """

    higher_is_better: ClassVar[bool] = True

    masks: Tensor = field(repr=False)
    tolerance: int = 0
    label: str | None = None

    def __post_init__(self) -> None:
        if not is_int(self.tolerance) or self.tolerance < 0:
            raise OptionError(f"tolerance must be an int of at least 0, got {self.tolerance!r}")
        check_label(self.label)

    def __repr__(self) -> str:
        return settings_of(self)

    @property
    def name(self) -> str:
        """``pointing game``, the tolerance and the label."""
        return name_of(self, "pointing game")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        heat, masks = _at_places(relevance_of(explain, inputs, targets), self.masks)
        if self.tolerance:
            masks = _grown(masks, self.tolerance)
        heat, masks = heat.flatten(1), masks.flatten(1)
        largest = heat == heat.amax(1, keepdim=True)
        return (largest & masks).sum(1).double() / largest.sum(1)


def _at_places(relevance: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The relevance without its channels or features, and the masks, of equal shape."""
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        kind = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"masks must be a bool tensor, not {kind}")
    own = (1, 2) if relevance.ndim == 3 else (1,)  # dimensions of channels or features
    sizes = [relevance.shape[:dim] + relevance.shape[dim + 1 :] for dim in own]
    fitting = [dim for dim, size in zip(own, sizes, strict=True) if size == masks.shape]
    if len(fitting) == 2:
        raise InputError(
            f"masks of shape {tuple(masks.shape)} may belong to either dimension of relevance of shape "
            f"{tuple(relevance.shape)}: make them (N, T, 1) for tokens, (N, 1, T) for time series"
        )
    if fitting:
        masks = masks.unsqueeze(fitting[0])
    for dim in own:
        if masks.ndim == relevance.ndim and masks.shape[dim] == 1:
            relevance = relevance.sum(dim, keepdim=True)
    if relevance.shape != masks.shape:
        raise InputError(
            f"masks of shape {tuple(masks.shape)} do not fit relevance of shape "
            f"{tuple(relevance.shape)}: they must be (N, H, W) for images, (N, T) for tokens and time "
            "series, (N, D, H, W) for volumes"
        )
    return relevance, masks.to(relevance.device)


def _grown(masks: Tensor, by: int) -> Tensor:
    """Masks, larger by some entries in every direction; channels of images and volumes stay apart."""
    pool = {2: F.max_pool1d, 5: F.max_pool3d}.get(masks.ndim, F.max_pool2d)
    separate = masks.double() if masks.ndim > 3 else masks.double()[:, None]
    grown: Tensor = pool(separate, 2 * by + 1, stride=1, padding=by)
    return grown.reshape(masks.shape) > 0
