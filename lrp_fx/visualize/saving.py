"""Figures as pictures of PIL and as files, which are complete or not there."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from lrp_fx._common import needed, own_style, write_whole
from lrp_fx.errors import InputError, OptionError
from lrp_fx.visualize.arrays import Relevance
from lrp_fx.visualize.canvas import Class
from lrp_fx.visualize.maps import overlay, show
from lrp_fx.visualize.marks import Marks
from lrp_fx.visualize.panels import Style
from lrp_fx.visualize.photographs import Photographs, Statistics
from lrp_fx.visualize.scales import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

FORMATS = ("png", "pdf", "svg", "jpg", "jpeg", "webp", "tif", "tiff")


def to_bytes(figure: Figure, format: str = "png") -> bytes:
    """The file of a figure, in memory.

    Raises:
        InputError: if it is not a figure.
    """
    if not hasattr(figure, "savefig"):
        raise InputError(
            f"a figure is needed, such as show(relevance), not {type(figure).__name__}; "
            "save_heatmap(relevance, path) draws relevance and writes it"
        )
    file = io.BytesIO()
    with own_style():
        figure.savefig(file, format=format)
    return file.getvalue()


def to_pil(figure: Figure) -> Image.Image:
    """The figure as a picture of PIL, in RGB.

    Raises:
        OptionError: if pillow is missing.
    """
    with needed("pictures need"):
        from PIL import Image
    return Image.open(io.BytesIO(to_bytes(figure))).convert("RGB")


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure to a file. It appears when it is whole, and an error leaves an older file as it was.

    Args:
        figure: what the functions of this module return.
        path: the file; its ending says the format: png, pdf, svg, jpg, webp or tif.

    Returns:
        The path.

    Raises:
        OptionError: for another ending, or for something that is not a path.
        InputError: if the file cannot be written, or if it is not a figure.
    """
    try:
        place = Path(os.fsdecode(path))
    except TypeError:
        raise OptionError(f"path must name a file, got {type(path).__name__}") from None
    format = place.suffix.removeprefix(".").lower()
    if format not in FORMATS:
        raise OptionError(
            f"the name of a picture must end in one of {', '.join(FORMATS)}, got '{place}'"
        )
    return write_whole(place, to_bytes(figure, format), InputError)


class ShowOptions(TypedDict, total=False):
    """The keywords of :func:`~lrp_fx.visualize.show`."""

    target: Class | Sequence[Class]
    titles: Sequence[str] | None
    title: str
    colors: str
    scale: Scale
    percentile: float
    smooth: float
    contours: Sequence[float]
    mean: Statistics
    std: Statistics
    size: int
    marks: Marks


class OverlayOptions(ShowOptions, total=False):
    """The keywords of :func:`~lrp_fx.visualize.overlay`."""

    style: Style


def save_heatmap(
    relevance: Relevance,
    path: str | os.PathLike[str],
    photographs: Photographs | None = None,
    **options: Unpack[ShowOptions],
) -> Path:
    """Write what :func:`~lrp_fx.visualize.show` draws.

    Args:
        relevance: ``(C, H, W)`` or ``(N, C, H, W)``.
        path: the file.
        photographs: as in ``show``.
        options: the keywords of ``show``: ``target``, ``smooth``, ``mean``, ``std`` and the others.

    Returns:
        The path.

    Raises:
        InputError: as ``show``, or if the file cannot be written.
        OptionError: as ``show``.
    """
    return save(show(relevance, photographs, **options), path)


def save_overlay(
    relevance: Relevance,
    photographs: Photographs,
    path: str | os.PathLike[str],
    **options: Unpack[OverlayOptions],
) -> Path:
    """Write what :func:`~lrp_fx.visualize.overlay` draws.

    Args:
        relevance: ``(C, H, W)`` or ``(N, C, H, W)``.
        photographs: as in ``overlay``.
        path: the file.
        options: the keywords of ``overlay``: ``style``, ``target``, ``smooth`` and the others.

    Returns:
        The path.

    Raises:
        InputError: as ``overlay``, or if the file cannot be written.
        OptionError: as ``overlay``.
    """
    return save(overlay(relevance, photographs, **options), path)
