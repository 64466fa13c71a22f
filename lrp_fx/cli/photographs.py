"""Reads photographs from files. Pillow is imported only when one is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrp_fx.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


def read_photograph(file: Path) -> Image.Image:
    """The photograph in ``file``, upright and in RGB.

    Raises:
        InputError: if the file holds no image that can be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    # PIL's decoders raise all of these on damaged files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = getattr(error, "strerror", None) or "it is no image, or damaged"
        raise InputError(f"cannot read {file}: {why}") from error
