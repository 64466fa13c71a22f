"""Marks on figures of images: a cross at a pixel, a rectangle around a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, TypeAlias

from lrp_fx._common import entries
from lrp_fx.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Marks: TypeAlias = Sequence[Sequence[float]]
"""Pixels (row, column) and boxes (top, left, bottom, right)."""

CROSS, EDGE, UNDER = 9.0, 1.6, 3.4  # points
INK, GROUND = "#111111", "#ffffff"


@dataclass(frozen=True)
class Mark:
    """A pixel or a box.

    Args:
        places: ``(row, column)``, or ``(top, left, bottom, right)`` without the last row and column.
    """

    places: tuple[float, ...]

    def draw(self, axes: Axes, down: float, across: float) -> None:
        """Draw it, dark with a light edge, so that it is seen on any ground.

        Args:
            axes: of the panel.
            down: how many dots a pixel has from top to bottom.
            across: and from left to right.
        """
        from matplotlib.patches import Rectangle

        if len(self.places) == 2:
            row, column = self.places
            y, x = (row + 0.5) * down - 0.5, (column + 0.5) * across - 0.5
            for color, width in ((GROUND, UNDER), (INK, EDGE)):
                size = CROSS + (width - EDGE)
                axes.plot([x], [y], "+", color=color, markersize=size, markeredgewidth=width)
            return
        top, left, bottom, right = self.places
        corner = (left * across - 0.5, top * down - 0.5)
        size_of = ((right - left) * across, (bottom - top) * down)
        for color, width in ((GROUND, UNDER), (INK, EDGE)):
            axes.add_patch(
                Rectangle(corner, *size_of, fill=False, edgecolor=color, linewidth=width)
            )


def as_marks(marks: Marks) -> tuple[Mark, ...]:
    """The marks, checked.

    Raises:
        OptionError: unless each is two or four finite numbers.
    """
    listed = None if isinstance(marks, str) else entries(marks)
    if listed is None:
        raise OptionError(_wanted(marks))
    return tuple(Mark(_numbers(each)) for each in listed)


def _numbers(mark: object) -> tuple[float, ...]:
    values = list(entries(mark) or ())
    numbers = [each.item() if hasattr(each, "item") else each for each in values]
    right = all(isinstance(each, Real) and abs(float(each)) < float("inf") for each in numbers)
    if len(numbers) not in (2, 4) or not right:
        raise OptionError(_wanted(mark))
    return tuple(map(float, numbers))


def _wanted(given: object) -> str:
    return (
        "marks must be a list of pixels (row, column) and boxes (top, left, bottom, right), "
        f"got {given!r}"
    )
