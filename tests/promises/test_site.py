"""The site has all pages and all of the API, and the package's links come from one address."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def pages_of(nav: Any) -> list[str]:
    """All pages of a navigation, in its order."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages_of(part)]


def test_every_page_is_in_the_navigation_once() -> None:
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    listed = pages_of(SITE["nav"])
    assert sorted(listed) == sorted(there)


def test_the_reference_has_every_public_module() -> None:
    modules = runpy.run_path(str(DOCS / "api.py"))["MODULES"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("reference/*.md"))
    assert set(re.findall(r"^::: (\S+)$", text, re.M)) == set(modules)


def test_the_site_fetches_nothing() -> None:
    """Fonts, formulas and scripts are its own, so that readers are not counted by others."""
    assert SITE["theme"]["font"] is False
    own = [*SITE["extra_javascript"], *SITE["extra_css"], *SITE["extra"]["polyfills"]]
    assert all((DOCS / path).is_file() for path in own)
    # the plugin offline would fetch a script of this name, unless there is one
    assert "offline" in SITE["plugins"]
    assert any("iframe-worker" in path for path in SITE["extra"]["polyfills"])


@pytest.fixture
def hook() -> ModuleType:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.pop("hatch_build", None)
    spec.loader.exec_module(module)
    return module


def test_without_an_address_nothing_is_invented(hook: ModuleType) -> None:
    assert hook.urls("") == {}


def test_with_an_address_links_are_absolute(hook: ModuleType) -> None:
    text = "![a cat](docs/cat.png) [guide](docs/guide.md#x) [b](https://b.org) [c](#here)"
    assert hook.absolute(text, "https://host/me/it") == (
        "![a cat](https://host/me/it/raw/main/docs/cat.png) "
        "[guide](https://host/me/it/blob/main/docs/guide.md#x) [b](https://b.org) [c](#here)"
    )
    inside = "[![a cat](docs/cat.png)<br>The cat](docs/gallery.md#cat)"
    assert hook.absolute(inside, "https://host/me/it") == (
        "[![a cat](https://host/me/it/raw/main/docs/cat.png)<br>The cat]"
        "(https://host/me/it/blob/main/docs/gallery.md#cat)"
    )
    assert hook.urls("https://host/me/it")["Issues"] == "https://host/me/it/issues"
