"""Uploads of visitors: bounded in bytes and pixels; one that cannot be read is a short error."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

from PIL import Image, ImageOps

from lrp_fx.errors import InputError
from lrp_fx.visualize import as_pixels

LARGEST_UPLOAD = 20 * 2**20
"""In bytes."""
MOST_PIXELS = 40_000_000
"""Of a photograph; cameras have less than that today. It is checked before anything is decoded."""
LONGEST_SIDE = 1024
"""A photograph with a longer side is made smaller once, because networks see far less."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
"""Only these decoders see uploads."""
DATA_URL = "data:image/"


def read_upload(upload: str | os.PathLike[str] | None) -> Image.Image:
    """The photograph of a visitor, upright and in RGB, at most ``LONGEST_SIDE`` long.

    Args:
        upload: a file, or a data URL, as a camera in the browser sends it.

    Raises:
        InputError: if there is none, if it is too large, or if it holds no picture that can be
            read.
    """
    if upload is None:
        raise InputError("there is no photograph yet: upload one, or choose an example")
    if isinstance(upload, str) and upload.startswith(DATA_URL):
        return _decoded(io.BytesIO(_of_data_url(upload)))
    return _decoded(io.BytesIO(_of_file(Path(upload))))


def _of_file(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= LARGEST_UPLOAD else b""
    except (OSError, ValueError) as error:  # no path may hold a zero byte
        why = getattr(error, "strerror", None) or error
        raise InputError(f"the file cannot be read: {why}") from error
    if size > LARGEST_UPLOAD:
        raise InputError(
            f"the file has {size / 2**20:.0f} MB; at most {LARGEST_UPLOAD // 2**20} MB are read"
        )
    return content


def _of_data_url(url: str) -> bytes:
    if len(url) > LARGEST_UPLOAD * 4 // 3:
        raise InputError(f"the picture has more than {LARGEST_UPLOAD // 2**20} MB")
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except ValueError as error:  # binascii.Error is one, and letters beyond ASCII are another
        raise InputError("the camera's picture arrived damaged") from error


def _decoded(stream: io.BytesIO) -> Image.Image:
    try:
        with Image.open(stream, formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels > MOST_PIXELS:
                raise InputError(
                    f"the photograph has {pixels / 1e6:.0f} million pixels; at most "
                    f"{MOST_PIXELS / 1e6:.0f} million are read"
                )
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # JPEG decodes to about this size
            upright = Image.fromarray(as_pixels(ImageOps.exif_transpose(image)))
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            "the photograph has far too many pixels; at most "
            f"{MOST_PIXELS / 1e6:.0f} million are read"
        ) from error
    # decoders of PIL raise many kinds of errors on damaged files, and EXIF data adds more
    except Exception as error:
        raise InputError(
            "this file holds no picture that can be read (JPEG, PNG, WebP, GIF, BMP or TIFF), or it "
            "is damaged"
        ) from error
    upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return upright
