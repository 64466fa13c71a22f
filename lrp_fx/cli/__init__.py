"""The entry point of the command line; it names missing packages of the ``cli`` extra."""

from __future__ import annotations

import sys

from lrp_fx.cli.photographs import read_photograph

__all__ = ["main", "read_photograph"]

# Packages that only the command line needs: import name → package name.
EXTRA = {
    "filelock": "filelock",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "rich": "rich",
    "typer": "typer",
}


def main() -> None:
    """Run ``lrp-fx``, or exit with one sentence if a package of the ``cli`` extra is missing."""
    try:
        import matplotlib  # noqa: F401 (pictures import it late, but its lack should be known now)

        from lrp_fx.cli.commands import app
    except ModuleNotFoundError as error:
        package = EXTRA.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise SystemExit(
            f"lrp-fx needs the package {package}: pip install {package}, or for all that the command "
            'line needs pip install ".[cli]" in a checkout of lrp_fx'
        ) from None
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks letters shows others for them
            stream.reconfigure(errors="replace")
    app(prog_name="lrp-fx")
