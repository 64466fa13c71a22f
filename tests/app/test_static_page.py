"""The static page: in Chromium and in Node it computes what torch computes, and asks no other host."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lrp_fx import LRPFx
from lrp_fx.app import runtime, write_page
from lrp_fx.errors import OptionError
from tests.helpers.browser import until, watched_page
from tests.helpers.colour_classifier import (
    NAMES,
    PREPROCESSING,
    ColourClassifier,
    colour_classifier,
)

RUNTIME = 1e-4
"""Of max |R|: another runtime sums in another order."""
PIXEL = 1.01 / 255 / 0.25
"""In the model's input: resampling may round a pixel to its neighbour."""
SHARES = (1, 0.29, 0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small model."""
    kept = runtime.cache_folder()
    if not all((kept / name).is_file() for name in runtime.FILES):
        pytest.skip("onnxruntime-web is not in the cache (lrp_fx.app.fetch_runtime fetches it)")
    return write_page(colour_classifier(), tmp_path_factory.mktemp("page") / "out")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The folder, served by Python's own server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["red", "blue"])
def test_browser_computes_what_torch_computes(
    opened: Any, address: str, photographs: dict[str, Path], name: str
) -> None:
    """A dropped picture, a slide and another class: each map is that of ``attribute``."""
    with watched_page(opened) as page:
        page.goto(address)
        page.wait_for_selector("#file:not([disabled])")
        page.set_input_files("#file", photographs[name])
        until(page, "window.lrpfx?.state.result && !window.lrpfx.state.busy")
        state = _state(page)
        assert NAMES[state["target"]] == name
        assert name in page.inner_text("#classes button[aria-pressed=true]")
        expected = PREPROCESSING.tensor(Image.open(photographs[name])).numpy().ravel()
        assert np.abs(state["input"] - expected).max() <= PIXEL
        _assert_same_map(state)
        before = page.evaluate("document.getElementById('map').toDataURL()")
        for share in SHARES[1:]:
            page.fill("#share", str(round(100 * share)))
            until(page, f"Math.abs(window.lrpfx.state.result.share - {share}) < 1e-9")
            _assert_same_map(_state(page))
        assert page.evaluate("document.getElementById('map').toDataURL()") != before
        page.click("#classes button[aria-pressed=false] >> nth=0")
        until(page, f"window.lrpfx.state.result.target !== {state['target']}")
        _assert_same_map(_state(page))


def test_camera_streams(opened: Any, address: str) -> None:
    """The camera's frames are explained one after the other, with their rate, until it is stopped."""
    with watched_page(opened) as page:
        page.goto(address)
        page.wait_for_selector("#file:not([disabled])")
        page.click("#camera")
        until(page, "window.lrpfx.state.times.length > 3")
        assert "frames/s" in page.inner_text("#rate")
        assert NAMES[_state(page)["target"]] in ("red", "blue")
        page.click("#camera")
        until(page, "document.getElementById('rate').textContent === ''")


def test_broken_picture_is_a_sentence(opened: Any, address: str, tmp_path: Path) -> None:
    """A file that is no picture, and a class that there is not."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with watched_page(opened) as page:
        page.goto(address)
        page.wait_for_selector("#file:not([disabled])")
        page.set_input_files("#file", broken)
        page.wait_for_selector("#status:has-text('holds no picture')")


def test_node_computes_what_torch_computes(folder: Path) -> None:
    """The same file under Node, for each share."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    script = """
import fs from "node:fs";
import { pathToFileURL } from "node:url";
const { folder, image, shares } = JSON.parse(fs.readFileSync(0));
const { Explainer } = await import(pathToFileURL(`${folder}/explainer.mjs`).href);
const read = (name) => fs.readFileSync(`${folder}/${name}`);
const settings = JSON.parse(read("settings.json"));
const wasm = read("ort-wasm-simd-threaded.wasm");
const explainer = await Explainer.load(read("explainer.onnx"), settings.input, wasm);
const found = [];
for (const share of shares) {
  const { target, relevance } = await explainer.run(Float32Array.from(image), null, share);
  found.push({ target, share, relevance: [...relevance] });
}
console.log(JSON.stringify(found));
"""
    asked = {"folder": str(folder), "image": image.ravel().tolist(), "shares": SHARES}
    answer = subprocess.run(
        [node, "--input-type=module", "--eval", script],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    for state in json.loads(answer.stdout):
        _assert_same_map({"input": image.numpy().ravel(), **state})


def test_unknown_preprocessing_is_a_sentence(tmp_path: Path) -> None:
    """The page prepares pictures itself, so it must know how."""
    from dataclasses import replace

    unknown = replace(colour_classifier(), preprocessing=None)
    with pytest.raises(OptionError, match="prepares pictures itself"):
        write_page(unknown, tmp_path / "page")


def _state(page: Any) -> dict[str, Any]:
    found = page.evaluate(
        "(() => { const { input, result } = window.lrpfx.state;"
        " return { input: [...input], target: result.target, share: result.share,"
        " relevance: [...result.relevance] }; })()"
    )
    return {**found, "input": np.array(found["input"], np.float32)}


def _assert_same_map(state: dict[str, Any]) -> None:
    x = torch.from_numpy(np.array(state["input"], np.float32)).reshape(1, 3, 32, 32)
    lrp = LRPFx(ColourClassifier().eval(), top_k=state["share"])
    expected = lrp.attribute(x, state["target"]).numpy().ravel()
    largest = np.abs(expected).max()
    assert largest > 0
    assert np.abs(np.array(state["relevance"]) - expected).max() <= RUNTIME * largest
