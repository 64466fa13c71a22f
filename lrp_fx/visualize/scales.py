"""Scales: the |R| at which a map reaches full colour, and how a picture states it in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, TypeAlias

import numpy as np

from lrp_fx.errors import OptionError
from lrp_fx.visualize.arrays import Floats, Relevance, as_floats

PERCENTILE = 99.5
Scale: TypeAlias = Literal["own", "shared"] | float
"""One scale for each map, one for all maps of a figure, or the |R| of full colour itself."""


def color_limit(heat: Relevance, quantile: float = PERCENTILE / 100) -> float:
    """The |R| at which a map reaches full colour: colours span -limit … limit.

    The limit is a quantile, not the maximum, so that one extreme pixel cannot blank the map. The
    quantile is taken over nonzero pixels, so that the many zeros of a filtered map do not make it
    0. A map of zeros alone gets the limit 1.

    Args:
        heat: a map of any shape, ``(H, W)`` for an image.
        quantile: between 0 and 1; 1 for the maximum.

    Raises:
        InputError: for values that are not finite.
        OptionError: for another quantile.
    """
    check_percentile("quantile", quantile, 1)
    return _limit(as_floats(heat), quantile)


def _limit(heat: Floats, quantile: float) -> float:
    size = np.abs(heat[heat != 0])
    if not size.size:
        return 1.0
    return float(np.quantile(size, quantile))


def check_percentile(name: str, value: object, whole: int = 100) -> None:
    """Raise an ``OptionError`` unless the value is above 0 and at most ``whole``."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= whole:
        raise OptionError(f"{name} must be a number above 0 and at most {whole}, got {value!r}")


@dataclass(frozen=True)
class Limits:
    """The limits of several maps.

    Args:
        each: the |R| of full colour, one for each map.
        shared: whether it is the same for all by choice.
        words: how the picture states the scale.
        clipped: whether any value lies beyond its limit.
    """

    each: tuple[float, ...]
    shared: bool
    words: str
    clipped: bool

    def ends(self, limit: float | None) -> tuple[str, str]:
        """The texts at the ends of a colour bar of one limit; None if the maps have several."""
        low, high = ("−full", "+full") if limit is None else (f"−{limit:.3g}", f"+{limit:.3g}")
        return (f"≤ {low}", f"≥ {high}") if self.clipped else (low, high)


def limits_of(maps: Sequence[Floats], scale: Scale, percentile: float = PERCENTILE) -> Limits:
    """The limits of the maps of one figure.

    Args:
        maps: arrays of any shapes.
        scale: see :data:`Scale`.
        percentile: of the nonzero |R|, for the first two scales.

    Raises:
        OptionError: for a scale or a percentile that there is not.
    """
    check_percentile("percentile", percentile)
    if isinstance(scale, str) and scale in ("own", "shared"):
        together = scale == "shared" and len(maps) > 1
        found = (
            (_limit(np.concatenate([heat.ravel() for heat in maps]), percentile / 100),) * len(maps)
            if together
            else tuple(_limit(heat, percentile / 100) for heat in maps)
        )
        largest = "the largest" if percentile == 100 else f"the {percentile:g}th percentile of"
        where = {True: "one scale for all maps, ", False: "each map has its own scale, "}[together]
        words = f"{where if len(maps) > 1 else ''}full colour at {largest} |relevance|"
    elif isinstance(scale, Real) and not isinstance(scale, bool) and 0 < scale < float("inf"):
        found, together = (float(scale),) * len(maps), True
        words = f"full colour at |relevance| = {scale:.3g}, as chosen"
    else:
        raise OptionError(
            f"scale must be 'own', 'shared' or the |relevance| of full colour, got {scale!r}"
        )
    beyond = any(np.abs(heat).max() > limit for heat, limit in zip(maps, found, strict=True))
    return Limits(found, together, words, beyond)


def sentences(notes: Iterable[str]) -> str:
    """Notes as sentences, one after the other."""
    return ". ".join(map(sentence, notes)) + "."


def sentence(text: str) -> str:
    """The text with a capital letter."""
    return text[:1].upper() + text[1:]
