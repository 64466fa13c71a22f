"""The pictures of the gallery: their lines run, their files are there and small."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from tests.helpers.pages import ROOT, python_blocks

pytest.importorskip("sklearn")
pytest.importorskip("transformers")
MADE: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "images" / "gallery.py"))
LINES: dict[str, str] = MADE["blocks"]()
SLOW = {"ledger", "concepts", "photograph", "segmentation", "sentences", "transformer", "words"}
"""These run EfficientNet-Lite0, or models that take seconds to read."""
CASES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in LINES]


@pytest.mark.parametrize("name", CASES)
def test_the_lines_of_a_picture_draw_it(name: str) -> None:
    """With networks that were trained for one step: the lines are the same."""
    with torch.random.fork_rng():
        names = MADE["PICTURES"][name](0.0)
        exec(compile(LINES[name], f"docs/gallery.md: {name}", "exec"), names)
    assert isinstance(names["figure"], Figure)


def test_the_page_and_the_script_have_the_same_pictures() -> None:
    """A block that is not found would neither be drawn nor tested."""
    assert set(LINES) == set(MADE["PICTURES"])
    assert len(python_blocks(MADE["PAGE"])) == len(LINES) + 1  # the imports
    for name, lines in LINES.items():
        own = lines.removeprefix(python_blocks(MADE["PAGE"])[0].code).strip().splitlines()
        assert len(own) == 3, name


def test_the_pictures_are_there_and_small() -> None:
    found = {path.stem: path.stat().st_size for path in MADE["FOLDER"].iterdir()}
    assert set(found) == set(LINES)
    assert max(found.values()) <= MADE["LARGEST"]
