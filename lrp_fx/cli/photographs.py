"""Reads photographs from files. Pillow is imported only when one is read."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrp_fx.errors import InputError, LRPError, lacks_memory
from lrp_fx.visualize import as_pixels

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read; pillow would start other programs for some others, such as EPS."""
NO_IMAGE = "it is not an image of a known kind, or it is damaged"
_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


@dataclass(frozen=True)
class Photograph:
    """A photograph, and what was changed when it was read.

    Args:
        image: upright, in 8-bit RGB.
        remarks: what the user should know, a clause for each.
    """

    image: Image.Image
    remarks: tuple[str, ...] = ()


def read_photograph(file: Path) -> Image.Image:
    """The photograph in ``file``, upright and in RGB; transparent pixels lie on white.

    What the network gets is what :func:`~lrp_fx.visualize.as_pixels` shows, also of 16-bit files.

    Raises:
        InputError: if the file holds no image that can be read.
    """
    return open_photograph(file).image


def open_photograph(file: Path) -> Photograph:
    """The photograph in ``file``, with remarks on what was changed.

    Raises:
        InputError: if the file holds no image that can be read; the message names the file and the
            reason. Pictures of more pixels than pillow believes are refused before they are read.
    """
    from PIL import Image

    check_readable(file)
    with _blaming(file):
        Image.init()
        with Image.open(file, formats=[each for each in FORMATS if each in Image.OPEN]) as image:
            image.load()
            upright, damage = _upright(image)
            remarks = [*damage, *_remarks(image)]
            return Photograph(Image.fromarray(as_pixels(upright)), tuple(remarks))


def check_readable(file: Path) -> None:
    """Raise an ``InputError`` unless this is a file; a pipe would be waited for without end."""
    try:
        mode = os.stat(file).st_mode
        if stat.S_ISDIR(mode):
            os.listdir(file)  # a folder that may not be read is in the list of files as itself
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:  # a name with a zero byte
        raise InputError(f"cannot read {str(file)!r}: {error}") from error
    for is_kind, words in _KINDS:
        if is_kind(mode):
            raise InputError(f"cannot read {file}: {words}")


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Turn whatever pillow raises and warns of into one sentence about the file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that are not needed
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except LRPError as error:
        raise InputError(f"cannot read {file}: {error}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(
            f"cannot read {file}: it has more than {(Image.MAX_IMAGE_PIXELS or 0) // 10**6} million "
            "pixels: make it smaller first"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read {file}: {NO_IMAGE}") from error
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or NO_IMAGE}") from error
    except Exception as error:  # damaged files make decoders raise anything
        if lacks_memory(error):
            raise InputError(f"cannot read {file}: there is not enough memory for it") from error
        raise InputError(f"cannot read {file}: {NO_IMAGE}") from error


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image turned as its camera was held, and a remark if that is not known."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image), []
    except Exception as error:  # damaged tags make the parser raise anything
        if lacks_memory(error):
            raise
        return image, ["its EXIF data are damaged, so it may be turned"]


def _remarks(image: Image.Image) -> Iterator[str]:
    """The changes when the image becomes 8-bit RGB."""
    if image.mode.startswith("I;16"):
        yield "its 16-bit grey values are scaled to 8 bits"
    elif image.mode in ("I", "F"):
        yield "its values are scaled from their minimum (black) to their maximum (white)"
    elif image.mode == "CMYK":
        yield "its printing colours (CMYK) are converted to RGB without their profile"
    if image.has_transparency_data and _is_seen_through(image):
        yield "its transparent pixels lie on white"
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's, whose other pictures are previews
        yield f"the first of its {frames} pictures is taken"


def _is_seen_through(image: Image.Image) -> bool:
    """Whether any pixel is not opaque."""
    alpha = image.convert("RGBA").getchannel("A")
    lowest = alpha.getextrema()[0]
    return isinstance(lowest, (int, float)) and lowest < 255
