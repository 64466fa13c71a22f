"""Write the notebooks of docs/notebooks/ as .ipynb: ``python docs/notebooks.py [FOLDER]``.

Each begins with a cell that installs what it needs. If pyproject.toml holds an address on GitHub, a
badge opens it on Colab, from the branch that .github/workflows/docs.yml keeps, and the package comes
from that address; without an address there is no badge.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).with_suffix("")
GITHUB = "https://github.com/"
COLAB = "https://colab.research.google.com"
BRANCH = "notebooks"
"""The branch with the written notebooks alone; main has their sources."""


def main() -> None:
    project = tomllib.loads((SOURCES.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(SOURCES.glob("*.py")):
        made = notebook(
            path.read_text(encoding="utf-8"), path.stem, project["tool"]["lrp_fx"]["address"]
        )
        (folder / f"{path.stem}.ipynb").write_text(
            json.dumps(made, indent=1) + "\n", encoding="utf-8"
        )


def notebook(source: str, name: str, address: str) -> dict[str, Any]:
    """The notebook (nbformat 4.5) of a file in the percent format of jupytext."""
    cells = []
    for kind, text in re.findall(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", source, re.M | re.S):
        plain = re.sub(r"^# ?", "", text, flags=re.M) if kind else text
        cells.append(cell("markdown" if kind else "code", plain.strip()))
    (install,) = re.findall(r"^`(pip install [^`]+)`\n?", first := cells[0]["source"], re.M)
    head = re.sub(r"^`pip install [^`]+`\n+", "", first, flags=re.M)
    line = f"%{from_address(install, address)}"
    cells[:1] = [cell("markdown", badge(name, address) + head), cell("code", line)]
    for place, each in enumerate(cells):
        each["id"] = f"{name}-{place}"
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": python}, "nbformat": 4, "nbformat_minor": 5}


def cell(kind: str, text: str) -> dict[str, Any]:
    """A cell without an id."""
    code = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": text, **code}


def badge(name: str, address: str) -> str:
    """The badge of Colab, which opens notebooks from GitHub; nothing for other addresses."""
    if not address.startswith(GITHUB):
        return ""
    repository = address.removeprefix(GITHUB).strip("/")
    link = f"{COLAB}/github/{repository}/blob/{BRANCH}/{name}.ipynb"
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({link})\n\n"


def from_address(install: str, address: str) -> str:
    """The line that installs, with the package from the address if there is one."""
    if not address:
        return install
    return re.sub(r'"?(lrp_fx(\[[^\]]*\])?)"?', rf'"\1 @ git+{address.rstrip("/")}"', install)


if __name__ == "__main__":
    main()
