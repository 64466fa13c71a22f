"""Explanations as points: maps that are made small and compared by their shape, not their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lrp_fx._common import check_choice, check_count, needed
from lrp_fx.dataset.run import Run
from lrp_fx.errors import InputError, OptionError

Points = NDArray[np.float64]
"""One row for each sample, (n, d)."""
Method = Literal["pca", "tsne"]
POOLS: dict[int, Callable[..., Tensor]] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
METHODS: tuple[Method, ...] = ("pca", "tsne")


def features(run: Run, samples: Sequence[int], grid: int = 16) -> Points:
    """Explanations as points, (n, d).

    Maps are summed over channels, averaged over at most ``grid`` cells along each dimension, and
    divided by Σ |R| over the cells. Sums of concepts are only divided.

    Args:
        run: the explanations.
        samples: their numbers.
        grid: cells along each dimension.

    Raises:
        OptionError: if the run kept no relevance, or ``grid`` is not an int of at least one.
        InputError: for a sample without an explanation.
        RunError: if the relevance cannot be read.
    """
    check_count("grid", grid)
    if not samples:
        raise InputError("there are no samples")
    rows = []
    for chunk in run.chunks(samples):
        if np.isnan(chunk).any():
            raise InputError(
                "some of the samples have no explanation: take them from run.explained()"
            )
        values = torch.from_numpy(chunk)
        if run.job.keep == "maps" and values.dim() > 2:
            values = values.sum(1)
        space = values.dim() - 1
        if run.job.keep != "concepts" and space in POOLS:
            sizes = [min(grid, size) for size in values.shape[1:]]
            pool = POOLS[space]
            values = pool(values[:, None], sizes[0] if space == 1 else sizes)
        flat = values.reshape(len(values), -1).double()
        rows.append((flat / flat.abs().sum(1, keepdim=True).clamp(min=1e-30)).numpy())
    return np.concatenate(rows)


def embed(
    run: Run, samples: Sequence[int], method: Method = "tsne", *, grid: int = 16, seed: int = 0
) -> Points:
    """A place in the plane for each explanation, (n, 2).

    Args:
        run: the explanations.
        samples: their numbers.
        method: principal components, or t-SNE (van der Maaten & Hinton 2008).
        grid: as in :func:`features`.
        seed: of t-SNE.

    Raises:
        OptionError: for an unknown method, or if scikit-learn is missing.
        InputError: for fewer than three samples.
        LRPError: the errors of :func:`features`.
    """
    check_choice("method", method, METHODS)
    return plane(features(run, samples, grid), method, seed)


def plane(points: Points, method: Method, seed: int) -> Points:
    """A place in the plane for each point, (n, 2)."""
    if len(points) < 3 or points.shape[1] < 2:
        raise InputError(f"an embedding needs three explanations or more, got {len(points)}")
    with needed("embeddings need"):
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    if method == "pca":
        found = PCA(2, svd_solver="full").fit_transform(points)
    else:
        perplexity = min(30.0, (len(points) - 1) / 3)
        scaled = points / max(float(points.std()), 1e-30)
        found = TSNE(2, perplexity=perplexity, random_state=seed, init="pca").fit_transform(scaled)
    return np.asarray(found, dtype=np.float64)


def thinned(samples: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` of the samples, evenly spread."""
    if len(samples) <= limit:
        return list(samples)
    return [samples[n * len(samples) // limit] for n in range(limit)]


def check_samples(samples: Sequence[int], least: int, what: str) -> None:
    """Raise an ``InputError`` for too few samples."""
    if len(samples) < least:
        raise InputError(f"{what} needs at least {least} explanations, got {len(samples)}")


def check_relevance(run: object) -> None:
    """Raise an ``OptionError`` unless the argument is a run that kept relevance."""
    if not isinstance(run, Run):
        raise OptionError(
            f"run must be a Run, as open_run(folder) gives it, got {type(run).__name__}"
        )
    if not run.arrays:
        raise OptionError("this run kept a table alone (keep='summary'): there is no relevance")
