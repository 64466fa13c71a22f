"""The rooms of the house: each imports from those before it alone, through what they offer."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrp_fx

ROOT = Path(lrp_fx.__file__).parent
MADE = runpy.run_path(str(ROOT.parent / "docs" / "house.py"))
COUNTS = runpy.run_path(str(ROOT.parent / "docs" / "counts.py"))
ORDER: tuple[str, ...] = MADE["ORDER"]
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT or path.stem in ORDER]
PUBLIC = ("composites", "zoo")
"""Their ``__init__`` lists what users are offered; the library also takes what is not for them."""
LAZY = (
    *("lrp_fx._common.figure", "lrp_fx.run.figure", "lrp_fx.concepts.figure"),
    "lrp_fx.evaluate.figure",
)
"""Need matplotlib, so that no ``__init__`` may import them."""


def room_of(path: Path) -> str:
    """The folder or file right under the package."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The modules of the library that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lrp_fx."):
            yield str(node.module)


def test_the_order_names_every_room() -> None:
    rooms = {room_of(path) for path in ROOT.rglob("*.py")} - {"__init__"}
    assert rooms == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_come_from_earlier_rooms(path: Path) -> None:
    mine = ORDER.index(room_of(path))
    later = [name for name in imports(path) if ORDER.index(name.split(".")[1]) > mine]
    assert not later


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_reaches_past_the_door(path: Path) -> None:
    past = [
        name
        for name in imports(path)
        if name.split(".")[1] not in (room_of(path), *PUBLIC)
        if len(name.split(".")) > 2 and name not in LAZY
    ]
    assert not past


def test_no_files_import_each_other() -> None:
    """Also not inside functions, or for types alone."""
    assert not COUNTS["circles"](COUNTS["imports"]())
    assert COUNTS["circles"]({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


def test_the_table_is_what_the_modules_say() -> None:
    """Protects the table of modules from growing stale."""
    page: Path = MADE["PAGE"]
    assert page.read_text(encoding="utf-8") == MADE["page"](), "run: python docs/house.py"


def test_the_way_of_a_call_names_functions_that_are_there() -> None:
    """Protects the page's walk through one call from renamed functions and files."""
    text = MADE["PAGE"].read_text(encoding="utf-8")
    walk = text[text.index("## One call") : text.index("## Capture")]
    pairs = re.findall(r"`([\w.]+)`[^`]*\(`(\w+/\w+\.py)`\)", walk)
    assert len(pairs) > 10
    for name, file in pairs:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"(def|class) {name.rpartition('.')[2]}\b", source), (name, file)
