"""Photographs from files; what reads them is imported where one is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrp_fx.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


def read_photograph(file: Path) -> Image.Image:
    """The photograph in ``file``, upright and in RGB.

    Raises :class:`InputError` if there is none.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    # PIL's decoders let all of these through on damaged files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = getattr(error, "strerror", None) or "it is no image, or damaged"
        raise InputError(f"cannot read {file}: {why}") from error
