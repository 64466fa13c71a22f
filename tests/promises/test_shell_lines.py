"""The shell lines of the README name targets, extras and commands that exist.

They are not run here: they install packages, or read photographs of the reader. The workflow ``tests``
runs ``make test`` and ``make demo``, and the tests of ``lrp_fx.cli`` run its commands.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from lrp_fx.cli.commands import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("line", LINES)
def test_a_shell_line_names_what_exists(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert set(words[1:]) <= set(targets)
    elif words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[([\w,-]+)\]", words[2])
        named = [name for extra in extras for name in extra.split(",")]
        assert set(named) <= set(PROJECT["optional-dependencies"])
    else:
        assert words[0] in PROJECT["scripts"]
        known = {
            each.name or str(getattr(each.callback, "__name__", ""))
            for each in app.registered_commands
        }
        assert words[1].replace("_", "-") in {name.replace("_", "-") for name in known}
