"""Packages that only some features need: a missing one is one sentence that names what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lrp_fx.errors import OptionError

PACKAGES = {
    **{"matplotlib": ("matplotlib", "pictures"), "PIL": ("pillow", "pictures")},
    **{"rich": ("rich", "pictures"), "ipywidgets": ("ipywidgets", "")},
    **{"optuna": ("optuna", "search"), "pyarrow": ("pyarrow", "evaluate")},
    **{"timm": ("timm", "")},
    **{"zarr": ("zarr", "dataset"), "h5py": ("h5py", "dataset")},
    **{"sklearn": ("scikit-learn", "dataset"), "scipy": ("scipy", "dataset")},
    **{"ray": ('"ray[data]"', "ray")},
    **{"gradio": ("gradio", "app"), "uvicorn": ("uvicorn", "app"), "av": ("av", "app")},
}
"""Import name → package name, and the extra of this library that has it."""


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Turn a failed import into a sentence.

    Args:
        what: what needs the package, as the subject of the sentence with its verb.

    Raises:
        OptionError: if one of the packages is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        known = PACKAGES.get((error.name or "").partition(".")[0])
        if known is None:
            raise
        package, extra = known
        every = (
            f', or for all of its kind pip install ".[{extra}]" in a checkout of lrp_fx'
            if extra
            else ""
        )
        raise OptionError(f"{what} the package {package}: pip install {package}{every}") from None
