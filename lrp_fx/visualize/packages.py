"""The packages that pictures need: a missing one is one sentence that names what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lrp_fx.errors import OptionError

EXTRA = {"matplotlib": "matplotlib", "PIL": "pillow", "rich": "rich", "ipywidgets": "ipywidgets"}
"""Import name → package name."""


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Turn a failed import into a sentence.

    Args:
        what: what needs the package, as the subject of the sentence with its verb.

    Raises:
        OptionError: if one of the packages for pictures is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = EXTRA.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        every = (
            ""
            if package == "ipywidgets"
            else ', or for all pictures pip install ".[pictures]" in a checkout of lrp_fx'
        )
        raise OptionError(f"{what} the package {package}: pip install {package}{every}") from None
