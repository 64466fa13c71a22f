"""A headless Chromium, found and not fetched; and what a page may do in tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
SECONDS = 60
"""What a busy machine may take for one step."""
LOCAL = ("http://127.0.0.1:", "data:", "blob:")


def chromium() -> str:
    """The path of a Chromium; the test is skipped if there is none, or no playwright."""
    pytest.importorskip("playwright", reason="playwright, which steers browsers, is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    return found


@contextmanager
def browser(camera: Path) -> Iterator[Any]:
    """A browser whose camera shows a file."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=path, args=[*OPTIONS, f"--use-file-for-fake-video-capture={camera}"]
        )
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def watched_page(opened: Any) -> Iterator[Any]:
    """A page that must ask no other host and raise no error in its scripts."""
    page = opened.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(1000 * SECONDS)
    try:
        yield page
        assert asked
        assert [url for url in asked if not url.startswith(LOCAL)] == []
        assert errors == []
    finally:
        page.close()


def until(page: Any, expression: str) -> None:
    """Wait until a JavaScript expression is true. A strict page forbids playwright's own way."""
    deadline = monotonic() + SECONDS
    while not page.evaluate(f"Boolean({expression})"):
        assert monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(50)


def write_camera(path: Path, pictures: list[Image.Image]) -> Path:
    """A film for the camera, as YUV4MPEG2 without compression; it runs in a circle."""
    width, height = pictures[0].size
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F15:1 Ip A1:1 C420jpeg\n".encode())
        for picture in pictures:
            y, u, v = np.moveaxis(np.asarray(picture.convert("YCbCr")), 2, 0)
            file.write(b"FRAME\n" + y.tobytes() + u[::2, ::2].tobytes() + v[::2, ::2].tobytes())
    return path
