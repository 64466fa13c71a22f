"""Private names of torch stand in one file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrp_fx

ROOT = Path(lrp_fx.__file__).parent
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.name != "private_torch.py"]


def _is_private(name: str) -> bool:
    """Whether a dotted name of torch has a part with one underscore before it; ATen's operations may."""
    parts = name.split(".")
    is_operation = parts[:2] == ["torch", "ops"]
    return parts[0] == "torch" and not is_operation and any(p[:1] == "_" != p[1:2] for p in parts)


def _private_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module:
            name = " ".join(f"{node.module}.{each.name}" for each in node.names)
        else:
            continue
        yield from (each for each in name.split() if _is_private(each))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_names_one(path: Path) -> None:
    assert not list(_private_names(path))


def test_the_file_names_some() -> None:
    assert list(_private_names(ROOT / "graph" / "private_torch.py"))
