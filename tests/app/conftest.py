"""One browser for all pages, and photographs of one colour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.browser import browser, write_camera


def coloured(first: str, second: str, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """The left half of one colour, the right half of another, with some texture."""
    picture = Image.new("RGB", size, first)
    picture.paste(second, (size[0] // 2, 0, *size))
    noise = np.random.default_rng(0).integers(-20, 20, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files: mostly red, and mostly blue."""
    folder = tmp_path_factory.mktemp("photographs")
    found = {}
    for name, pair in {"red": ("red", "darkred"), "blue": ("navy", "blue")}.items():
        found[name] = folder / f"{name}.png"
        coloured(*pair).save(found[name])
    return found


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser whose camera shows red, then blue."""
    frames = [coloured(name, name, (320, 240)) for name in ("red", "blue") for _ in range(8)]
    camera = write_camera(tmp_path_factory.mktemp("camera") / "film.y4m", frames)
    with browser(camera) as found:
        yield found
