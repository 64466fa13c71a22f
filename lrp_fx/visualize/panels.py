"""One panel of a figure of images: a photograph, a map, or both, and contour lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from lrp_fx.visualize.arrays import Floats
from lrp_fx.visualize.canvas import draw, enlarged
from lrp_fx.visualize.colors import Pixels, colorize, shares, text_color
from lrp_fx.visualize.look import Look, contour_levels
from lrp_fx.visualize.photographs import Picture, sketch
from lrp_fx.visualize.smoothing import smoothed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Style = Literal["outlines", "fade", "contours"]
STYLES = ("outlines", "fade", "contours")


class Panel:
    """The contents of one panel: pixels, and contour lines in the coordinates of these pixels."""

    def __init__(self, pixels: Pixels, lines: Floats | None = None) -> None:
        self.pixels = pixels
        self.lines = lines

    @classmethod
    def of_picture(cls, picture: Picture) -> Panel:
        """A photograph."""
        return cls(picture.pixels)

    @classmethod
    def of_map(cls, heat: Floats, limit: float, look: Look) -> Panel:
        """A map alone."""
        return cls(colorize(heat, limit, look.colors), heat)

    @classmethod
    def of_both(
        cls, heat: Floats, limit: float, picture: Picture, look: Look, style: Style
    ) -> Panel:
        """A map and its photograph."""
        height, width = picture.pixels.shape[:2]
        full = heat.repeat(height // heat.shape[0], axis=0).repeat(width // heat.shape[1], axis=1)
        if style == "contours":
            pixels: Floats = picture.pixels.astype(np.float64)
        elif style == "fade":
            opacity = np.minimum(1, 2 * np.abs(shares(full, limit)))[..., None]
            grey = 255 * (0.2 + 0.65 * picture.grey[..., None])  # neither black nor white
            pixels = grey + opacity * (colorize(full, limit, look.colors) - grey)
        else:
            paper = 0.68 + 0.32 * sketch(picture)[..., None]
            pixels = colorize(full, limit, look.colors) * paper
        return cls(np.rint(pixels).astype(np.uint8), full)

    def draw(self, axes: Axes, down: int, across: int, look: Look, *, on_photograph: bool) -> None:
        """Fill the axes."""
        pixels = enlarged(self.pixels, down, across)
        draw(axes, pixels)
        if self.lines is None or min(self.lines.shape) < 2:
            return
        sigma = max(1.0, max(self.lines.shape) / 40)
        largest = float(np.abs(self.lines).max()) or 1.0
        smooth_map = smoothed(self.lines / largest, sigma)
        ys = (np.arange(smooth_map.shape[0]) + 0.5) * down - 0.5
        xs = (np.arange(smooth_map.shape[1]) + 0.5) * across - 0.5
        for share in look.contours:
            levels = contour_levels(smooth_map, share)
            for level, line in zip(levels, ("solid", "dashed"), strict=True):
                if level is None:
                    continue
                ink = text_color(colorize(np.zeros(1), 1.0, look.colors)[0])
                if on_photograph:
                    axes.contour(xs, ys, smooth_map, [level], colors="white", linewidths=3.2)
                    side = np.array([1.0 if line == "solid" else -1.0])
                    ink = "#{:02x}{:02x}{:02x}".format(*colorize(side, 1.6, look.colors)[0])
                axes.contour(
                    xs, ys, smooth_map, [level], colors=ink, linewidths=1.4, linestyles=line
                )
