"""The page in headless Chromium, of a model of one's own: upload, slide, patch, camera, visitors."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from lrp_fx import LRPFx
from tests.helpers.browser import SECONDS, until, watched_page
from tests.helpers.colour_classifier import NAMES, PREPROCESSING, ColourClassifier

ROOT = Path(__file__).parents[2]
CHANGED = "(old) => document.querySelector('#canvas img').src !== old"
ENDED = "(the server ended)"
SAME = 1e-5
"""Of max |R|: the same computation in another process."""


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, Path]
) -> Iterator[str]:
    """The address of ``lrp-fx app`` in a process of its own, with weights from a file."""
    pytest.importorskip("gradio", reason="gradio, which makes the page, is not installed")
    folder = tmp_path_factory.mktemp("own")
    weights, names = folder / "weights.safetensors", folder / "names.txt"
    save_file(ColourClassifier().state_dict(), weights)
    names.write_text("\n".join(NAMES))
    frames = folder / "frames"
    frames.mkdir()
    for number in range(8):
        name = "red" if number % 2 else "blue"
        (frames / f"{number}.png").write_bytes(photographs[name].read_bytes())
    own = PREPROCESSING
    command = [
        *(sys.executable, "-m", "lrp_fx.cli", "app", "--port", "0"),
        *("--model", "tests.helpers.colour_classifier:ColourClassifier"),
        *("--weights", str(weights), "--categories", str(names), "--frames", str(frames)),
        *("--resize", str(own.resize), "--crop", str(own.crop)),
        *("--mean", ",".join(map(str, own.mean)), "--std", ",".join(map(str, own.std))),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            lines.put(line)
        lines.put(ENDED)

    threading.Thread(target=read, daemon=True).start()
    try:
        said = ""
        while "http://" not in said:
            said += lines.get(timeout=2 * SECONDS)
            assert ENDED not in said, said
        yield said[said.index("http://") :].split()[0]
    finally:
        server.terminate()
        server.wait(SECONDS)
        assert server.stdout is not None
        server.stdout.close()


def test_picture(opened: Any, address: str, photographs: dict[str, Path], tmp_path: Path) -> None:
    """Upload, slide, choose a class, compare: prediction and picture change; files can be had."""
    with watched_page(opened) as page:
        page.goto(address)
        page.set_input_files("#photo input[type=file]", photographs["red"])
        page.wait_for_selector("#said:has-text('Explained: red')")
        assert page.inner_text("#bars h2").strip() == "red"
        whole = _source(page, "#relevance img")
        with page.expect_download() as download:
            page.click("#npy")
        download.value.save_as(tmp_path / "whole.npy")
        x = PREPROCESSING.tensor(Image.open(photographs["red"]))[None]
        expected = LRPFx(ColourClassifier().eval()).attribute(x, 0).numpy()
        found = np.load(tmp_path / "whole.npy")
        assert np.abs(found - expected).max() <= SAME * np.abs(expected).max()

        page.fill("#share input[type=number]", "5")
        page.press("#share input[type=number]", "Tab")
        page.wait_for_function(
            "(old) => document.querySelector('#relevance img')?.src !== old", arg=whole
        )
        filtered = _source(page, "#relevance img")
        page.fill("#class input", "blue")
        page.click("[role=option]:has-text('blue') >> nth=0")
        page.wait_for_selector("#said:has-text('Explained: blue')")
        assert _source(page, "#relevance img") != filtered

        assert page.locator(".key span[style*='#803200']").first.is_visible()  # orange
        page.get_by_label("Colours").first.click()
        page.click("[role=option]:has-text('purple-green')")
        page.wait_for_selector(".key span[style*='#035d28']")

        page.get_by_role("tab", name="Why").click()
        page.click("#ask")
        page.wait_for_selector("#way img[src^='data:']")
        page.wait_for_selector("#summary:has-text('The books balance')")
        assert "No explosion" in page.inner_text("#summary")
        assert "first" in page.inner_text("#ledger")


def test_patches(opened: Any, address: str, photographs: dict[str, Path]) -> None:
    """A click and a drag change prediction and map; reset brings the photograph back."""
    with watched_page(opened) as page:
        page.goto(address)
        page.get_by_role("tab", name="Patches").click()
        page.set_input_files("#patch-photo input[type=file]", photographs["red"])
        page.wait_for_selector("#patch-relevance img")
        page.wait_for_selector("#canvas img[src^='data:']")
        before, bars = _source(page, "#canvas img"), page.inner_text("#patch-bars")
        page.get_by_label("black").check()
        box = page.locator("#canvas img").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2, steps=3)
        page.mouse.up()
        page.wait_for_function(CHANGED, arg=before)
        page.wait_for_function(
            "(old) => document.querySelector('#patch-bars').innerText !== old", arg=bars
        )
        dragged = _source(page, "#canvas img")
        page.locator("#canvas img").click()
        page.wait_for_function(CHANGED, arg=dragged)
        page.click("#reset")
        page.wait_for_function(
            "(old) => document.querySelector('#canvas img').src === old", arg=before
        )


def test_live(opened: Any, address: str) -> None:
    """The camera streams with its rate, is recorded, and a folder of frames is played without it."""
    with watched_page(opened) as page:
        page.goto(address)
        page.get_by_role("tab", name="Live").click()
        page.locator("#record input").check()
        page.get_by_text("Click to Access Webcam").click()
        page.locator("#camera button[aria-label='capture photo']").click()
        page.wait_for_selector("#rate:has-text('frames/s')")
        page.wait_for_selector("#rate:has-text('recorded 3 ')")
        assert any(name in page.inner_text("#rate") for name in ("red", "blue"))
        page.locator("#camera").get_by_text("Stop").click()
        page.click("#save")
        page.wait_for_selector("#written a")
        page.locator("#record input").uncheck()
        page.get_by_text("No camera?").click()
        before = _source(page, "#view img")
        page.click("#play")
        page.wait_for_function(
            "(old) => document.querySelector('#view img').src !== old", arg=before
        )


def test_broken_upload_is_a_sentence(opened: Any, address: str, tmp_path: Path) -> None:
    """A file that is no picture, and one with too many pixels."""
    broken, huge = tmp_path / "broken.png", tmp_path / "huge.png"
    broken.write_bytes(b"no picture")
    Image.new("1", (8000, 8000)).save(huge)
    with watched_page(opened) as page:
        page.goto(address)
        page.set_input_files("#photo input[type=file]", broken)
        page.wait_for_selector("text=holds no picture that can be read")
    with watched_page(opened) as page:
        page.goto(address)
        page.set_input_files("#photo input[type=file]", huge)
        page.wait_for_selector("text=64 million pixels")


def test_visitors_get_their_own_results(
    opened: Any, address: str, photographs: dict[str, Path]
) -> None:
    """Two visitors at once: each sees and downloads its own."""
    with watched_page(opened) as first, watched_page(opened) as second:
        visits = {"red": first, "blue": second}
        for page in visits.values():
            page.goto(address)
        for name, page in visits.items():
            page.set_input_files("#photo input[type=file]", photographs[name])
        for name, page in visits.items():
            page.wait_for_selector(f"#said:has-text('Explained: {name}')")
            until(page, "document.querySelector('#npy a, #npy')")
        assert _source(first, "#relevance img") != _source(second, "#relevance img")


def test_requests_are_bounded(address: str) -> None:
    """Another name of the host is refused, and so is a request that is too large."""
    for headers, status in (
        ({"Host": "evil.example"}, 400),
        ({"Content-Length": "999999999"}, 413),
    ):
        request = urllib.request.Request(address, b"", headers, method="POST")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=SECONDS)
        assert caught.value.code == status
        caught.value.close()


def _source(page: Any, selector: str) -> str:
    return str(page.locator(selector).first.get_attribute("src"))
