"""The public API is what docs/api.md lists."""

from __future__ import annotations

import importlib
import re
import runpy
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from lrp_fx.attribution import Keywords, Options

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


def test_public_signatures_say_their_types() -> None:
    """Only the base of relevance nodes takes anything: its subclasses choose their arguments."""
    page = MADE["page"]()
    untyped = [line for line in page.splitlines() if re.search(r"\bAny\b", line)]
    assert all("*args: Any, **kwargs: Any" in line for line in untyped), untyped


def test_options_as_keywords_are_the_options() -> None:
    """What layers, neurons and concepts take as keywords is what the options are."""
    assert get_type_hints(Keywords).keys() == {f.name for f in fields(Options)} - {"composite"}
