"""Forms of leaving out what is multiplied with zero that were tried, beside those in the library.

Each gives the same relevance as the dense form. ``benchmarks/sparsity.py`` times them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lrp_fx.graph.calls import as_tuple
from lrp_fx.relevance import LinearRelevance, sparse
from lrp_fx.stabilizer import Stabilizer


@dataclass(frozen=True)
class Layer:
    """One linear operation of a run, with all that its relevance node gets."""

    name: str
    module: LinearRelevance
    relevance: Tensor
    input: Tensor
    output: Tensor | None
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]

    @property
    def kind(self) -> str:
        if self.weight.dim() == 2:
            return "linear"
        if self.channel_groups > 1:
            return "depthwise"
        return "pointwise" if self.weight[0, 0].numel() == 1 else "k×k"

    def forward_work(self, samples: int) -> int:
        """Multiply-adds of the operation itself, per sample."""
        return self.relevance.numel() // samples * self.weight[0].numel()

    def work(self, samples: int) -> int:
        """Multiply-adds of the rule: an adjoint for each branch, and its denominator if not known."""
        passes = sum(len(each.terms) * (1 if each.own else 2) for each in self.groups)
        return passes * self.forward_work(samples)

    @property
    def channel_groups(self) -> int:
        return int(self.options.get("groups", 1))

    @property
    def stabilizer(self) -> Stabilizer:
        return self.module.rule.stabilizer

    def option(self, name: str) -> tuple[int, ...]:
        return as_tuple(self.options[name], self.weight.dim() - 2)

    @cached_property
    def groups(self) -> list[sparse.Weighed]:
        """The rule with the weights of the operation."""
        module, bias = self.module, self.bias
        return [
            sparse.Weighed(
                group,
                tuple(
                    (
                        branch,
                        module._weight(branch.weight, self.weight),
                        None if bias is None or branch.bias.vanishes else branch.bias.of(bias),
                    )
                    for branch in group.branches
                ),
                module._is_own_output(group.branches),
            )
            for group in module.table
        ]


def dense(o: Layer) -> Tensor:
    """As without sparsity: denominators and adjoints of everything."""
    return o.module.propagate(o.relevance, o.input, o.output, o.weight, o.bias, **o.options)


def library(o: Layer) -> Tensor:
    """The form of the library, whatever the density: entries of linear layers, windows of others."""
    if o.weight.dim() == 2:
        assert o.output is not None
        found = sparse.dense(
            o.relevance, o.input, o.output, o.weight, o.stabilizer, threshold=float("inf")
        )
    else:
        options = {key: value for key, value in o.options.items() if key != "groups"}
        found = sparse.convolution(
            o.relevance,
            {"input": o.input},
            o.output,
            o.groups,
            o.stabilizer,
            threshold=float("inf"),
            **options,
        )
    assert found is not None
    return found


def channels(o: Layer) -> Tensor:
    """Dense kernels on the rows of W whose channel has relevance in any sample."""
    some = ((o.relevance.amax((0, 2, 3)) != 0) | (o.relevance.amin((0, 2, 3)) != 0)).nonzero()[:, 0]
    grouped = o.channel_groups > 1
    x = o.input.index_select(1, some) if grouped else o.input
    part = _table(
        o,
        o.relevance.index_select(1, some),
        x,
        None if o.output is None else o.output.index_select(1, some),
        lambda value: value.index_select(0, some),
        o.option("padding"),
        len(some) if grouped else 1,
    )
    return torch.zeros_like(o.input).index_copy_(1, some, part) if grouped else part


def box(o: Layer) -> Tensor:
    """Dense kernels on the smallest rectangle with all positions that have relevance, per sample."""
    total = torch.zeros_like(o.input)
    for n, relevance in enumerate(o.relevance):
        reach = (relevance.amax(0) != 0) | (relevance.amin(0) != 0)
        if not reach.any():
            continue
        inside, crop, margins = [], [], []
        for dim in (0, 1):
            line = reach.any(1 - dim).nonzero()[:, 0]
            first, last = int(line[0]), int(line[-1])
            extent = o.option("dilation")[dim] * (o.weight.shape[2 + dim] - 1) + 1
            low = first * o.option("stride")[dim] - o.option("padding")[dim]
            high = last * o.option("stride")[dim] - o.option("padding")[dim] + extent
            length = o.input.shape[2 + dim]
            inside.append(slice(first, last + 1))
            crop.append(slice(max(low, 0), min(high, length)))
            margins.append((max(-low, 0), max(high - length, 0)))
        own = None if o.output is None else o.output[n : n + 1, :, *inside].contiguous()
        part = _table(
            o,
            relevance[None, :, *inside].contiguous(),
            F.pad(o.input[n : n + 1, :, *crop], (*margins[1], *margins[0])).contiguous(),
            own,
            lambda value: value,
            (0, 0),
            o.channel_groups,
        )
        place = total[n : n + 1, :, *crop]
        kept = zip(margins, place.shape[2:], strict=True)
        place.copy_(part[:, :, *(slice(first, first + n) for (first, _), n in kept)])
    return total


def _table(
    o: Layer,
    relevance: Tensor,
    x: Tensor,
    output: Tensor | None,
    some: Callable[[Tensor], Tensor],
    padding: tuple[int, ...],
    channel_groups: int,
) -> Tensor:
    """The rule with dense kernels on some of the channels or positions."""
    total = torch.zeros_like(x)
    for each in o.groups:
        terms = [
            (branch.input.of(x), some(w), None if b is None else some(b))
            for branch, w, b in each.terms
        ]
        options = (o.option("stride"), padding, o.option("dilation"), channel_groups)
        z = output if each.own else sum(F.conv2d(v, w, b, *options) for v, w, b in terms)
        q = o.stabilizer.quotient(relevance, z)
        for v, w, _ in terms:
            pulled = torch.ops.aten.convolution_backward(
                *(q, v, w, None, *options[:3], False, (0, 0), channel_groups),
                (True, False, False),
            )[0]
            total += pulled.mul_(v)
    return total


def csr(o: Layer) -> Tensor:
    """Compressed rows: denominators at the entries alone, sparse products; 1×1 and linear layers."""
    if o.weight.dim() == 2:
        assert o.output is not None
        rows = o.relevance.reshape(-1, o.relevance.shape[-1])
        q = o.stabilizer.quotient(rows, o.output.reshape(rows.shape))
        return (q.to_sparse_csr() @ o.weight).view(o.input.shape) * o.input
    total = torch.zeros_like(o.input)
    for n, relevance in enumerate(o.relevance):
        at = sparse.reached(relevance[None]).positions
        if not len(at):
            continue
        r = relevance.flatten(1).index_select(1, at).to_sparse_csr()
        where, x = (r.crow_indices(), r.col_indices()), o.input[n].flatten(1).index_select(1, at)
        share: Any = 0
        for each in o.groups:
            z = torch.sparse_csr_tensor(*where, torch.zeros_like(r.values()), r.shape)
            shift: Any = 0
            for branch, w, b in each.terms:
                z = torch.sparse.sampled_addmm(z, w.flatten(1), branch.input.of(x))
                if b is not None:
                    shift = shift + b.repeat_interleave(where[0].diff())
            q = o.stabilizer.quotient(r.values(), z.values() + shift)
            turned = torch.sparse_csc_tensor(*where, q, (r.shape[1], r.shape[0])).to_sparse_csr()
            for branch, w, _ in each.terms:
                share = share + (turned @ w.flatten(1)).t() * branch.input.of(x)
        total[n].flatten(1).index_copy_(1, at, share)
    return total


def rows(o: Layer) -> Tensor:
    """Linear layers: the rows of W whose output has relevance in any sample, then a dense product."""
    assert o.output is not None
    relevance = o.relevance.reshape(-1, o.relevance.shape[-1])
    q = o.stabilizer.quotient(relevance, o.output.reshape(relevance.shape))
    some = ((q.amax(0) != 0) | (q.amin(0) != 0)).nonzero()[:, 0]
    return (q.index_select(1, some) @ o.weight.index_select(0, some)).view(o.input.shape) * o.input


def forms(layer: Layer) -> dict[str, Callable[[Layer], Tensor]]:
    """The forms that there are for a layer, the dense one first."""
    if layer.kind == "linear":
        return {"dense": dense, "entries": library, "rows": rows, "CSR": csr}
    found = {"dense": dense, "channels": channels, "box": box}
    if layer.kind != "depthwise":
        found["windows"] = library
    if layer.kind == "pointwise" and layer.option("stride") == (1, 1):
        found["CSR"] = csr
    return found
