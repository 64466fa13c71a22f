"""Several targets of one sample in one relevance pass, where they take the place of the batch.

The values of the forward pass belong to one sample, and all targets read them through an expanded
view, not a copy. Kernels are faster on several targets together than one by one, as long as the
values fit the cache.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.run.interpreter import Runner, run_nodes

FITS = {"cpu": 2**24}
"""The most bytes that the largest value of all targets together may have, by device type."""
MAX_BYTES_ELSEWHERE = 2**28
AGREEMENT = 1e-3
"""The tolerance, of max |R|: kernels sum in another order for another number of rows.

If targets were mixed up, the difference would be about 1.
"""


@dataclass(frozen=True)
class Stacked:
    """The relevance pass of an LRP graph, on the values that the forward pass of one sample left.

    Args:
        module: the graph's module.
        start: the node of the relevance that the propagation starts with.
        nodes: the nodes after it, in order.
        known: the values that these read, except that of ``start``.
        of_sample: the nodes whose values depend on the model's inputs.
    """

    module: fx.GraphModule
    start: fx.Node
    nodes: Sequence[fx.Node]
    known: Mapping[fx.Node, Any]
    of_sample: Collection[fx.Node]

    def relevance(self, starts: Tensor) -> tuple[Tensor, ...]:
        """The relevance (T, …) of each source, for the starts (T, …) of T targets."""
        known = {
            node: _expanded(value, len(starts)) if node in self.of_sample else value
            for node, value in self.known.items()
        }
        values = run_nodes(Runner(self.module), self.nodes, (), {**known, self.start: starts})
        relevance: tuple[Tensor, ...] = values[self.nodes[-1]][0]
        return relevance

    def is_valid(self, start: Tensor) -> bool:
        """Whether targets can be run together; tried with two random starts of the given shape.

        They cannot if the batch is not the first dimension of some value, or if samples affect each
        other.
        """
        generator = torch.Generator(start.device).manual_seed(0)
        starts = torch.rand(
            *(2, *start.shape[1:]), generator=generator, dtype=start.dtype, device=start.device
        )
        alone = [self.relevance(each) for each in (starts[:1], starts[1:])]
        try:
            together = self.relevance(starts)
        except Exception:  # sizes that do not fit may raise anything
            return False
        return all(
            found.shape == expected.shape
            and float((found - expected).abs().max()) <= AGREEMENT * float(expected.abs().max())
            for found, *each in zip(together, *alone, strict=True)
            for expected in [torch.cat(each)]
        )

    def fitting(self) -> int:
        """How many targets fit the cache together; at least one."""
        values = [v for node in self.of_sample for v in _tensors(self.known.get(node))]
        largest = max((value.numel() * value.element_size() for value in values), default=1)
        device = values[0].device.type if values else "cpu"
        return max(1, FITS.get(device, MAX_BYTES_ELSEWHERE) // largest)


def _expanded(value: Any, count: int) -> Any:
    """A value of one sample, expanded to ``count`` equal samples."""
    if isinstance(value, torch.Size):
        return torch.Size((count, *value[1:])) if value[:1] == (1,) else value
    if isinstance(value, Tensor):
        return value.expand(count, *value.shape[1:]) if value.shape[:1] == (1,) else value
    if isinstance(value, (list, tuple)):
        return type(value)(_expanded(each, count) for each in value)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
