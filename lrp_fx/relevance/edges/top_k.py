"""Relevance filters: of the relevance that enters a node, only the largest values go on."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from lrp_fx._common import all_finite, check_choice, check_flag
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


Kept = tuple[Tensor, list["KeptPlaces | None"]]
"""Filtered relevance (N, …), and for each sample where it is not zero, as far as that is known."""
KeptPlaces = Callable[[], np.ndarray]
"""Gives the indices into the memory of a sample, in order."""


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
    if partition and _takes_partition(relevance):
        largest, _ = _partitioned(relevance, top_k, overwrite and not top_k.renormalize)
    else:
        largest = _ranked(relevance, top_k)
    return renormalized(largest, relevance) if top_k.renormalize else largest


def _ranked(relevance: Tensor, top_k: TopK) -> Tensor:
    """The largest values of each sample, and zeros elsewhere."""
    flat = relevance.reshape(relevance.shape[0], -1)
    ranked = flat if top_k.by == "value" else flat.abs()
    places = ranked.topk(top_k.count(flat.shape[1]), dim=1, sorted=False).indices
    return (
        torch.zeros_like(flat).scatter(1, places, flat.gather(1, places)).reshape(relevance.shape)
    )


def _partitioned(relevance: Tensor, top_k: TopK, overwrite: bool) -> Kept:
    """:func:`_ranked` by NumPy's partition, and for each sample the places of what is kept.

    KeptPlaces are indices into the memory of a sample, in order; None where they were not found on the
    way.
    """
    keep = _keep_largest if top_k.by == "value" else _keep_strongest
    k = top_k.count(relevance[0].numel())
    result = relevance if overwrite else torch.empty_like(relevance)
    pairs = zip(relevance, result, strict=True)
    return result, [keep(sample, k, into=kept) for sample, kept in pairs]


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


def _keep_largest(sample: Tensor, k: int, *, into: Tensor) -> KeptPlaces | None:
    """Write the ``k`` largest values of a sample into ``into``, and zeros elsewhere.

    Returns:
        The places of what is kept, as in :func:`_partitioned`.
    """
    found = _kth_largest(sample.detach().numpy().ravel(order="K"), k)
    aten.threshold.out(sample, found.below, 0.0, out=into)  # zero unless above
    return _without_surplus(found, into, into)


def _keep_strongest(sample: Tensor, k: int, *, into: Tensor) -> KeptPlaces | None:
    """Write the ``k`` values of a sample with the largest |R| into ``into``, and zeros elsewhere."""
    magnitudes = sample.detach().abs()
    found = _kth_largest(magnitudes.numpy().ravel(order="K"), k)
    aten.hardshrink.out(sample, found.below, out=into)  # zero unless |R| is above
    return _without_surplus(found, magnitudes, into)


def _without_surplus(found: _Kth, ranked: Tensor, into: Tensor) -> KeptPlaces | None:
    """Of values that are equal to the k-th largest, drop as many as are too many.

    Args:
        found: the k-th largest of the ranked values.
        ranked: the values that were compared.
        into: what is kept.
    """
    if found.surplus == 0 or found.value == 0:
        return found.places
    ties = (ranked == float(found.value)).nonzero()
    into[tuple(ties[-found.surplus :].T)] = 0
    return None


@dataclass(frozen=True)
class _Kth:
    """The exact k-th largest of some values; NaN counts as the largest.

    Args:
        value: the k-th largest value.
        surplus: how many more than ``k`` values are at least as large.
        places: gives the indices of these values, in order; None if they were not found.
    """

    value: Any
    surplus: int
    places: KeptPlaces | None = None

    @property
    def below(self) -> float:
        """The next smaller number."""
        return float(np.nextafter(self.value, -np.inf, dtype=self.value.dtype))


def _kth_largest(values: np.ndarray, k: int) -> _Kth:
    """The k-th largest value.

    A sample of the values gives a bound that is very probably below the k-th largest value. Then
    only the values above the bound have to be partitioned. Zeros, of which there are many after a
    ReLU or another filter, are counted and never partitioned: NumPy's partition is a hundred times
    slower on values that are mostly equal.
    """
    looked_at = values[:: (len(values) // _LOOKED_AT) | 1]  # odd step: meets all channels
    seen = looked_at[looked_at > 0]
    share = k / len(values) * len(looked_at)
    place = int(share + 4 * share**0.5) + 1
    if place < len(seen):
        bound = np.partition(seen, len(seen) - 1 - place)[len(seen) - 1 - place]
        candidates, places = _taken(values, values < bound)
        if len(candidates) >= k:
            return _kth_of(candidates, k, places)
    below = values <= 0
    positives = len(values) - np.count_nonzero(below)
    if positives >= k:
        candidates, places = _taken(values, below)
        return _kth_of(candidates, k, places)
    reaching = len(values) - int(np.count_nonzero(values < 0))
    if k <= reaching:
        return _Kth(values.dtype.type(0), reaching - k)
    return _kth_of(values[values < 0], k - reaching, None)


def _kth_of(candidates: np.ndarray, k: int, places: KeptPlaces | None) -> _Kth:
    """The k-th largest by partition of all values.

    Args:
        candidates: the values.
        k: their rank.
        places: gives the indices of the candidates, if these are all that can be kept.
    """
    ordered = np.partition(candidates, len(candidates) - k)
    value = ordered[len(candidates) - k]
    surplus = int(np.count_nonzero(ordered[: len(candidates) - k] == value))
    if places is None:
        return _Kth(value, surplus)
    return _Kth(value, surplus, lambda: places()[~(candidates < value)])


def nonzero_places(values: np.ndarray) -> np.ndarray:
    """The indices of the values that are not zero, if most are."""
    _, places = _taken(values, values == 0)
    return places()


def _taken(values: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, KeptPlaces]:
    """``values[~left]`` and their indices, several times as fast if most blocks of eight are left."""
    whole = len(values) // 8 * 8
    blocks = np.flatnonzero(left[:whole].view(np.uint64) != _ALL_LEFT)
    some, rest = (a[:whole].reshape(-1, 8).take(blocks, axis=0).ravel() for a in (values, left))
    within = np.flatnonzero(~rest)
    last = np.flatnonzero(~left[whole:]) + whole

    def places() -> np.ndarray:
        return np.concatenate([blocks.take(within >> 3) * 8 + (within & 7), last])

    return np.concatenate([some.take(within), values.take(last)]), places


_ALL_LEFT = np.frombuffer(b"\1" * 8, np.uint64)[0]
"""Eight times True."""


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
    tells_places: bool = False
    """Whether the result is a pair: the relevance, and where it is not zero."""

    def __init__(self, top_k: TopK) -> None:
        super().__init__()
        self.top_k = top_k

    def extra_repr(self) -> str:
        """What is kept."""
        return f"top_k={self.top_k}"

    def telling(self) -> Self:
        """A copy of this node that also tells the places of what it keeps, see :class:`Kept`."""
        twin = copy(self)
        twin.tells_places = True
        return twin

    def propagate(
        self, relevance: Tensor, input_shape: torch.Size, *, alone: bool = False
    ) -> Tensor | Kept:
        """The filtered relevance, of the same shape; :class:`Kept` if this node tells places.

        Args:
            relevance: the relevance (N, …), or of a single sample without batch dimension. If
                ``alone``, it may have any layout.
            input_shape: the shape of the model's input, (N, …).
            alone: whether the relevance of all samples but one is zero.
        """
        top_k, overwrite = self.top_k, self._may_overwrite()
        if alone:
            return self._told(_filtered_alone(relevance, top_k, input_shape[0]))
        if input_shape[0] == 1 and relevance.shape[0] != 1:  # has no batch dimension
            whole = _filtered(relevance.unsqueeze(0), top_k, overwrite=overwrite)
            return self._told(whole.squeeze(0))
        filters = top_k.share < 1 and relevance.numel() > 0 and not top_k.renormalize
        if self.tells_places and filters and _takes_partition(relevance):
            return _partitioned(relevance, top_k, overwrite)
        return self._told(_filtered(relevance, top_k, overwrite=overwrite))

    def _told(self, relevance: Tensor) -> Tensor | Kept:
        return (relevance, []) if self.tells_places else relevance
