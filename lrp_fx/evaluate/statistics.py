"""Statistics of scores: means, standard errors, bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrp_fx._common import all_finite, check_count, check_number, check_seed
from lrp_fx.errors import InputError, OptionError


@dataclass(frozen=True)
class Estimate:
    """A mean over samples, and how certain it is.

    Args:
        mean: of the samples' scores.
        standard_error: ``s / √N``; NaN for one sample.
        low: lower end of the bootstrap interval.
        high: upper end of the bootstrap interval.
        count: the number N of samples.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    count: int

    def text(self, sign: str = "") -> str:
        """The mean and its standard error, ``0.314 ± 0.037``.

        Args:
            sign: ``"+"`` to write the sign of positive means, as for differences.
        """
        error = "" if math.isnan(self.standard_error) else f" ± {self.standard_error:.3f}"
        return f"{self.mean:{sign}.3f}{error}".replace("-", "−")

    def interval(self, sign: str = "") -> str:
        """The interval, ``[0.243, 0.385]``; empty for one sample."""
        if self.count < 2:
            return ""
        return f"[{self.low:{sign}.3f}, {self.high:{sign}.3f}]".replace("-", "−")


@dataclass(frozen=True)
class Bootstrap:
    """Intervals by the percentile bootstrap: means of samples drawn with replacement (Efron 1979).

    Scores of several methods are resampled alike, so paired differences stay paired. The intervals
    say what other samples of the same kind would change, not what other settings would. Below about
    ten samples they are too narrow.

    Args:
        resamples: how often the samples are drawn.
        confidence: share of the means between the ends of the interval.
        seed: of the draws.
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("resamples", self.resamples)
        check_number("confidence", self.confidence)
        if not 0 < self.confidence < 1:
            raise OptionError(f"confidence must lie between 0 and 1, got {self.confidence!r}")
        check_seed(self.seed)

    def estimate(self, scores: Tensor | Sequence[float]) -> Estimate:
        """The mean of scores ``(N,)`` with its standard error and interval.

        Raises:
            InputError: if they are not one finite number for each sample, or there are none.
        """
        scores = _numbers(scores)
        count = len(scores)
        generator = torch.Generator().manual_seed(self.seed)
        places = torch.randint(count, (self.resamples, count), generator=generator)
        outside = (1 - self.confidence) / 2
        ends = scores[places].mean(1).quantile(torch.tensor([outside, 1 - outside]).double())
        error = float(scores.std()) / math.sqrt(count) if count > 1 else math.nan
        return Estimate(float(scores.mean()), error, float(ends[0]), float(ends[1]), count)

    def difference(
        self, scores: Tensor | Sequence[float], reference: Tensor | Sequence[float]
    ) -> Estimate:
        """The mean of ``scores − reference``, sample by sample.

        Raises:
            InputError: if they are not of the same samples.
        """
        scores, reference = _numbers(scores), _numbers(reference)
        if scores.shape != reference.shape:
            raise InputError(
                f"paired differences need scores of the same samples, but there are {len(scores)} "
                f"and {len(reference)}"
            )
        return self.estimate(scores - reference)

    def __str__(self) -> str:
        return (
            f"{100 * self.confidence:g} % intervals by {self.resamples} bootstrap resamples of the "
            f"samples, seed {self.seed}"
        )


def _numbers(scores: Tensor | Sequence[float]) -> Tensor:
    """The scores ``(N,)``, float64, on the CPU."""
    try:
        found = torch.as_tensor(scores).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if found.ndim != 1 or not len(found) or found.is_complex() or not all_finite(found):
        raise InputError("scores must be finite numbers (N,), one for each of at least one sample")
    return found.double()
