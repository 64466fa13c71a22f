"""The mean relevance of a class and its spread, in memory for two maps for any number of samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrp_fx.dataset.run import Run
from lrp_fx.errors import InputError


@dataclass(frozen=True, eq=False)
class Statistics:
    """The relevance of some samples.

    Args:
        count: how many there are.
        mean: of each entry, of the shape of a map.
        std: the standard deviation of each entry, with N in the denominator.
    """

    count: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def statistics(run: Run, samples: Sequence[int]) -> Statistics:
    """Mean and spread of the relevance of some samples, in one pass (Chan et al. 1979).

    Args:
        run: the explanations.
        samples: their numbers.

    Raises:
        InputError: if there are no samples, or one has no explanation.
        OptionError: if the run kept no relevance.
        RunError: if it cannot be read.
    """
    if not samples:
        raise InputError("there are no samples to take the mean of")
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for chunk in run.chunks(samples):
        values = chunk.astype(np.float64)
        if np.isnan(values).any():
            raise InputError(
                "some of the samples have no explanation: take them from run.explained()"
            )
        mine, own = len(values), values.mean(0)
        off = own - mean
        total = count + mine
        squares = squares + ((values - own) ** 2).sum(0) + off**2 * count * mine / total
        mean, count = mean + off * mine / total, total
    return Statistics(count, mean, np.sqrt(squares / count))


def class_statistics(
    run: Run, by: str = "target", classes: Iterable[int] | None = None
) -> dict[int, Statistics]:
    """Mean and spread of the relevance of each class.

    Args:
        run: the explanations.
        by: the column that says the class: ``target``, ``label`` or ``prediction``.
        classes: which ones; None for all.

    Raises:
        OptionError: for another column, or if the run kept no relevance.
        InputError: for a class without samples.
        RunError: if the relevance cannot be read.
    """
    chosen = run.classes(by) if classes is None else tuple(classes)
    return {each: statistics(run, run.explained(each, by)) for each in chosen}
