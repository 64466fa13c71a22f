"""The door of the command line, which opens without the ``cli`` extra, to name what is missing."""

from lrp_fx.cli.photographs import read_photograph

__all__ = ["main", "read_photograph"]

# Import name to package name of what only the command line needs.
EXTRA = {"matplotlib": "matplotlib", "PIL": "pillow", "rich": "rich", "typer": "typer"}


def main() -> None:
    """Run ``lrp-fx``; exits with one sentence if a package of the ``cli`` extra is missing."""
    try:
        from lrp_fx.cli.commands import app
    except ModuleNotFoundError as error:
        package = EXTRA.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise SystemExit(
            f"lrp-fx needs the package {package}: pip install {package}, or for all that the command "
            'line needs pip install ".[cli]" in a checkout of lrp_fx'
        ) from None
    app()
