"""Tables on pages whose prose is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

END = "<!-- end of the table -->"


def write_table(page: Path, script: str, lines: Sequence[str]) -> None:
    """Put the lines between the marks of a script on a page, in the place of what is there.

    Args:
        page: holds ``<!-- table of benchmarks/<script>.py -->`` and the end's mark behind it.
        script: the name of the script.
        lines: of the table.
    """
    begin = f"<!-- table of benchmarks/{script}.py -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(END)
    text = "\n".join([before + begin, "", *lines, "", END]) + after
    page.write_text(text, encoding="utf-8")
