"""Targets by index, by name, or as the prediction."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from lrp_fx.cli.options import PREDICTED
from lrp_fx.errors import TargetError


def resolve_target(text: str, categories: Sequence[str]) -> int | None:
    """The class that ``text`` means: an index, a name, or a unique part of a name.

    Args:
        text: what the user wrote.
        categories: the names of the classes; empty if they have none.

    Returns:
        The index of the class; None for "predicted".

    Raises:
        TargetError: if it means no class or several; it names the nearest ones.
    """
    wanted = text.strip().casefold()
    if wanted == PREDICTED:
        return None
    if wanted.removeprefix("-").isdecimal():
        index = int(wanted) if len(wanted) < 10 else -1
        if index < 0 or (categories and index >= len(categories)):
            last = f" to {len(categories) - 1}" if categories else " on"
            raise TargetError(f"target {text} is out of range: classes have indices 0{last}")
        return index
    if not categories:
        raise TargetError(
            f"there is no class {text!r}: the model's classes have no names, so pass an index, or "
            "--categories FILE"
        )
    folded = [category.casefold() for category in categories]
    exact = [index for index, name in enumerate(folded) if name == wanted]
    matches = exact or [index for index, name in enumerate(folded) if wanted in name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(f"{categories[index]} ({index})" for index in matches[:8])
        more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
        raise TargetError(f"target {text!r} may mean {len(matches)} classes: {shown}{more}")
    near = difflib.get_close_matches(wanted, folded, cutoff=0.5)
    shown = ", ".join(f"{categories[folded.index(name)]} ({folded.index(name)})" for name in near)
    raise TargetError(
        f"there is no class {text!r}" + (f": the nearest are {shown}" if near else "")
    )
