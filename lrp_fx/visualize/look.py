"""How maps are drawn: colours, scale, smoothing, contours; and the sentences that state it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from lrp_fx._common import check_count, check_nonnegative
from lrp_fx.errors import OptionError
from lrp_fx.visualize.arrays import Floats
from lrp_fx.visualize.colors import DEFAULT, table_of
from lrp_fx.visualize.marks import Marks, as_marks
from lrp_fx.visualize.scales import PERCENTILE, Limits, Scale, limits_of, sentences
from lrp_fx.visualize.smoothing import grid_in, smoothed


@dataclass(frozen=True)
class Look:
    """How the maps of a figure are drawn.

    Args:
        colors: one of :func:`~lrp_fx.visualize.color_maps`, or a name of matplotlib.
        scale: see :data:`~lrp_fx.visualize.scales.Scale`.
        percentile: the percentile of the nonzero |R| that gets full colour.
        smooth: the standard deviation of the Gaussian weights, in pixels; 0 for none.
        contours: lines around the smallest regions that hold these shares of the positive, and of
            the negative, relevance.
        size: about how many dots the longer side of a map gets.
        marks: pixels and boxes that are marked in each panel.

    Raises:
        OptionError: for a value that an option cannot have.
    """

    colors: str = DEFAULT
    scale: Scale = "own"
    percentile: float = PERCENTILE
    smooth: float = 0.0
    contours: Sequence[float] = ()
    size: int = 448
    marks: Marks = ()

    def __post_init__(self) -> None:
        check_nonnegative("smooth", self.smooth)
        check_count("size", self.size)
        table_of(self.colors)
        as_marks(self.marks)
        listed = isinstance(self.contours, Sequence) and not isinstance(self.contours, str)
        if not listed or any(
            isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < 1
            for share in self.contours
        ):
            raise OptionError(
                "contours must be shares of the relevance between 0 and 1, such as (0.5,), "
                f"got {self.contours!r}"
            )

    def limits(self, maps: Sequence[Floats]) -> Limits:
        """The limits of the maps, which are smoothed already."""
        return limits_of(maps, self.scale, self.percentile)

    def smoothed(self, maps: Floats) -> Floats:
        """The maps (N, H, W) as they are drawn."""
        return smoothed(maps, min(self.smooth, 2.0 * max(maps.shape[1:])))

    def notes(
        self, maps: Sequence[Floats], limits: Limits, *, colored: bool = True
    ) -> tuple[str, ...]:
        """What must be said under a figure of maps (N, H, W) each, before smoothing."""
        found = [limits.words] if colored else []
        if self.smooth:
            found.append(f"smoothed: Gaussian weights, σ = {self.smooth:g} pixels")
        elif colored:
            grids = {grid for each in maps if (grid := grid_in(each)) is not None}
            found += [str(max(grids, key=lambda grid: grid.ratio))] if grids else []
        if self.contours:
            shares = ", ".join(f"{share:.0%}" for share in self.contours)
            found.append(
                f"lines: the smallest regions with {shares} of what speaks for the explained class "
                "(solid) and of what speaks against it (dashed), smoothed by 1/40 of the longer side"
            )
        if not any(each.any() for each in maps):
            found.append("all relevance is zero")
        return (sentences(found),)


def contour_levels(smooth_map: Floats, share: float) -> tuple[float | None, float | None]:
    """The levels above which the positive, and below which the negative, relevance has a share.

    The region is the smallest one: it takes the largest values first, until their sum is ``share``
    of the sum of all. None where there is nothing to draw.
    """
    found: list[float | None] = []
    for sign in (1, -1):
        values = np.sort(np.clip(sign * smooth_map, 0, None), axis=None)[::-1]
        largest = float(values[0])
        sums = np.cumsum(values / largest) if largest else np.zeros(1)
        if not sums[-1]:
            found.append(None)
            continue
        level = float(values[np.searchsorted(sums, share * sums[-1])])
        inside = float((sign * smooth_map).min()) < level < largest
        found.append(sign * level if inside else None)
    return found[0], found[1]
