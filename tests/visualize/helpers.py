"""Reading pictures back."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lrp_fx.visualize import to_pil


def panel(figure: Figure, axes: Axes) -> NDArray[np.uint8]:
    """The dots of a panel as they are in the picture, (H, W, 3)."""
    pixels = np.asarray(to_pil(figure))
    high, wide = pixels.shape[:2]
    box = axes.get_position()
    rows = slice(round((1 - box.y1) * high), round((1 - box.y0) * high))
    return pixels[rows, slice(round(box.x0 * wide), round(box.x1 * wide))]


def texts(figure: Figure) -> str:
    """Everything that is written outside the panels, in one line."""
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)
