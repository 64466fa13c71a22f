"""Images: folders of them, and manifests (CSV or Parquet) that list them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from torch import Tensor

from lrp_fx._common import needed
from lrp_fx.dataset.sample import Sample, as_inputs, as_label, stamp_of
from lrp_fx.errors import InputError, blamed, name_of_function
from lrp_fx.visualize import as_pixels

if TYPE_CHECKING:
    from PIL import Image

Preprocess = Callable[["Image.Image"], Tensor]
"""From a photograph to the model's input, without the batch dimension."""

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
MOST_PIXELS = 100_000_000
"""A larger image is refused before it is decoded: a small file may ask for any memory."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files in one folder.

    Args:
        root: the folder. No file outside it is read, also not by paths or links.
        paths: relative to it.
        preprocess: makes the model's input of an image.
        labels: the classes, in the order of the paths; None if nothing is known of them.
        names: of the classes.
        ids: of the samples; the paths if None.
    """

    root: Path
    paths: Sequence[str]
    preprocess: Preprocess
    labels: Sequence[int | None] | None = None
    names: tuple[str, ...] = ()
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path, or the id that the manifest gives."""
        return self.paths[index] if self.ids is None else self.ids[index]

    def content(self) -> object:
        """Paths and classes, and the code of ``preprocess``."""
        return list(self.paths), self.labels, self.preprocess

    def stamp(self, samples: range) -> object:
        """Sizes and times of the files with these samples."""
        return [stamp_of(self.root / self.paths[index]) for index in samples]

    def read(self, index: int) -> Sample:
        """The sample of a file.

        Raises:
            InputError: if the file is outside the folder, missing or no image.
        """
        path = inside(self.root, self.paths[index])
        label = None if self.labels is None else as_label(self.labels[index])
        try:
            with open(path, "rb") as file:
                return Sample(self.name(index), prepared(file, self.preprocess), label)
        except OSError as error:
            raise InputError(f"cannot read the file: {error.strerror or error}") from error


def inside(root: Path, path: str) -> Path:
    """A regular file in a folder.

    Raises:
        InputError: if the path leads out of the folder, also by a link, or is not a regular file.
    """
    try:
        found = os.path.realpath(root / path, strict=True)
        kind = os.stat(found).st_mode
    except (OSError, RuntimeError, ValueError) as error:  # loops, zero bytes, names too long
        raise InputError(f"there is no such file: {getattr(error, 'strerror', error)}") from error
    if not Path(found).is_relative_to(os.path.realpath(root)):
        raise InputError("the path leads out of the folder of the data set")
    if not stat.S_ISREG(kind):
        raise InputError("it is not a regular file")
    return Path(found)


def prepared(file: BinaryIO, preprocess: Preprocess) -> Tensor:
    """The model's input of an image file.

    Raises:
        InputError: if it holds no image, one too large, or if ``preprocess`` fails.
    """
    return of_image(decoded(file), preprocess)


def decoded(file: BinaryIO) -> Image.Image:
    """The image in a file, upright and in RGB; transparent pixels lie on white.

    Raises:
        InputError: if it holds no image, or one too large.
    """
    with needed("images need"):
        from PIL import Image, ImageOps
    try:
        with Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"the image is too large: {image.width} × {image.height} pixels")
            ImageOps.exif_transpose(image, in_place=True)
            return Image.fromarray(as_pixels(image))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"the image is too large: more than {MOST_PIXELS} pixels") from error
    except Exception as error:  # whatever the decoders of damaged files raise
        raise InputError("it is not an image, or it is damaged") from error


def of_image(image: Image.Image, preprocess: Preprocess | None) -> Tensor:
    """The model's input of an image, by the user's function.

    Raises:
        InputError: if there is no function, or if it fails.
    """
    if preprocess is None:
        raise InputError(
            "images need preprocess=, the function that makes the model's input of one"
        )
    with blamed(f"preprocess {name_of_function(preprocess)!r}"):
        found = preprocess(image)
    return as_inputs(found)


def image_of_bytes(content: bytes, preprocess: Preprocess | None) -> Tensor:
    """The model's input of an encoded image."""
    return of_image(decoded(BytesIO(content)), preprocess)


def image_folder(root: Path, preprocess: Preprocess | None) -> ImageFiles:
    """All images in a folder, in the order of their paths.

    If all lie in subfolders, the subfolders of ``root`` are the classes, in alphabetical order; also
    those without images, so that the others keep their number. Hidden files and folders are left out.

    Raises:
        InputError: if there are none, if a folder cannot be read or is a link, or without ``preprocess``.
    """
    paths: list[str] = []
    names: tuple[str, ...] = ()
    try:
        for folder, inner, files in os.walk(root, onerror=_raise):
            inner[:] = sorted(each for each in inner if not each.startswith("."))
            links = [Path(folder, each) for each in inner if Path(folder, each).is_symlink()]
            if links:
                raise InputError(
                    f"'{links[0]}' is a link to a folder, and nothing behind links is read: put a folder "
                    "there, or name the data set by the folder that holds the images"
                )
            if Path(folder) == root:
                names = tuple(inner)
            paths += [
                Path(folder, name).relative_to(root).as_posix()
                for name in files
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
            ]
    except OSError as error:
        raise InputError(f"cannot read '{error.filename}': {error.strerror or error}") from error
    if not paths:
        raise InputError(f"there are no images ({', '.join(sorted(SUFFIXES))}) in '{root}'")
    if preprocess is None:
        raise InputError(
            "images need preprocess=, the function that makes the model's input of one"
        )
    paths.sort()
    if not all("/" in path for path in paths):
        return ImageFiles(root, paths, preprocess)
    places = {name: place for place, name in enumerate(names)}
    labels = [places[path.partition("/")[0]] for path in paths]
    return ImageFiles(root, paths, preprocess, labels, names)


def _raise(error: OSError) -> None:
    """Let a folder that cannot be read end the search: its images would be lost."""
    raise error
