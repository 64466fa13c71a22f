"""Relevance through linear operations where most of it is zero, as it is behind a top-k filter.

In ``R_in = Σ_g c_g Σ_k s_k x_k ⊙ W_kᵀ [R / S(Σ_k s_k z_k)]`` neither the denominator nor the products
behind it are needed where ``R`` is zero. What is left, exactly:

- convolutions, one sample at a time: the windows of the P positions that any relevance reached are
  gathered as columns (C_in · K, P), ``K`` elements of the kernel each; of ``W`` the rows of the
  channels that any relevance reached are taken. Denominators and adjoints are then two small dense
  products.
- dense layers whose denominator is their own output (ε): ``Wᵀ q`` is, for each row of ``q``, the sum of
  the rows of ``W`` at its nonzero entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lrp_fx.aten import as_tuple
from lrp_fx.rules import Branch, Group, Stabilizer

# Up to these shares the restricted form was the faster one where benchmarks/sparsity.py measured it.
# Windows overlap: gathering holds each input up to K times, which has to be made up for.
POINTWISE = 0.7  # of positions × channels
WINDOWS = 0.25  # of positions × channels
ENTRIES = 0.25

ROWS_WORTH = 16
"""Copying a row of a weight costs about as much as multiplying it with so many columns."""


@dataclass(frozen=True)
class Weighed:
    """A group of a rule's table with the weights of one operation.

    Args:
        group: the group.
        terms: of each branch the weight (C_out, …) and the bias (C_out,), if it has one.
        own: the denominator is the operation's own output.
    """

    group: Group
    terms: tuple[tuple[Branch, Tensor, Tensor | None], ...]
    own: bool


@dataclass(frozen=True)
class Reached:
    """Where one sample (C, *L) has relevance.

    Args:
        positions: indices into the flattened positions, (P,).
        channels: indices of channels, (Q,).
        share: ``P · Q`` as a share of all entries.
    """

    positions: Tensor
    channels: Tensor
    share: float


def reached(relevance: Tensor) -> Reached:
    """The positions and channels of a sample (C, *L) that are not all zero; NaN counts."""
    magnitude = relevance.flatten(1).abs()
    # amax of floats is several times faster than any of booleans
    positions = (magnitude.amax(0) != 0).nonzero()[:, 0]
    channels = (magnitude.amax(1) != 0).nonzero()[:, 0]
    share = len(positions) * len(channels) / magnitude.numel()
    return Reached(positions, channels, share)


def convolution(
    relevance: Tensor,
    sources: Mapping[str, Tensor],
    output: Tensor | None,
    groups: Sequence[Weighed],
    stabilizer: Stabilizer,
    *,
    threshold: float | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
) -> Tensor | None:
    """The relevance of a convolution's input, or None where the dense form is the faster one.

    Args:
        relevance: (N, C_out, *L), 1 to 3 dimensions of positions; the convolution has one group.
        sources: what branches take their part of, the ``"input"`` (N, C_in, …) and its bounds.
        output: the convolution's output, where a group needs it.
        groups: the rule.
        stabilizer: the rule's.
        threshold: the share of positions × channels up to which this form is taken; None for what
            was measured.
        stride: of the convolution, like the following.
        padding: with zeros, on both sides.
        dilation: of the kernel.
    """
    weight = groups[0].terms[0][1]
    window = Window.of(weight, sources["input"], stride, padding, dilation)
    if threshold is None:
        threshold = POINTWISE if window.size == 1 else WINDOWS
    found = [reached(sample) for sample in relevance]
    if sum(sample.share for sample in found) > threshold * len(found):
        return None
    total = torch.zeros_like(sources["input"], memory_format=torch.contiguous_format)
    for n, sample in enumerate(found):
        if sample.share == 0:
            continue
        places = window.places(sample.positions, relevance.shape[2:])
        columns = {name: window.gather(value[n], places) for name, value in sources.items()}
        own = None if output is None else _at(output[n], sample.positions)
        share = _share(
            _at(relevance[n], sample.positions), columns, own, groups, stabilizer, sample
        )
        window.scatter(share, places, total[n])
    return total


def dense(
    relevance: Tensor,
    input: Tensor,
    output: Tensor,
    weight: Tensor,
    stabilizer: Stabilizer,
    *,
    threshold: float | None = None,
) -> Tensor | None:
    """``x ⊙ Wᵀ [R / S(z)]`` with the layer's own output ``z``, or None where that is slower.

    Args:
        relevance: (…, F_out).
        input: (…, F_in).
        output: (…, F_out).
        weight: (F_out, F_in).
        stabilizer: the rule's.
        threshold: the share of entries up to which this form is taken; None for what was measured.
    """
    rows = relevance.reshape(-1, relevance.shape[-1])
    row, feature = rows.nonzero(as_tuple=True)
    if len(row) > (ENTRIES if threshold is None else threshold) * rows.numel():
        return None
    z = output.reshape(rows.shape)[row, feature]
    q = stabilizer.quotient(rows[row, feature], z)
    starts = torch.searchsorted(row, torch.arange(len(rows), device=row.device))
    pulled = F.embedding_bag(feature, weight, starts, mode="sum", per_sample_weights=q)
    return pulled.view(input.shape).mul_(input)


@dataclass(frozen=True)
class Window:
    """What each output position of a convolution sees, in the padded input."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    padded: tuple[int, ...]

    @classmethod
    def of(cls, weight: Tensor, input: Tensor, stride: Any, padding: Any, dilation: Any) -> Window:
        """Of a convolution on ``input`` (N, C_in, …)."""
        dims = weight.dim() - 2
        padding = as_tuple(padding, dims)
        padded = tuple(n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True))
        stride, dilation = as_tuple(stride, dims), as_tuple(dilation, dims)
        return cls(tuple(weight.shape[2:]), stride, padding, dilation, padded)

    @property
    def size(self) -> int:
        """The number ``K`` of elements of the kernel."""
        return torch.Size(self.kernel).numel()

    @property
    def is_position(self) -> bool:
        """Whether each output position sees the input position of the same index alone."""
        return self.size == 1 and not any(self.padding) and all(s == 1 for s in self.stride)

    def places(self, positions: Tensor, shape: Sequence[int]) -> Tensor:
        """The places of the padded input that output positions (P,) see, (K · P,)."""
        if self.is_position:
            return positions
        places = positions.new_zeros(1, len(positions))
        coordinates = torch.unravel_index(positions, shape)
        steps = zip(self.kernel, self.stride, self.dilation, self.padded, strict=True)
        for coordinate, (taps, stride, dilation, length) in zip(coordinates, steps, strict=True):
            offsets = torch.arange(taps, device=positions.device)[:, None] * dilation
            places = (places[:, None] * length + (coordinate * stride + offsets)).flatten(0, 1)
        return places.flatten()

    def gather(self, value: Tensor, places: Tensor) -> Tensor:
        """The columns (C · K, P) of one sample (C, …)."""
        if any(self.padding):
            value = F.pad(value, [p for p in reversed(self.padding) for _ in range(2)])
        columns = value.flatten(1).index_select(1, places)
        return columns.view(-1, len(places) // self.size)

    def scatter(self, columns: Tensor, places: Tensor, to: Tensor) -> None:
        """Add the columns (C · K, P) to where they were gathered, ``to`` (C, …), which is zero."""
        values = columns.view(len(to), -1)
        index = places.expand_as(values)
        if self.is_position:
            to.view(len(to), -1).scatter_(1, index, values)
            return
        padded = to.new_zeros(len(to), *self.padded)
        padded.view(len(to), -1).scatter_add_(1, index, values)
        for dim, (margin, length) in enumerate(zip(self.padding, to.shape[1:], strict=True), 1):
            padded = padded.narrow(dim, margin, length)
        to.copy_(padded)


def _at(sample: Tensor, positions: Tensor) -> Tensor:
    """(C, *L) at some of the positions, (C, P)."""
    return sample.flatten(1).index_select(1, positions)


def _share(
    relevance: Tensor,
    columns: Mapping[str, Tensor],
    output: Tensor | None,
    groups: Sequence[Weighed],
    stabilizer: Stabilizer,
    sample: Reached,
) -> Tensor:
    """The rule as on a dense layer with P samples in columns: (C_out, P) to (C_in · K, P)."""
    count, skipped = len(sample.channels), len(relevance) - len(sample.channels)
    selects = skipped * len(sample.positions) > ROWS_WORTH * count

    def some(value: Tensor) -> Tensor:
        return value.index_select(0, sample.channels) if selects else value

    relevance = some(relevance)
    output = None if output is None else some(output)
    total: Tensor | None = None
    for each in groups:
        terms = [
            (
                b.sign,
                b.input.of(columns[b.source]),
                some(w.flatten(1)),
                None if c is None else some(c),
            )
            for b, w, c in each.terms
        ]
        z: Tensor | None = output
        if not each.own:
            z = None
            for sign, x, w, c in terms:
                z = _plus(z, sign, w @ x if c is None else torch.addmm(c[:, None], w, x))
        assert z is not None
        q = stabilizer.quotient(_masked(relevance, each.group, output), z)
        q = q * each.group.coefficient if each.group.coefficient != 1 else q
        for sign, x, w, _ in terms:
            total = _plus(total, sign, (w.t() @ q).mul_(x))
    assert total is not None
    return total


def _plus(total: Tensor | None, sign: float, term: Tensor) -> Tensor:
    """``total + sign · term``, in the place of one of them."""
    if total is None:
        return term if sign == 1 else term.mul_(sign)
    return total.add_(term, alpha=sign)


def _masked(relevance: Tensor, group: Group, output: Tensor | None) -> Tensor:
    if group.mask == "all":
        return relevance
    assert output is not None
    return relevance * (output > 0 if group.mask == "positive" else output < 0)
