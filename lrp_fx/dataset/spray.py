"""SpRAy: spectral clustering of explanations finds the strategies of a model (Lapuschkin 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrp_fx._common import check_count, needed
from lrp_fx.dataset.features import Points, check_relevance, check_samples, features, thinned
from lrp_fx.dataset.run import Run
from lrp_fx.errors import OptionError

DENSE = 1500
"""The largest number of samples for which the Laplacian is decomposed as a whole."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Explanations in clusters, the largest first.

    Args:
        samples: their numbers in the run, (n).
        labels: the cluster of each, (n,).
        eigenvalues: the smallest ones of the Laplacian, in order.
        vectors: the coordinates of each sample, (n, k).
    """

    samples: tuple[int, ...]
    labels: NDArray[np.int64]
    eigenvalues: NDArray[np.float64]
    vectors: Points

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many samples each cluster has."""
        return tuple(np.bincount(self.labels).tolist())

    def members(self, cluster: int) -> list[int]:
        """The numbers of the samples of a cluster.

        Raises:
            OptionError: if there is none of this number.
        """
        if not 0 <= cluster < len(self.sizes):
            raise OptionError(
                f"clusters have numbers from 0 to {len(self.sizes) - 1}, got {cluster!r}"
            )
        pairs = zip(self.samples, self.labels, strict=True)
        return [sample for sample, label in pairs if label == cluster]

    def __str__(self) -> str:
        gaps = ", ".join(f"{value:.3g}" for value in self.eigenvalues)
        return f"{len(self.sizes)} clusters of {self.sizes} samples; eigenvalues {gaps}"


def spray(
    run: Run,
    of: int | None = None,
    *,
    by: str = "target",
    clusters: int | None = None,
    most: int = 8,
    neighbours: int = 10,
    grid: int = 16,
    limit: int = 5000,
    seed: int = 0,
) -> Clusters:
    """Cluster the explanations of a class by spectral clustering (SpRAy, Lapuschkin et al. 2019).

    Each explanation is connected with its nearest ones by :func:`features`, ``A``. The eigenvectors
    of ``L = I − D^-½ A D^-½`` with the smallest eigenvalues are the coordinates of the samples, their
    rows are scaled to length one (Ng et al. 2001), and k-means finds the clusters.

    Args:
        run: the explanations.
        of: the class; None for all samples.
        by: the column that says the class: ``target``, ``label`` or ``prediction``.
        clusters: how many; None for the number with the largest gap λ(k+1) − λ(k).
        most: how many there may be at most, if their number is not given.
        neighbours: of each sample in the graph.
        grid: cells of a map along each dimension.
        limit: the largest number of samples; of more, this many are taken, evenly spread.
        seed: of k-means.

    Raises:
        InputError: for fewer than four explanations.
        OptionError: for a number that does not fit, or if scikit-learn is missing.
        RunError: if the relevance cannot be read.
    """
    check_relevance(run)
    for name, count in (("most", most), ("neighbours", neighbours), ("limit", limit)):
        check_count(name, count)
    if clusters is not None:
        check_count("clusters", clusters)
    samples = thinned(run.explained(of, by), limit)
    check_samples(samples, 4, "a clustering")
    if clusters is not None and clusters > len(samples) - 1:
        raise OptionError(f"{len(samples)} samples have fewer than {clusters} clusters")
    wanted = min(max(most, clusters or 1) + 1, len(samples) - 1)
    points = features(run, samples, grid)
    eigenvalues, vectors = spectrum(points, min(neighbours, len(samples) - 1), wanted)
    count = clusters or eigengap(eigenvalues)
    labels = cluster(vectors, count, seed)
    return Clusters(tuple(samples), labels, eigenvalues, vectors)


def spectrum(points: Points, neighbours: int, count: int) -> tuple[NDArray[np.float64], Points]:
    """The smallest eigenvalues of the normalized Laplacian, and their eigenvectors, (n, count)."""
    with needed("clustering needs"):
        from scipy.sparse import csgraph, identity
        from scipy.sparse.linalg import eigsh
        from sklearn.neighbors import kneighbors_graph
    near = kneighbors_graph(points, neighbours, mode="connectivity", include_self=False)
    laplacian = csgraph.laplacian((near + near.T) / 2, normed=True)
    if len(points) <= DENSE:
        values, vectors = np.linalg.eigh(laplacian.toarray())
    else:  # the largest of 2 − L are found sooner than the smallest of L
        start = np.random.default_rng(0).normal(size=len(points))
        values, vectors = eigsh(2 * identity(len(points)) - laplacian, count, which="LA", v0=start)
        values, vectors = 2 - values[::-1], vectors[:, ::-1]
    return np.clip(values[:count], 0, None), np.ascontiguousarray(vectors[:, :count])


def eigengap(eigenvalues: NDArray[np.float64]) -> int:
    """The number of clusters with the largest gap after it."""
    return int(np.diff(eigenvalues).argmax()) + 1 if len(eigenvalues) > 1 else 1


def cluster(vectors: Points, count: int, seed: int) -> NDArray[np.int64]:
    """The cluster of each sample by k-means on rows of length one, the largest cluster first."""
    with needed("clustering needs"):
        from sklearn.cluster import KMeans
    rows = vectors[:, :count]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    found = KMeans(count, n_init=10, random_state=seed).fit_predict(rows)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    places = np.empty(count, dtype=np.int64)
    places[order] = np.arange(count)
    return np.asarray(places[found], dtype=np.int64)
