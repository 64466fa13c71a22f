"""Relevance through linear operations where most of it is zero, as after a top-k filter.

A pass replaces the three relevance nodes of an operation by one, which skips zeros if there are
enough of them.

In ``R_in = Σ_g c_g Σ_k s_k x_k ⊙ W_kᵀ [R / S(Σ_k s_k z_k)]``, where ``R`` is zero, neither the
denominator nor the products with it are needed. The exact result is computed as follows:

- Convolutions: the windows of the P positions that have relevance are gathered as rows
  (P, K · C_in), where ``K`` is the number of elements of the kernel. Of ``W``, only the rows of
  channels that have relevance in a sample are used. Denominators and adjoints are then small dense
  products.
- Dense layers whose denominator is their own output (ε): for each row of ``q``, ``Wᵀ q`` is the
  weighted sum of the rows of ``W`` at the nonzero entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lrp_fx.graph import as_tuple, aten
from lrp_fx.optimize.draft import Draft
from lrp_fx.relevance import (
    ADJOINTS,
    EdgeRelevance,
    Formula,
    Kept,
    KeptPlaces,
    Operands,
    Share,
    Step,
    TopKFilter,
    nonzero_places,
)
from lrp_fx.rules import Stabilizer, may_write

# Up to these shares the restricted form was faster in benchmarks/sparsity.py. Gathered windows
# overlap and hold each input up to K times, so their limit is lower.
POINTWISE = 0.5  # of positions × channels
WINDOWS = 0.25  # of positions × channels
ENTRIES = 0.25

LITTLE_WORK = 10_000_000
"""Gathering costs about as much as this many multiplications of dense kernels."""

LOOK = 1.25
"""How far beyond the threshold a quick look at some positions must be to decide against this form."""

ROWS_WORTH = 16
"""Copying a row of a weight costs about as much as multiplying it by this many windows."""


class SparseRelevance(Step):
    """All steps of a formula, only on the nonzero part of the relevance where that is faster."""

    def propagate(self, relevance: Tensor | Kept, **operands: Any) -> Tensor:
        """The relevance of the input, in its shape.

        Args:
            relevance: relevance of the output, (N, …), mostly zero; also as the filter tells it.
            operands: as in :meth:`Formula.operands`.
        """
        given = self.formula.operands(**operands)
        relevance, kept = relevance if isinstance(relevance, tuple) else (relevance, [])
        restricted = restricted_relevance(self.formula, relevance, given, kept)
        return self.formula.relevance(relevance, given) if restricted is None else restricted


def restrict_filtered(draft: Draft) -> None:
    """Replace the steps of each linear operation after a filter by one sparse node."""
    graph, modules = draft.graph, draft.modules
    for share in [node for node in graph.nodes if node.op == "call_module"]:
        module = modules[str(share.target)]
        if not isinstance(module, Share):
            continue
        (quotient,) = share.args
        assert isinstance(quotient, fx.Node)
        relevance, denominators, *_ = quotient.args
        if not (_is_filtered(relevance, draft) and can_be_restricted(module.formula, share)):
            continue
        assert isinstance(denominators, fx.Node)
        operands = {**share.kwargs, **denominators.kwargs}
        if module.formula.reads_mask:
            operands["output"] = quotient.args[2]
        sparse = SparseRelevance(module.formula)
        modules[str(share.target)] = sparse.with_settings(precision=module.precision)
        share.args, share.kwargs = (relevance,), operands
        for node in (quotient, denominators):
            graph.erase_node(node)
        assert isinstance(relevance, fx.Node)
        filter = modules[str(relevance.target)]
        if isinstance(filter, TopKFilter) and list(relevance.users) == [share]:
            modules[str(relevance.target)] = filter.telling()


def _is_filtered(relevance: Any, draft: Draft) -> bool:
    """Whether relevance comes from a filter, possibly through hooks or masks."""
    while isinstance(relevance, fx.Node) and relevance.op == "call_module":
        module = draft.modules[str(relevance.target)]
        if isinstance(module, TopKFilter):
            return True
        if not isinstance(module, EdgeRelevance):
            return False
        relevance = relevance.args[0]
    return False


def can_be_restricted(formula: Formula, share: fx.Node) -> bool:
    """Whether a formula can be applied to the nonzero part of the relevance alone.

    Args:
        formula: the formula.
        share: the node of its last step, with the options of the operation.
    """
    name = formula.name
    if formula.engine != "direct" or formula.bias == "distribute" or name == "product":
        return False
    if name == "linear":
        return len(formula.table) == 1 and formula.divides_by_output
    branches = [branch for group in formula.table for branch in group.branches]
    # gathered windows do not distinguish ones at real inputs from ones in the padding
    has_ones = any(branch.input.power == 0 for branch in branches)
    is_plain = "transpose" not in name and share.kwargs.get("groups", 1) in (1, None)
    return is_plain and not has_ones


def restricted_relevance(
    formula: Formula,
    relevance: Tensor,
    operands: Operands,
    kept: Sequence[KeptPlaces | None] = (),
) -> Tensor | None:
    """The relevance of the input from the nonzero entries; None if the dense form is faster.

    The form depends on values. Autograd and compilers cannot follow such a choice, and a GPU would
    have to synchronize, so it is made only on CPU and without gradients.
    """
    is_dense = formula.name == "linear"
    weights = operands.weights
    is_single = not is_dense and relevance.dim() != next(iter(weights.values())).dim()
    if not may_write() or relevance.device.type != "cpu" or is_single:
        return None
    if is_dense:
        assert operands.output is not None
        (weight,) = weights.values()
        input, stabilizer = operands.source("input"), formula.rule.stabilizer
        return dense(relevance, input, operands.output, weight, stabilizer)
    return convolution(formula, relevance, operands, kept)


@dataclass(frozen=True)
class Reached:
    """Where a batch (N, C, *L) has relevance.

    Args:
        positions: indices into the flattened samples and positions, in order.
        counts: the number ``P`` of these positions in each sample.
        channels: for each sample, the indices (Q,) of its channels with relevance.
        share: the sum of all ``P · Q`` as a share of all entries.
    """

    positions: Tensor
    counts: list[int]
    channels: tuple[Tensor, ...]
    share: float


def reached_at(kept: Sequence[KeptPlaces | None], relevance: Tensor) -> Reached:
    """:func:`reached`, from the places that a filter found.

    Args:
        kept: the places of each sample.
        relevance: (N, C, *L) in channels-last layout.
    """
    samples, width = relevance.shape[:2]
    rows = _rows(relevance)
    known = [
        nonzero_places(rows[i].numpy().ravel()) if found is None else found()
        for i, found in enumerate(kept)
    ]
    sample = np.repeat(np.arange(samples), [len(found) for found in known])
    position, channel = np.divmod(np.concatenate(known), width)
    positions = np.zeros((samples, rows.shape[1]), bool)
    channels = np.zeros((samples, width), bool)
    positions[sample, position] = channels[sample, channel] = True
    return _reached(positions, channels)


def reached(relevance: Tensor) -> Reached:
    """The positions and channels of each sample (C, *L) that are not all zero. NaN counts as nonzero."""
    magnitude = _rows(relevance).abs()
    # amax of floats is several times faster than any() of booleans
    positions, channels = (magnitude.amax(dim) != 0 for dim in (2, 1))
    return _reached(positions.numpy(), channels.numpy())


def _reached(positions: np.ndarray, channels: np.ndarray) -> Reached:
    """From which positions (N, L) and channels (N, C) of each sample are not all zero."""
    counts, used = positions.sum(1), channels.sum(1)
    return Reached(
        torch.from_numpy(np.flatnonzero(positions)),
        counts.tolist(),
        torch.split(torch.from_numpy(np.nonzero(channels)[1]), used.tolist()),
        float(counts @ used) / (positions.size * channels.shape[1]),
    )


def _reaches_more(samples: Tensor, threshold: float) -> bool:
    """Whether every 16th position of (N, C, *L) shows a share of relevance beyond the threshold.

    Fewer positions show fewer channels, so the estimate is rather too low and favours the sparse
    form.
    """
    magnitude = _rows(samples)[:, ::16].abs()
    positions, channels = ((magnitude.amax(d) != 0).float().mean(1) for d in (2, 1))
    return float((positions * channels).mean()) > LOOK * threshold


def convolution(
    formula: Formula,
    relevance: Tensor,
    operands: Operands,
    kept: Sequence[KeptPlaces | None] = (),
) -> Tensor | None:
    """The relevance of a convolution's input, or None if the dense form is faster.

    Args:
        formula: the formula of a convolution with one group.
        relevance: (N, C_out, *L) with one to three dimensions L.
        operands: what the formula reads.
        kept: where each sample has relevance, if the filter told.
    """
    weight, input = next(iter(operands.weights.values())), operands.source("input")
    given = {"stride": 1, "padding": 0, "dilation": 1, **operands.options}
    window = Window.of(weight, input, given["stride"], given["padding"], given["dilation"])
    threshold = POINTWISE if window.size == 1 else WINDOWS
    work = 2 * len(formula.parts) * relevance[:, 0].numel() * weight.numel()
    if work < LITTLE_WORK:
        return None
    if kept and relevance.movedim(1, -1).is_contiguous():
        found = reached_at(kept, relevance)
    elif _reaches_more(relevance[:1], threshold):
        return None
    else:
        found = reached(relevance)
    if found.share > threshold or (1 - found.share) * work < LITTLE_WORK:
        return None
    # by BLAS: oneDNN compiles a kernel for each number of rows, and these are ever new
    on_rows = replace(formula, name="linear", kernel=aten.linear, adjoint=ADJOINTS["linear"])
    total = input.new_zeros(len(input), *input.shape[2:], input.shape[1])  # channels last
    # overlapping windows of a whole batch would take much memory
    together = len(input) if window.size == 1 else 1
    begun = 0
    for first in range(0, len(input), together):
        batch = slice(first, first + together)
        counts, channels = found.counts[batch], found.channels[batch]
        positions = found.positions[begun : begun + sum(counts)] - first * relevance[0, 0].numel()
        begun += sum(counts)
        if not len(positions):
            continue
        places = window.places(positions, relevance.shape[2:])
        arrived = _rows(relevance[batch]).flatten(0, 1).index_select(0, positions)
        own = None
        if operands.output is not None:
            own = _rows(operands.output[batch]).flatten(0, 1).index_select(0, positions)
        gathered = replace(
            operands,
            input=window.gather(input[batch], places),
            output=own,
            low=None if operands.low is None else window.gather(operands.low[batch], places),
            high=None if operands.high is None else window.gather(operands.high[batch], places),
        )
        parts = [
            _share(on_rows, arrived, gathered, rows, selected)
            for rows, selected in _pieces(counts, channels, relevance.shape[1])
        ]
        share = parts[0] if len(parts) == 1 else torch.cat(parts)
        window.scatter(share, places, total[batch])
    total = total.movedim(-1, 1)
    return total.contiguous() if input.is_contiguous() else total


def _pieces(
    counts: Sequence[int], channels: Sequence[Tensor], width: int
) -> Iterator[tuple[slice, Tensor | None]]:
    """Rows to compute together, and the channels to restrict them to if that pays for the copies.

    Args:
        counts: the number of rows of each sample.
        channels: the channels of each sample that are not all zero.
        width: the number of all channels.
    """
    begun = end = 0
    for count, some in zip(counts, channels, strict=True):
        if (width - len(some)) * count > ROWS_WORTH * len(some):
            if end > begun:
                yield slice(begun, end), None
            begun = end = end + count
            if count:
                yield slice(begun - count, end), some
        else:
            end += count
    if end > begun:
        yield slice(begun, end), None


def dense(
    relevance: Tensor,
    input: Tensor,
    output: Tensor,
    weight: Tensor,
    stabilizer: Stabilizer,
    *,
    threshold: float | None = None,
) -> Tensor | None:
    """``x ⊙ Wᵀ [R / S(z)]`` with the layer's own output ``z``, or None if the dense form is faster.

    Args:
        relevance: (…, F_out).
        input: (…, F_in).
        output: (…, F_out).
        weight: (F_out, F_in).
        stabilizer: the stabilizer of the rule.
        threshold: the largest share of nonzero entries for which this form is used; None for the
            measured limit.
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
    """The window of the padded input that each output position of a convolution reads."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    padded: tuple[int, ...]

    @classmethod
    def of(cls, weight: Tensor, input: Tensor, stride: Any, padding: Any, dilation: Any) -> Window:
        """The window of a convolution on ``input`` (N, C_in, …)."""
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
        """Whether each output position reads only the input position with the same index."""
        return self.size == 1 and not any(self.padding) and all(s == 1 for s in self.stride)

    def places(self, positions: Tensor, shape: Sequence[int]) -> Tensor:
        """The positions in the padded inputs that output positions (P,) read, (P · K,).

        Args:
            positions: indices into the flattened samples and positions.
            shape: the shape of the positions of a sample.
        """
        if self.is_position:
            return positions
        size = torch.Size(shape).numel()
        places = positions.div(size, rounding_mode="floor")[:, None]
        coordinates = torch.unravel_index(positions % size, shape)
        steps = zip(self.kernel, self.stride, self.dilation, self.padded, strict=True)
        for coordinate, (taps, stride, dilation, length) in zip(coordinates, steps, strict=True):
            offsets = torch.arange(taps, device=positions.device) * dilation
            line = coordinate[:, None, None] * stride + offsets
            places = (places[..., None] * length + line).flatten(1)
        return places.flatten()

    def gather(self, values: Tensor, places: Tensor) -> Tensor:
        """The windows (P, K · C) of samples (N, C, …)."""
        values = values.movedim(1, -1)
        if any(self.padding):
            values = F.pad(values, [0, 0, *(p for p in reversed(self.padding) for _ in range(2))])
        rows = values.flatten(0, -2).index_select(0, places)
        return rows.view(len(places) // self.size, -1)

    def scatter(self, windows: Tensor, places: Tensor, to: Tensor) -> None:
        """Add the windows (P, K · C) back to where they were gathered, in a zero tensor (N, …, C)."""
        rows = windows.view(len(places), -1)
        if self.is_position:
            to.view(-1, rows.shape[1]).index_copy_(0, places, rows)
            return
        padded = to.new_zeros(len(to), *self.padded, rows.shape[1])
        index = places[:, None].expand_as(rows)
        padded.view(-1, rows.shape[1]).scatter_add_(0, index, rows)
        for dim, (margin, length) in enumerate(zip(self.padding, to.shape[1:-1], strict=True), 1):
            padded = padded.narrow(dim, margin, length)
        to.copy_(padded)


def _rows(samples: Tensor) -> Tensor:
    """(N, C, *L) as one row per position, (N, P, C). It is a view in channels-last layout."""
    return samples.movedim(1, -1).flatten(1, -2)


def _share(
    formula: Formula,
    relevance: Tensor,
    gathered: Operands,
    rows: slice,
    channels: Tensor | None,
) -> Tensor:
    """The rule as on a dense layer with P samples, from (P, C_out) to (P, K · C_in).

    Args:
        formula: the formula for a dense layer.
        relevance: of all positions.
        gathered: the operands of all positions; their weights are those of the convolution.
        rows: the positions to use.
        channels: the channels to use; None for all.
    """

    def some(value: Tensor, dim: int) -> Tensor:
        return value if channels is None else value.index_select(dim, channels)

    def at_rows(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[rows]

    output, bias = at_rows(gathered.output), gathered.bias
    operands = Operands(
        input=at_rows(gathered.input),
        output=None if output is None else some(output, 1),
        weights={
            part: some(w.movedim(1, -1), 0).flatten(1) for part, w in gathered.weights.items()
        },
        bias=None if bias is None else some(bias, 0),
        low=at_rows(gathered.low),
        high=at_rows(gathered.high),
        options={},
    )
    return formula.relevance(some(relevance[rows], 1), operands)
