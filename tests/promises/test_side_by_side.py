"""The page that compares pictures has the lines of its script, counted rightly."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = runpy.run_path(str(ROOT / "examples" / "side_by_side.py"))
PAGE = (ROOT / "docs" / "side_by_side.md").read_text(encoding="utf-8")


def test_the_lines_are_those_of_the_script_and_counted_rightly() -> None:
    codes = [MADE["lines_of"](drawer) for drawer in MADE["DRAWERS"]]
    assert all(code in PAGE for code in codes), "run: python examples/side_by_side.py --page ..."
    (row,) = re.findall(r"^\| statements, with imports \| (.*) \|$", PAGE, re.M)
    assert row.split(" | ") == [str(MADE["count"](code)) for code in codes]


def test_statements_are_counted() -> None:
    assert MADE["count"]("import a\n\nb = a(\n    1,\n)\nwith b:\n    c = 2\n") == 4


def test_its_picture_is_small() -> None:
    picture = ROOT / "docs" / "images" / "side_by_side.jpg"
    assert 10_000 < picture.stat().st_size < 100_000
