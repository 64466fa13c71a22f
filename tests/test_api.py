"""The public API is what docs/api.md lists."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "api.py"
MADE = runpy.run_path(str(SCRIPT))


def test_the_page_is_what_the_modules_offer() -> None:
    """A change of the API is seen where it is made, and on the page."""
    expected = MADE["page"]()
    assert MADE["PAGE"].read_text(encoding="utf-8") == expected, "run: python docs/api.py"


@pytest.mark.parametrize("name", MADE["MODULES"])
def test_what_is_listed_is_there_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    for each in module.__all__:
        value = getattr(module, each)
        assert not callable(value) or value.__doc__, each
