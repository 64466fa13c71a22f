"""Bars with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.timing import Quartiles

COLORS = {
    "torch": "#8c8c8c",
    "lrp_fx": "#4c72b0",
    "zennit": "#dd8452",
    "Captum": "#55a868",
    "autolrp": "#c44e52",
}


def bars(
    axes: Any,
    places: Sequence[float],
    values: Sequence[Quartiles],
    color: str | Sequence[str],
    height: float = 0.7,
    label: str | None = None,
    size: float = 7,
) -> None:
    """Horizontal bars of the medians, with the quartiles, and the figure behind each."""
    medians = [value.median for value in values]
    spread = [
        [value.median - value.low for value in values],
        [value.high - value.median for value in values],
    ]
    axes.barh(places, medians, height, xerr=spread, color=color, ecolor="#333333", label=label)
    for place, value in zip(places, values, strict=True):
        axes.text(value.high, place, f"  {value.median:.2f}", va="center", fontsize=size)
