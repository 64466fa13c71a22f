"""Prototypes of a class and its outliers: typical and unusual explanations (Dreyer et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrp_fx._common import check_count, needed
from lrp_fx.dataset.features import check_relevance, check_samples, features, thinned
from lrp_fx.dataset.run import Run

DIMENSIONS = 8
"""The number of principal components of the explanations that are modelled."""
FLOOR = 1e-3
"""Is added to the variances, as a share of their mean, so that no component is a single point."""


@dataclass(frozen=True, eq=False)
class Prototypes:
    """How typical the explanations of a class are.

    Args:
        samples: their numbers in the run, (n).
        scores: the log-likelihood of each under the mixture, (n,); low for unusual ones.
        components: the component of the mixture that each belongs to, (n,).
        prototypes: for each component, the sample nearest to its mean; the largest component first.
        outliers: the least likely samples, the least likely first.
    """

    samples: tuple[int, ...]
    scores: NDArray[np.float64]
    components: NDArray[np.int64]
    prototypes: tuple[int, ...]
    outliers: tuple[int, ...]


def prototypes(
    run: Run,
    of: int | None = None,
    *,
    by: str = "target",
    count: int = 3,
    outliers: int = 5,
    grid: int = 16,
    limit: int = 5000,
    seed: int = 0,
) -> Prototypes:
    """Typical and unusual explanations of a class, by a mixture of Gaussians (PCX, Dreyer 2024).

    The mixture is fitted to the first principal components of :func:`features`.

    Args:
        run: the explanations.
        of: the class; None for all samples.
        by: the column that says the class.
        count: how many prototypes: the components of the mixture.
        outliers: how many to name.
        grid: cells of a map along each dimension.
        limit: the largest number of samples; of more, this many are taken, evenly spread.
        seed: of the fit.

    Raises:
        InputError: for fewer explanations than twice ``count``.
        OptionError: for a number that does not fit, or if scikit-learn is missing.
        RunError: if the relevance cannot be read.
    """
    check_relevance(run)
    for name, number in (("count", count), ("outliers", outliers), ("limit", limit)):
        check_count(name, number)
    samples = thinned(run.explained(of, by), limit)
    check_samples(samples, max(2 * count, 4), "the search for prototypes")
    points = features(run, samples, grid)
    with needed("prototypes need"):
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture
    size = min(DIMENSIONS, points.shape[1], len(samples) - 1)
    low = PCA(size, svd_solver="full").fit_transform(points)
    low = low / max(float(low.std()), 1e-30)
    mixture = GaussianMixture(count, covariance_type="diag", reg_covar=FLOOR, random_state=seed)
    chosen = mixture.fit_predict(low)
    scores = mixture.score_samples(low)
    far = ((low[:, None] - mixture.means_[None]) ** 2).sum(2)
    order = np.argsort(-np.bincount(chosen, minlength=count), kind="stable")
    return Prototypes(
        samples=tuple(samples),
        scores=np.asarray(scores, dtype=np.float64),
        components=np.asarray(chosen, dtype=np.int64),
        prototypes=tuple(samples[int(far[:, each].argmin())] for each in order),
        outliers=tuple(samples[int(n)] for n in np.argsort(scores, kind="stable")[:outliers]),
    )
