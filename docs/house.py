"""Write the table of modules in docs/how_it_works.md: ``python docs/house.py``.

Each room is a folder or a file right under ``lrp_fx/``; its line is the first of its docstring.
"""

from __future__ import annotations

import ast
from pathlib import Path

PAGE = Path(__file__).with_name("how_it_works.md")
PACKAGE = Path(__file__).parents[1] / "lrp_fx"
BEGIN, END = "<!-- table of docs/house.py -->", "<!-- end of the table -->"
ORDER = (
    *("errors", "_common", "rules", "graph", "capture", "relevance", "operations", "meaning"),
    *("canonize", "composites", "plan", "optimize", "rewrite", "run", "attribution", "concepts"),
    *("zoo", "evaluate", "visualize", "explanation", "adapters", "dataset", "app", "cli"),
)
"""The rooms; each imports from those before it alone."""


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def table() -> str:
    """A line for each room, and below it for each module in it."""
    lines = ["| module | its one job |", "|---|---|"]
    for room in ORDER:
        folder = PACKAGE / room
        if not folder.is_dir():
            lines.append(f"| **`{room}.py`** | {_cell(first_line(folder.with_suffix('.py')))} |")
            continue
        lines.append(f"| **`{room}/`** | {_cell(first_line(folder / '__init__.py'))} |")
        lines += [
            f"| `{path.relative_to(PACKAGE)}` | {_cell(first_line(path))} |"
            for path in sorted(folder.rglob("*.py"))
            if path != folder / "__init__.py" and path.name != "__main__.py"
        ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """The text without the markup of docstrings."""
    return text.replace("``", "`").replace(":class:", "").replace(":mod:", "").replace("|", "∣")


def page() -> str:
    """The page with the table as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
