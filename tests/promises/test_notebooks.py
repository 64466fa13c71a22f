"""The notebooks run from their first cell to their last, offline."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))
MADE = runpy.run_path(str(ROOT / "docs" / "notebooks.py"))
TIME_LIMIT = 600
"""Seconds on one core; each takes less than a minute on a machine that does nothing else."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_how_to_install(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    assert "pip install" in text.split("# %%")[1]
    listed = (ROOT / "docs" / "notebooks" / "index.md").read_text(encoding="utf-8")
    assert f"`{path.name}`" in listed


def imports(line: ast.stmt) -> bool:
    return isinstance(line, ast.ImportFrom)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_as_ipynb(path: Path) -> None:
    """It has all the code, a cell that installs, and a badge only for an address on GitHub."""
    source = path.read_text(encoding="utf-8")
    with_address = MADE["notebook"](source, path.stem, "https://github.com/me/it")
    first, install, *rest = MADE["notebook"](source, path.stem, "")["cells"]
    assert first["source"].startswith("# ")
    assert install["source"].startswith("%pip install ")
    code = [each["source"] for each in rest if each["cell_type"] == "code"]
    assert all(each in source for each in code)
    found = {line for each in code for line in each.splitlines()}
    assert {line for line in source.splitlines() if not line.startswith("#")} <= found | {""}
    for each in code:  # a notebook shows the last expression of a cell, and only that
        *others, last = ast.parse(each).body
        assert not any("visualize" in ast.dump(line) for line in others if not imports(line))
        assert "visualize" not in ast.dump(last) or isinstance(last, ast.Expr)
    badge = with_address["cells"][0]["source"].splitlines()[0]
    assert (
        f"/github/me/it/blob/notebooks/{path.stem}.ipynb" in badge
    )  # written by the workflow docs
    assert " @ git+https://github.com/me/it" in with_address["cells"][1]["source"]
    assert MADE["badge"](path.stem, "https://elsewhere.org/me/it") == ""


def test_the_package_comes_from_the_address() -> None:
    """A package index may have another package of this name."""
    plain, extra = "pip install lrp_fx", 'pip install "lrp_fx[cli]" scikit-image'
    at = "https://github.com/me/it/"
    assert MADE["from_address"](plain, at) == f'pip install "lrp_fx @ git+{at[:-1]}"'
    assert (
        MADE["from_address"](extra, at) == f'pip install "lrp_fx[cli] @ git+{at[:-1]}" scikit-image'
    )
    assert MADE["from_address"](extra, "") == extra


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=TIME_LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
