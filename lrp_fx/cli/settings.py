"""The options that change results, as text: results of other options get other names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from lrp_fx.cli.names import place_of
from lrp_fx.cli.options import PREDICTED, ModelOptions, RuleOptions

WITHOUT_EFFECT = ("device", "cache")
"""Options that change no result."""


def settings_of(
    model: ModelOptions,
    rules: RuleOptions,
    out: Path,
    composites: Sequence[str],
    target: str,
    *more: str,
) -> str:
    """The options that change results, a line for each; empty if all are as usual.

    Files are named by their place, so that one path does not mean two files in two folders.

    Args:
        model: the model and its preprocessing.
        rules: the filter, the start and the biases.
        out: the folder of the results.
        composites: by name.
        target: as the user wrote it.
        more: what else there is.
    """
    chosen = [
        f"{each.name}={_placed(getattr(given, each.name), out)}"
        for given in (model, rules)
        for each in fields(given)
        if each.name not in WITHOUT_EFFECT and getattr(given, each.name) != each.default
    ]
    chosen += [f"composite={name}" for name in composites]
    chosen += [f"target={target}"] if target != PREDICTED else []
    return "\n".join((*chosen, *more))


def _placed(value: object, out: Path) -> str:
    """A value as text; files, folders and ``file.py:function`` by their place."""
    if isinstance(value, Path):
        return place_of(value, out)
    text = str(value)
    file, colon, function = text.rpartition(":")
    if file.endswith(".py"):
        return place_of(Path(file), out) + colon + function
    return place_of(Path(text), out) if Path(text).is_dir() else text
