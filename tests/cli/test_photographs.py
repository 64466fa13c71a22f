"""Photographs of every kind: read right, with a remark, or refused in one sentence."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrp_fx.cli import read_photograph
from lrp_fx.cli.photographs import open_photograph
from lrp_fx.errors import InputError

MUTATED = 60
"""So many damaged pictures in the quick tests."""


def test_photographs_are_upright(tmp_path: Path) -> None:
    """A camera's rotation flag is obeyed: the network sees what the user sees."""
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turned by a quarter
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_photograph(tmp_path / "turned.jpg").size == (10, 20)


@pytest.mark.parametrize(
    ("values", "name", "white"),
    [
        (np.array([[0, 257 * 100, 65535]], dtype=np.uint16), "deep.png", (0, 100, 255)),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), "float.tif", (0, 128, 255)),
        (np.array([[0, 100, 255]], dtype=np.uint8), "grey.png", (0, 100, 255)),
    ],
)
def test_deep_photographs_are_scaled(
    tmp_path: Path, values: np.ndarray, name: str, white: tuple[int, ...]
) -> None:
    """16 bits and floats are scaled, not cut at 255."""
    Image.fromarray(values).save(tmp_path / name)
    found = open_photograph(tmp_path / name)
    assert np.asarray(found.image).tolist() == [[[value] * 3 for value in white]]
    assert ("scaled" in " ".join(found.remarks)) == (name != "grey.png")


def test_transparency_lies_on_white_and_is_said(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    found = open_photograph(tmp_path / "clear.png")
    assert found.image.getpixel((0, 0)) == (255, 255, 255)
    assert found.remarks == ("its transparent pixels lie on white",)
    Image.new("RGBA", (1, 1), (255, 0, 0, 255)).save(tmp_path / "opaque.png")
    assert open_photograph(tmp_path / "opaque.png").remarks == ()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"]
)
def test_every_mode_is_read(tmp_path: Path, mode: str) -> None:
    kind = "tif" if mode in ("CMYK", "I", "F", "I;16") else "jpg" if mode == "YCbCr" else "png"
    base = Image.linear_gradient("L")
    (base.convert("I").convert(mode) if mode == "I;16" else base.convert("RGB").convert(mode)
     if mode not in ("I", "F") else base.convert(mode)).save(tmp_path / f"x.{kind}")  # fmt: skip
    found = open_photograph(tmp_path / f"x.{kind}")
    assert found.image.mode == "RGB"
    assert len(np.unique(np.asarray(found.image))) > 1
    assert ("CMYK" in " ".join(found.remarks)) == (mode == "CMYK")


def test_the_first_of_several_pictures_is_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    found = open_photograph(tmp_path / "x.gif")
    assert found.remarks == ("the first of its 2 pictures is taken",)
    assert found.image.getpixel((0, 0)) == (255, 0, 0)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """Nothing waits for a pipe; errors of the operating system keep their reason."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for path, reason in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe.png", "a pipe"),
        (Path(os.devnull), "a device"),
        (tmp_path / "loop.png", "symbolic links|levels"),
        (tmp_path / ("a" * 300), "too long"),
        (tmp_path / "a\0b.png", "null"),
        (tmp_path / "nowhere.png", "No such file"),
    ):
        with pytest.raises(InputError, match=reason):
            read_photograph(path)


def test_huge_pictures_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "x.png")
    for limit in (9_000, 4_000):  # pillow warns of the first and refuses the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match="million pixels: make it smaller"):
            read_photograph(tmp_path / "x.png")


def test_other_kinds_are_not_opened(tmp_path: Path) -> None:
    """pillow would start a program of its own for PostScript."""
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    )
    with pytest.raises(InputError, match="not an image of a known kind"):
        read_photograph(tmp_path / "x.png")


def _originals() -> list[tuple[str, bytes]]:
    """Small pictures of several formats, as files."""
    gradient = Image.linear_gradient("L").resize((40, 30))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8769] = 6, "words", {0x9003: "2020"}
    found = []
    for kind, image, options in (
        ("JPEG", gradient.convert("RGB"), {"exif": exif}),
        ("PNG", gradient.convert("RGBA"), {"exif": exif}),
        ("TIFF", gradient.convert("F"), {}),
        ("GIF", gradient, {}),
        ("BMP", gradient, {}),
        ("WEBP", gradient.convert("RGB"), {"exif": exif}),
    ):
        file = io.BytesIO()
        image.save(file, kind, **options)
        found.append((kind.lower(), file.getvalue()))
    return found


def _survives_damage(folder: Path, count: int) -> None:
    """Every damaged picture is read, or refused by a documented error."""
    rng, refused = random.Random(0), list[str]()
    originals = _originals()
    for number in range(count):
        kind, whole = originals[number % len(originals)]
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 4, 16))):
            data[rng.randrange(min(400, len(data)))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        file = folder / f"x.{kind}"
        file.write_bytes(data)
        try:
            assert read_photograph(file).mode == "RGB"
        except InputError as error:
            refused.append(str(error))
    assert 0 < len(refused) < count
    assert all(text.startswith(f"cannot read {folder}") for text in refused)


def test_damaged_pictures_are_documented_errors(tmp_path: Path) -> None:
    _survives_damage(tmp_path, MUTATED)


@pytest.mark.slow
def test_many_damaged_pictures_are_documented_errors(tmp_path: Path) -> None:
    _survives_damage(tmp_path, 2000)
