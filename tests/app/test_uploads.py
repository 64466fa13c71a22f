"""Uploads: what is read, and a sentence for everything else."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrp_fx.app.uploads import LARGEST_UPLOAD, LONGEST_SIDE, read_upload
from lrp_fx.errors import InputError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
MUTANTS = 60


def _bytes(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def test_files_and_data_urls_are_read(tmp_path: Path) -> None:
    """The same picture both ways."""
    content = _bytes(PICTURE)
    (tmp_path / "a.png").write_bytes(content)
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    for upload in (tmp_path / "a.png", str(tmp_path / "a.png"), url):
        assert (np.asarray(read_upload(upload)) == np.asarray(PICTURE)).all()


def test_photographs_stand_upright_and_small(tmp_path: Path) -> None:
    """EXIF's orientation is followed, alpha lies on white, and long sides are shortened."""
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "turned.jpg").write_bytes(_bytes(PICTURE, "JPEG", exif=exif))
    assert read_upload(tmp_path / "turned.jpg").size == (40, 60)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_upload(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    Image.new("RGB", (4000, 1000)).save(tmp_path / "long.jpg")
    assert read_upload(tmp_path / "long.jpg").size == (LONGEST_SIDE, LONGEST_SIDE // 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "holds no picture"),
        (_bytes(PICTURE)[:200], "holds no picture"),
        (_bytes(Image.new("1", (8000, 8000))), "64 million pixels"),
        (b"\0" * (LARGEST_UPLOAD + 1), "at most 20 MB"),
    ],
)
def test_broken_files_are_sentences(tmp_path: Path, content: bytes, words: str) -> None:
    """Empty, of another kind, cut, too many pixels, too many bytes."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_upload(tmp_path / "file")


def test_missing_uploads_are_sentences(tmp_path: Path) -> None:
    """Nothing, no file, and damaged data URLs."""
    for upload, words in (
        (None, "no photograph yet"),
        (tmp_path / "nowhere", "cannot be read"),
        ("data:image/jpeg;base64,%%%", "damaged"),
        ("data:image/jpeg;base64,AAAA", "holds no picture"),
        ("data:image/jpeg," + "A" * (2 * LARGEST_UPLOAD), "more than 20 MB"),
    ):
        with pytest.raises(InputError, match=words):
            read_upload(upload)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_damaged_files_are_read_or_sentences(tmp_path: Path, format: str) -> None:
    """Random bytes of a good file are changed: the only error is ours."""
    whole = np.frombuffer(_bytes(PICTURE, format), np.uint8)
    random = np.random.default_rng(0)
    for _ in range(MUTANTS // 6):
        mutant = whole.copy()
        mutant[random.integers(0, len(mutant), 8)] = random.integers(0, 256, 8)
        (tmp_path / "file").write_bytes(mutant.tobytes())
        with suppress(InputError):
            assert read_upload(tmp_path / "file").mode == "RGB"


@pytest.mark.parametrize("upload", ["a\0b.png", "data:image/png;base64,é", "data:image/png"])
def test_what_no_browser_sends_is_a_sentence(upload: str) -> None:
    """Visitors can send any text in place of a file or a frame."""
    with pytest.raises(InputError):
        read_upload(upload)


def test_too_many_pixels_are_named(tmp_path: Path) -> None:
    """Also so many that the decoder itself refuses them."""
    for side in (6_400, 12_000, 20_000):
        file = tmp_path / "large.png"
        Image.new("1", (side, side)).save(file)
        with pytest.raises(InputError, match="pixels; at most 40 million"):
            read_upload(file)
