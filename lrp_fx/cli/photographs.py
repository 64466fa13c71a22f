"""Reads photographs from files. Pillow is imported only when one is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrp_fx.errors import InputError
from lrp_fx.visualize import as_pixels

if TYPE_CHECKING:
    from PIL import Image


def read_photograph(file: Path) -> Image.Image:
    """The photograph in ``file``, upright and in RGB; transparent pixels lie on white.

    What the network gets is what :func:`~lrp_fx.visualize.as_pixels` shows, also of 16-bit files.

    Raises:
        InputError: if the file holds no image that can be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            return Image.fromarray(as_pixels(ImageOps.exif_transpose(image)))
    # PIL's decoders raise all of these on damaged files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = getattr(error, "strerror", None) or "it is no image, or damaged"
        raise InputError(f"cannot read {file}: {why}") from error
