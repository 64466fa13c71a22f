"""The figure that the command line draws: the photograph, and its maps beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from lrp_fx.visualize.maps import grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


def explanation_figure(
    photograph: Image.Image, maps: Mapping[str, Tensor], *, title: str = "", target: str = ""
) -> Figure:
    """One row: the photograph, then each map. Each value of a map is a square of equally many dots.

    Args:
        photograph: what the network saw, in the size of the maps.
        maps: title of the panel → relevance ``(C, H, W)``, on any device. Each map has its own
            scale, which is printed below it, because filters change the size of relevance.
        title: the title of the figure, for example the explained class and its probability.
        target: the explained class, for the words at the colour bar.

    Raises:
        InputError: if a map is not of shape ``(C, H, W)`` with the photograph's H and W.
        OptionError: if matplotlib is missing.
    """
    return grid(maps, photograph, title=title, target=target, size=448)
