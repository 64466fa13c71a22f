"""The lists on the pages of docs/ are what the library says."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
from dataclasses import fields
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest

from lrp_fx.attribution import Keywords, LRPFx, Options
from lrp_fx.relevance.handling import registry

DOCS = Path(__file__).parents[2] / "docs"
API = runpy.run_path(str(DOCS / "api.py"))


def test_the_page_is_what_the_modules_offer() -> None:
    """A change of the API is seen where it is made, and on the page."""
    expected = API["page"]()
    assert API["PAGE"].read_text(encoding="utf-8") == expected, "run: python docs/api.py"


@pytest.mark.parametrize("name", API["MODULES"])
def test_what_is_listed_is_there_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    for each in module.__all__:
        value = getattr(module, each)
        alias = get_origin(value) is not None  # documented in the source alone
        assert alias or not callable(value) or value.__doc__, each


def test_public_signatures_say_their_types() -> None:
    """Only the base of relevance nodes takes anything: its subclasses choose their arguments."""
    untyped = [line for line in API["page"]().splitlines() if re.search(r"\bAny\b", line)]
    assert all("*args: Any, **kwargs: Any" in line for line in untyped), untyped


def test_options_as_keywords_are_the_options() -> None:
    """Layers, neurons and concepts take the options as keywords."""
    assert get_type_hints(Keywords).keys() == {f.name for f in fields(Options)} - {"composite"}


def test_each_option_is_shown_and_described() -> None:
    """The options stand in one file, and users see them where they make an attribution."""
    shown = inspect.signature(LRPFx).parameters
    for field in fields(Options):
        assert shown[field.name].default == field.default
        assert re.search(rf"^ +{field.name}: ", LRPFx.__doc__ or "", re.MULTILINE), field.name


def test_the_page_is_what_the_registry_yields() -> None:
    """Protects the table of operations from growing stale."""
    made = runpy.run_path(str(DOCS / "operations.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), (
        "run: python docs/operations.py"
    )


def test_every_operation_says_its_default_and_its_source() -> None:
    """Protects the page from empty cells."""
    for operation in registry().values():
        assert operation.default_text, operation.name
        assert operation.source, operation.name
