"""Relevance filters: of the relevance that enters a node, only the largest values go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lrp_fx._checks import all_finite, check_choice, check_flag
from lrp_fx.errors import OptionError
from lrp_fx.graph import aten
from lrp_fx.relevance.node import EdgeRelevance

FilterBy = Literal["value", "magnitude"]
FILTER_BY: tuple[FilterBy, ...] = ("value", "magnitude")


@dataclass(frozen=True)
class TopK:
    """The choice of a relevance filter: it keeps the ``k = max(1, int(share · n))`` largest of n values.

    Args:
        share: the fraction to keep, ``0 < share <= 1``.
        by: which values are the largest: ``"value"`` counts with the sign, as the blog post of 2021
            does, so that what speaks for the target is kept first; ``"magnitude"`` counts by |R|.
        renormalize: scale the kept values so that the sum of each sample stays the same, as in
            PLRP-λ (Yanez Sarmiento et al. 2024). Positive and negative values are scaled
            separately, each to their own sum, because one factor for both could reverse all signs. If
            only values of one sign are left, they are scaled to the whole sum, or left alone if it
            has the other sign.

    Raises:
        OptionError: for a value that a field cannot have.
    """

    share: float
    by: FilterBy = "value"
    renormalize: bool = False
    _ratio: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_top_k(self.share)
        check_choice("filter_by", self.by, FILTER_BY)
        check_flag("renormalize", self.renormalize)
        # as it is written: 0.29 of 100 values are 29, though the product of the floats is smaller
        written = Fraction(repr(float(self.share)))
        object.__setattr__(self, "_ratio", (written.numerator, written.denominator))

    def count(self, n: int) -> int:
        """How many of ``n`` values are kept."""
        numerator, denominator = self._ratio
        return max(1, n * numerator // denominator)

    def __str__(self) -> str:
        by = "" if self.by == "value" else f" by {self.by}"
        return f"{self.share:g}{by}{', renormalized' if self.renormalize else ''}"


def relevance_filter(
    relevance: Tensor, top_k: float, *, by: FilterBy = "value", renormalize: bool = False
) -> Tensor:
    """Keep the ``k = max(1, int(top_k · n))`` largest values of each sample, zero the rest.

    The filter of the blog post of 2021. It keeps exactly ``k`` values, even if several are equal.

    Args:
        relevance: a floating point tensor (N, …) with ``n`` values per sample.
        top_k: the fraction to keep, ``0 < top_k <= 1``.
        by: ``"value"`` for the largest signed values, ``"magnitude"`` for the largest |R|.
        renormalize: scale what is kept so that the sum of each sample stays, see :class:`TopK`.

    Returns:
        A tensor of the same shape; ``relevance`` itself for ``top_k = 1``.

    Raises:
        OptionError: if an option is out of range, or if ``relevance`` is not a dense floating
            point tensor or has no batch dimension.
    """
    kept = TopK(top_k, by, renormalize)
    if not isinstance(relevance, Tensor) or not relevance.is_floating_point():
        raise OptionError("relevance_filter needs a floating point tensor")
    if relevance.layout is not torch.strided or relevance.is_nested or relevance.is_meta:
        raise OptionError("relevance_filter needs a dense tensor with values")
    if relevance.dim() == 0:
        raise OptionError("relevance_filter needs a batch dimension: (N, ...)")
    if not all_finite(relevance):  # thresholds of such values are not exact
        return _filtered(relevance, kept, partition=False)
    return _filtered(relevance, kept)


def _filtered(
    relevance: Tensor, top_k: TopK, *, overwrite: bool = False, partition: bool = True
) -> Tensor:
    """:func:`relevance_filter` without checks.

    Args:
        relevance: as there.
        top_k: what is kept.
        overwrite: whether ``relevance`` may be overwritten.
        partition: whether all values are finite, as far as that is known.
    """
    if top_k.share == 1 or relevance.numel() == 0:
        return relevance
    largest = _largest(relevance, top_k, overwrite and not top_k.renormalize, partition)
    return renormalized(largest, relevance) if top_k.renormalize else largest


def _largest(relevance: Tensor, top_k: TopK, overwrite: bool, partition: bool) -> Tensor:
    """The largest values of each sample, and zeros elsewhere."""
    k = top_k.count(relevance[0].numel())
    if partition and _takes_partition(relevance):
        keep = _keep_largest if top_k.by == "value" else _keep_strongest
        result = relevance if overwrite else torch.empty_like(relevance)
        for sample, kept in zip(relevance, result, strict=True):
            keep(sample, k, into=kept)
        return result
    flat = relevance.reshape(relevance.shape[0], -1)
    ranked = flat if top_k.by == "value" else flat.abs()
    places = ranked.topk(k, dim=1, sorted=False).indices
    return (
        torch.zeros_like(flat).scatter(1, places, flat.gather(1, places)).reshape(relevance.shape)
    )


def renormalized(kept: Tensor, relevance: Tensor) -> Tensor:
    """The kept values, scaled so that the sum of each sample stays; see :class:`TopK`."""

    def sums(values: Tensor) -> list[Tensor]:
        flat = values.flatten(1)
        return [part.sum(1) for part in (flat.clamp(min=0), flat.clamp(max=0))]

    whole, left = sums(relevance), sums(kept)
    total = whole[0] + whole[1]
    both = (left[0] > 0) & (left[1] < 0)
    scales = []
    for old, new in zip(whole, left, strict=True):
        wanted = torch.where(both, old, torch.where(total * new > 0, total, new))
        # the divisor is replaced where it is zero, so that derivatives stay finite
        scale = torch.where(new == 0, 1, wanted / torch.where(new == 0, 1, new))
        scales.append(scale.reshape(-1, *[1] * (kept.dim() - 1)))
    return kept.clamp(min=0) * scales[0] + kept.clamp(max=0) * scales[1]


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
        and not relevance.is_neg()
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


def _keep_strongest(sample: Tensor, k: int, *, into: Tensor) -> None:
    """Write the ``k`` values of a sample with the largest |R| into ``into``, and zeros elsewhere."""
    magnitudes = sample.detach().abs()
    threshold, surplus = _kth_largest(magnitudes.numpy().ravel(order="K"), k)
    below = np.nextafter(threshold, -np.inf, dtype=threshold.dtype)
    aten.hardshrink.out(sample, float(below), out=into)  # zero unless |R| is above
    if surplus > 0 and threshold != 0:
        ties = (magnitudes == float(threshold)).nonzero()
        into[tuple(ties[-surplus:].T)] = 0


def _kth_largest(values: np.ndarray, k: int) -> tuple[Any, int]:
    """The exact k-th largest value, and how many more than ``k`` values are at least as large.

    A sample of the values gives a bound that is very probably below the k-th largest value. Then
    only the values above the bound have to be partitioned; if they are too few, all are. If the
    k-th largest value is zero, as is common after a ReLU, nothing has to be partitioned.
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


def _filtered_alone(relevance: Tensor, top_k: TopK, samples: int) -> Tensor:
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
    kept = _filtered(torch.cat([own, zeros]).unsqueeze(0), top_k)[0, : len(own)]
    return torch.zeros_like(flat).scatter(0, places, kept).reshape(relevance.shape)


class TopKFilter(EdgeRelevance):
    """``R_in = m ⊙ R`` with ``m`` one at the largest values of each sample and zero elsewhere.

    The filter of the blog post of 2021, :func:`relevance_filter`; with ``renormalize``,
    ``R_in = λ m ⊙ R``.

    Args:
        top_k: what is kept.
    """

    result = "moved"
    kind = "filter"

    def __init__(self, top_k: TopK) -> None:
        super().__init__()
        self.top_k = top_k

    def extra_repr(self) -> str:
        """What is kept."""
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
