"""Pictures of relevance: red speaks for the explained class, blue against it, white is zero.

The maps are drawn as they are: one colour per pixel, without smoothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lrp_fx.concepts.figure import concept_figure
from lrp_fx.errors import InputError
from lrp_fx.run.figure import ledger_figure

__all__ = ["color_limit", "concept_figure", "explanation_figure", "heatmap", "ledger_figure"]

COLORS = "bwr"
FAINT = 0.15  # opacity of the grey photograph over a map
DPI = 100

# In dots: the approximate width of a panel, and the space beside, above and below the panels.
PANEL, GAP, ABOVE, BELOW = 448, 16, 72, 40


def heatmap(relevance: Tensor) -> Tensor:
    """Relevance per pixel: the sum over the channels.

    Args:
        relevance: ``(N, C, H, W)`` or ``(C, H, W)``.

    Returns:
        ``(N, H, W)`` or ``(H, W)``.

    Raises:
        InputError: for any other shape.
    """
    if relevance.ndim not in (3, 4):
        raise InputError(
            "a heatmap needs relevance of shape (C, H, W) or (N, C, H, W), "
            f"not {tuple(relevance.shape)}"
        )
    return relevance.sum(dim=-3)


def color_limit(heat: Tensor, quantile: float = 0.995) -> float:
    """The |R| at which a map reaches full colour: colours span -limit ... limit.

    The limit is a quantile, not the maximum, so that one extreme pixel cannot blank the map. The
    quantile is taken over nonzero pixels, so that the many zeros of a filtered map do not make it
    0. A map of zeros alone gets the limit 1.

    Args:
        heat: a map, ``(H, W)``.
        quantile: between 0 and 1.
    """
    size = heat.detach().abs().double().flatten()
    size = size[size > 0]
    return size.quantile(quantile).item() if size.numel() else 1.0


def explanation_figure(
    photograph: Image.Image, maps: Mapping[str, Tensor], *, title: str = ""
) -> Figure:
    """One row: the photograph, then each map with a faint grey copy of the photograph.

    At the figure's own resolution, each pixel of a map is a square of equally many dots.

    Args:
        photograph: what the network saw, in the size of the maps.
        maps: title of the panel → relevance ``(C, H, W)``, on any device. Each map has its own
            scale, which is printed below it, because filters change the size of relevance.
        title: the title of the figure, for example the explained class and its probability.

    Raises:
        InputError: if a map is not of shape ``(C, H, W)`` with the photograph's H and W.
    """
    width, height = photograph.size
    grey = photograph.convert("L")
    figure, (first, *others) = _row(1 + len(maps), width, height, title)
    first.imshow(photograph, interpolation="none")
    first.set_title("photograph")
    for axes, (name, relevance) in zip(others, maps.items(), strict=True):
        if relevance.shape[1:] != (height, width):
            raise InputError(
                f"the map {name!r} has shape {tuple(relevance.shape)}, "
                f"but the photograph needs (C, {height}, {width})"
            )
        heat = heatmap(relevance.detach())
        limit = color_limit(heat)
        axes.imshow(
            heat.float().cpu().numpy(), cmap=COLORS, vmin=-limit, vmax=limit, interpolation="none"
        )
        axes.imshow(grey, cmap="gray", alpha=FAINT, interpolation="none")
        axes.set_title(name)
        axes.set_xlabel(f"full colour at ±{limit:.2g}")
    for axes in (first, *others):
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _row(count: int, width: int, height: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels for images of the given size, enlarged by an integer factor."""
    zoom = max(1, round(PANEL / width))
    wide, high = width * zoom, height * zoom
    across, down = count * (wide + GAP) + GAP, ABOVE + high + BELOW
    figure = Figure(figsize=(across / DPI, down / DPI), dpi=DPI)
    figure.suptitle(title, y=1 - 0.2 * ABOVE / down)
    boxes = (
        ((GAP + place * (wide + GAP)) / across, BELOW / down, wide / across, high / down)
        for place in range(count)
    )
    return figure, [figure.add_axes(box) for box in boxes]
