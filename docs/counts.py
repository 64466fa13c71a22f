"""Count the house: ``python docs/counts.py`` prints its rooms, imports, circles and lines of code."""

from __future__ import annotations

import ast
import io
import runpy
import sys
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lrp_fx"
TABLES = ("graph/operations.py", "graph/private_torch.py")
"""Where lists of ATen operations belong."""
LIST = 3
"""A collection of at least this many ATen operations, and mostly of them, is a list of them."""


def order() -> tuple[str, ...]:
    """The rooms, in the order in which they may import."""
    rooms: tuple[str, ...] = runpy.run_path(str(ROOT / "docs" / "house.py"))["ORDER"]
    return rooms


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def modules() -> dict[str, Path]:
    """The modules of the package and their files."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports() -> dict[str, set[str]]:
    """The modules that each module imports from, inside functions and for types alone too."""
    known = modules()
    found: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found[name] |= {each if each in known else node.module for each in names}
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
    return {name: (each & known.keys()) - {name} for name, each in found.items()}


def circles(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """The pairs of modules that import each other, directly or through others."""
    below = {name: _reached(graph, name) for name in graph}
    groups = {
        tuple(sorted(each for each in graph if each in below[name] and name in below[each]))
        for name in graph
    }
    return sorted(group for group in groups if len(group) > 1)


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def room_of(module: str) -> str:
    """The folder or file right under the package."""
    return module.split(".")[1] if "." in module else "__init__"


def floors(graph: Mapping[str, set[str]]) -> int:
    """The length of the longest chain of rooms that import each other."""
    height: dict[str, int] = {}
    for room in order():
        below = {
            room_of(each)
            for name, found in graph.items()
            if room_of(name) == room
            for each in found
        }
        height[room] = 1 + max((height.get(each, 0) for each in below - {room}), default=0)
    return max(height.values())


def code_lines(folder: Path) -> int:
    """The lines with code, as they are formatted; without comments and docstrings."""
    return sum(len(_coded(path)) for path in folder.rglob("*.py"))


def _coded(path: Path) -> set[int]:
    text, lines = path.read_text(encoding="utf-8"), set()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped and token.type != tokenize.ENDMARKER:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def hand_lists() -> Iterator[str]:
    """The places of lists of ATen operations outside of the table of operations."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place in TABLES:
            continue
        inner: set[int] = set()
        for node in ast.walk(tree(path)):  # from the outside to the inside
            if isinstance(node, (ast.Set, ast.List, ast.Tuple)):
                found = list(_flat(node))
                inner |= {id(each.value) for each in node.elts if isinstance(each, ast.Starred)}
                count = sum(map(_is_operation, found))
                if id(node) not in inner and LIST <= count > len(found) / 2:
                    yield f"{place}:{node.lineno}"


def _flat(node: ast.Set | ast.List | ast.Tuple) -> Iterator[ast.expr]:
    """The entries of a collection, also of collections that are unpacked in it."""
    for each in node.elts:
        part = each.value if isinstance(each, ast.Starred) else None
        if isinstance(part, (ast.Set, ast.List, ast.Tuple)):
            yield from _flat(part)
        else:
            yield each


def _is_operation(node: ast.expr) -> bool:
    """Whether an expression is ``aten.NAME``, or the name of an operation as a text."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "aten"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        return hasattr(torch.ops.aten, node.value)
    return False


def ignores() -> int:
    """The lines of the library that a type checker ignores."""
    return sum(
        path.read_text(encoding="utf-8").count("# type: ignore") for path in PACKAGE.rglob("*.py")
    )


def main() -> None:
    """Print the counts."""
    graph, rooms = imports(), order()
    arrows = [(name, each) for name, found in graph.items() for each in found]
    pairs = {(room_of(one), room_of(other)) for one, other in arrows} - {(r, r) for r in rooms}
    back = [
        (one, other)
        for one, other in pairs
        if one in rooms and other in rooms and rooms.index(one) < rooms.index(other)
    ]
    lists = list(hand_lists())
    for what, count in {
        "rooms": len(rooms),
        "files": len(graph),
        "floors": floors(graph),
        "imports between files": len(arrows),
        "imports between rooms": len(pairs),
        "arrows that run back": len(back),
        "circles between files": len(circles(graph)),
        "lines of code, library": code_lines(PACKAGE),
        "lines of code, benchmarks": code_lines(ROOT / "benchmarks"),
        "type: ignore": ignores(),
        "hand lists of ATen operations": len(lists),
    }.items():
        print(f"{what:32}{count:>7,}")
    if "-v" in sys.argv:
        print(*lists, *circles(graph), *back, sep="\n")


if __name__ == "__main__":
    main()
