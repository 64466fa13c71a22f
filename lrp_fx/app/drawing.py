"""Maps as plain pictures, fast enough for a live view: no axes, no words."""

from __future__ import annotations

import base64
import io
from typing import Literal

import numpy as np
from PIL import Image
from torch import Tensor

from lrp_fx.visualize import as_pixels, color_limit, colorize, heatmap

Style = Literal["map", "overlay"]
STYLES: tuple[Style, ...] = ("map", "overlay")
COLORS = "blue-orange"
FULL = 0.5
"""From this share of full colour on, the colour covers the photograph."""
QUALITY = 85
"""Of JPEG."""


def draw(
    relevance: Tensor,
    picture: Image.Image,
    *,
    style: Style = "map",
    colors: str = COLORS,
    side: int | None = None,
) -> Image.Image:
    """The map alone, or over the grey photograph.

    Args:
        relevance: (1, C, H, W).
        picture: what the model saw.
        style: ``"map"`` or ``"overlay"``.
        colors: see :func:`~lrp_fx.visualize.color_maps`.
        side: the length of the longer side of the result in pixels; None for that of the map.
    """
    heat = heatmap(relevance, dims=2)[0].cpu().double().numpy()
    limit = color_limit(heat)
    pixels = colorize(heat, limit, colors)
    if style == "overlay":
        below = as_pixels(picture.convert("L").resize(pixels.shape[1::-1])).astype(np.float64)
        part = np.clip(np.abs(heat) / limit / FULL, 0, 1)[..., None]
        pixels = np.rint(pixels * part + below * (1 - part)).astype(np.uint8)
    drawn = Image.fromarray(pixels)
    if side is None:
        return drawn
    scale = side / max(drawn.size)
    return drawn.resize(
        (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale))),
        Image.Resampling.NEAREST,
    )


def encoded(picture: Image.Image, format: Literal["JPEG", "PNG"] = "JPEG") -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    picture.save(stream, format, quality=QUALITY)
    return stream.getvalue()


def data_url(content: bytes, kind: str = "jpeg") -> str:
    """A picture's file as a URL that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
