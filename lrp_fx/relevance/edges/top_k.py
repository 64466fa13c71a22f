"""Relevance filters: of the relevance that enters a node, only the largest values go on."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrp_fx.errors import OptionError
from lrp_fx.graph import aten
from lrp_fx.relevance.node import EdgeRelevance


def relevance_filter(relevance: Tensor, top_k: float) -> Tensor:
    """Keep the ``k = max(1, int(top_k · n))`` largest signed values of each sample, zero the rest.

    The filter of the blog post of 2021. It keeps exactly ``k`` values, even if several are equal.

    Args:
        relevance: a floating point tensor (N, …) with ``n`` values per sample.
        top_k: the fraction to keep, ``0 < top_k <= 1``.

    Returns:
        A tensor of the same shape; ``relevance`` itself for ``top_k = 1``.

    Raises:
        OptionError: if ``top_k`` is out of range, or if ``relevance`` is no floating point tensor
            or has no batch dimension.
    """
    check_top_k(top_k)
    if not isinstance(relevance, Tensor) or not relevance.is_floating_point():
        raise OptionError("relevance_filter needs a floating point tensor")
    if relevance.dim() == 0:
        raise OptionError("relevance_filter needs a batch dimension: (N, ...)")
    return _filtered(relevance, top_k, overwrite=False)


def _filtered(relevance: Tensor, top_k: float, *, overwrite: bool) -> Tensor:
    """:func:`relevance_filter` without checks; with ``overwrite`` the operand may be overwritten."""
    if top_k == 1 or relevance.numel() == 0:
        return relevance
    per_sample = relevance[0].numel()
    k = max(1, int(top_k * per_sample))
    if _takes_partition(relevance):
        result = relevance if overwrite else torch.empty_like(relevance)
        for sample, kept in zip(relevance, result, strict=True):
            _keep_largest(sample, k, into=kept)
        return result
    flat = relevance.reshape(relevance.shape[0], -1)
    largest = flat.topk(k, dim=1, sorted=False)
    return (
        torch.zeros_like(flat).scatter(1, largest.indices, largest.values).reshape(relevance.shape)
    )


_PARTITIONED = (torch.float32, torch.float64)
_FEW = 4096
"""Up to this many values per sample ``topk`` is as fast."""
_LOOKED_AT = 4096
"""At least this many values are inspected to bound the k-th largest."""


def _takes_partition(relevance: Tensor) -> bool:
    """Whether NumPy's partition finds the threshold, ten times as fast as ``topk`` on the CPU.

    Autograd, compilers and exports cannot follow it.
    """
    return (
        relevance.device.type == "cpu"
        and relevance.dtype in _PARTITIONED
        and relevance[0].numel() > _FEW
        and not (torch.is_grad_enabled() and relevance.requires_grad)
        and not torch.compiler.is_compiling()
    )


def _keep_largest(sample: Tensor, k: int, *, into: Tensor) -> None:
    """Write the ``k`` largest values of a sample into ``into``, and zeros elsewhere."""
    threshold, surplus = _kth_largest(sample.detach().numpy().ravel(order="K"), k)
    below = np.nextafter(threshold, -np.inf, dtype=threshold.dtype)
    aten.threshold.out(sample, float(below), 0.0, out=into)  # zero unless above
    if surplus > 0 and threshold != 0:
        ties = (into == float(threshold)).nonzero()
        into[tuple(ties[-surplus:].T)] = 0


def _kth_largest(values: np.ndarray, k: int) -> tuple[Any, int]:
    """The exact k-th largest value, and how many more than ``k`` values are at least as large.

    A sample of the values gives a bound that is very probably below the k-th largest value. Then
    only the values above the bound have to be partitioned; if they are too few, all are. If the
    k-th largest value is zero, as is common behind a ReLU, nothing has to be partitioned.
    """
    looked_at = values[:: (len(values) // _LOOKED_AT) | 1]  # odd step: meets all channels
    share = k / len(values) * len(looked_at)
    place = min(len(looked_at) - 1, int(share + 4 * share**0.5) + 1)
    bound = np.partition(looked_at, len(looked_at) - 1 - place)[len(looked_at) - 1 - place]
    above = values >= bound
    if bound <= 0:
        positive = values > 0
        positives = np.count_nonzero(positive)
        reaching = np.count_nonzero(values >= 0)
        if positives <= k <= reaching:
            return values.dtype.type(0), int(reaching) - k
        above = positive if positives > k else above
    candidates = _taken(values, above)
    if len(candidates) < k:
        candidates = values
    ordered = np.partition(candidates, len(candidates) - k)
    threshold = ordered[len(candidates) - k]
    return threshold, int(np.count_nonzero(ordered[: len(candidates) - k] == threshold))


def _taken(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``values[mask]``, several times as fast if the mask is False in most blocks of eight."""
    whole = len(values) // 8 * 8
    blocks = np.flatnonzero(mask[:whole].view(np.uint64) != 0)
    some = values[:whole].reshape(-1, 8).take(blocks, axis=0).ravel()
    chosen = mask[:whole].reshape(-1, 8).take(blocks, axis=0).ravel()
    taken = some.take(np.flatnonzero(chosen))
    return np.concatenate([taken, values[whole:][mask[whole:]]])


def check_top_k(top_k: float) -> None:
    """Raise an ``OptionError`` unless ``0 < top_k <= 1``."""
    if isinstance(top_k, bool) or not isinstance(top_k, Real) or not 0 < top_k <= 1:
        raise OptionError(
            f"top_k is the fraction of relevance values to keep: 0 < top_k <= 1, got {top_k!r}"
        )


def _filtered_alone(relevance: Tensor, top_k: float, samples: int) -> Tensor:
    """Apply :func:`relevance_filter` to the only sample of a batch with relevance, in any layout.

    All values that are not zero belong to that sample. Zeros fill it up to its ``n`` values; which
    of the zeros these are does not matter, since each stays zero. But their number matters, because
    zeros are larger than negative values.

    Args:
        relevance: the relevance of a batch in any layout, zero except in one sample.
        top_k: as in :func:`relevance_filter`.
        samples: the size of the batch.
    """
    flat = relevance.flatten()
    places = flat.nonzero()[:, 0]
    own = flat[places]
    zeros = own.new_zeros(max(0, len(flat) // samples - len(own)))
    kept = _filtered(torch.cat([own, zeros]).unsqueeze(0), top_k, overwrite=False)[0, : len(own)]
    return torch.zeros_like(flat).scatter(0, places, kept).reshape(relevance.shape)


class TopKFilter(EdgeRelevance):
    """``R_in = m ⊙ R`` with ``m`` one at the largest values of each sample and zero elsewhere.

    The filter of the blog post of 2021, :func:`relevance_filter`.

    Args:
        top_k: the fraction of the values that is kept.
    """

    result = "moved"
    kind = "filter"

    def __init__(self, top_k: float) -> None:
        super().__init__()
        check_top_k(top_k)
        self.top_k = top_k

    def extra_repr(self) -> str:
        """The fraction that is kept."""
        return f"top_k={self.top_k}"

    def propagate(
        self, relevance: Tensor, input_shape: torch.Size, *, alone: bool = False
    ) -> Tensor:
        """The filtered relevance, of the same shape.

        Args:
            relevance: the relevance (N, …), or of a single sample without batch dimension. If
                ``alone``, it may have any layout.
            input_shape: the shape of the model's input, (N, …).
            alone: whether the relevance of all samples but one is zero.
        """
        if alone:
            return _filtered_alone(relevance, self.top_k, input_shape[0])
        if input_shape[0] == 1 and relevance.shape[0] != 1:  # has no batch dimension
            whole = relevance.unsqueeze(0)
            return _filtered(whole, self.top_k, overwrite=self._may_overwrite()).squeeze(0)
        return _filtered(relevance, self.top_k, overwrite=self._may_overwrite())
