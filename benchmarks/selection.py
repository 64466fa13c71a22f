"""Exact ways to keep the largest 5 % of each sample, timed side by side.

    python benchmarks/selection.py

Four samples of 3.2 million values as a rectified network has them, half of them zero, on one thread. Each
figure is a median; all ways are checked to keep the same values.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lrp_fx import relevance_filter

SAMPLES, VALUES, TOP_K, ROUNDS = 4, 64 * 224 * 224, 0.05, 9
K = int(TOP_K * VALUES)
BINS = 2048


def topk_and_scatter(r: Tensor) -> Tensor:
    """As in the blog post of 2021."""
    kept = r.topk(K, dim=1)
    return torch.zeros_like(r).scatter(1, kept.indices, kept.values)


def unsorted_topk(r: Tensor) -> Tensor:
    kept = r.topk(K, dim=1, sorted=False)
    return torch.zeros_like(r).scatter(1, kept.indices, kept.values)


def kth_value(r: Tensor) -> Tensor:
    threshold = r.kthvalue(VALUES - K + 1, dim=1, keepdim=True).values
    return torch.where(r >= threshold, r, 0.0)


def sort(r: Tensor) -> Tensor:
    threshold = r.sort(dim=1).values[:, VALUES - K : VALUES - K + 1]
    return torch.where(r >= threshold, r, 0.0)


def histograms(r: Tensor) -> Tensor:
    """The bin of the threshold from a histogram, then partition within that bin."""
    result = torch.empty_like(r)
    for sample, kept in zip(r, result, strict=True):
        low, high = (float(bound) for bound in sample.aminmax())
        counts = torch.histc(sample, BINS, low, high)
        above = counts.flip(0).cumsum(0)
        first = int((above < K).sum())  # bins from the top that are kept whole
        edge = high - (first + 2) * (high - low) / BINS  # one bin of room for rounding
        candidates = sample.numpy()[sample.numpy() >= edge]
        threshold = np.partition(candidates, candidates.size - K)[candidates.size - K]
        kept.copy_(torch.where(sample >= float(threshold), sample, 0.0))
    return result


def partition(r: Tensor) -> Tensor:
    """What the library does on CPU."""
    return relevance_filter(r, TOP_K)


def one_pass(r: Tensor) -> Tensor:
    """For scale: the cheapest elementwise operation with a result of its own."""
    return r * 2


WAYS: list[Callable[[Tensor], Tensor]] = [
    *(topk_and_scatter, unsorted_topk, kth_value, sort, histograms, partition),
    one_pass,
]


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    r = torch.randn(SAMPLES, VALUES).relu_() * torch.rand(SAMPLES, VALUES) ** 3
    expected = topk_and_scatter(r)
    seconds: dict[str, list[float]] = {way.__name__: [] for way in WAYS}
    for way in WAYS[:-1]:
        assert torch.equal(way(r), expected), way.__name__
    for _ in range(ROUNDS):
        for way in WAYS:
            began = time.perf_counter()
            way(r)
            seconds[way.__name__].append(time.perf_counter() - began)
    for name, measured in seconds.items():
        ratios = [a / b for a, b in zip(measured, seconds["one_pass"], strict=True)]
        print(
            f"{name:18} {statistics.median(measured) * 1e3:7.1f} ms, "
            f"{statistics.median(ratios):5.2f} × one elementwise pass"
        )


if __name__ == "__main__":
    main()
