"""What the commands share: finding photographs, rules by name, devices, folders, one-line messages."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console

from lrp_fx.composites import Composite, EpsilonGammaBox
from lrp_fx.errors import InputError
from lrp_fx.zoo import LoadedModel

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PICTURE = ".lrp.png"  # the end of every picture's name, so that no picture replaces a photograph


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files in ``paths``, each once. Folders are searched recursively.

    Hidden files and pictures of earlier runs in folders are skipped. A path that does not exist is
    kept, so that reading it raises an error about it.

    Raises:
        InputError: if there are no files at all.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _walk(path) if path.is_dir() else (path,):
            found.setdefault(file.resolve(), file)
    if not found:
        searched = ", ".join(str(path) for path in paths)
        raise InputError(f"there are no images ({', '.join(sorted(SUFFIXES))}) in {searched}")
    return list(found.values())


def _walk(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        image = file.suffix.lower() in SUFFIXES and file.is_file()
        if image and not hidden and not file.name.endswith(PICTURE):
            yield file


def composite_for(loaded: LoadedModel, name: str | None) -> Composite | str | None:
    """The composite called ``name``, with the bounds of the model's input if it needs them."""
    return EpsilonGammaBox(*loaded.bounds) if name == "epsilon_gamma_box" else name


def move(loaded: LoadedModel, device: str) -> None:
    """Move the model to a device.

    Raises:
        InputError: if it cannot compute there.
    """
    try:
        loaded.model.to(torch.device(device))
    except (AssertionError, RuntimeError) as error:  # torch raises either one, with a long message
        reason = str(error).partition("\n")[0]
        raise InputError(f"cannot compute on device {device!r}: {reason}") from error


def make_folder(out: Path, what: str) -> None:
    """Make a folder for results.

    Raises:
        InputError: if it cannot be made; the message says what was to be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {what} to {out}: {error.strerror}") from error


def say(console: Console, text: str) -> None:
    """Print a line unchanged: paths may contain rich markup, and must not be wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def say_error(errors: Console, error: Exception) -> None:
    """Print an error in one line."""
    say(errors, f"error: {error}")
