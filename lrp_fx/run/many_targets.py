"""The relevance of several targets of one sample in one pass, in which they take the place of a batch.

What the forward pass left behind is that of one sample, and each target reads it: an expanded view, not
a copy. Kernels are faster on several than on each alone, as long as what they work on fits the cache.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.run.interpreter import Runner, run_nodes

FITS = {"cpu": 2**24}
"""So many bytes may the largest value of all targets have, by the type of device."""
FITS_ELSEWHERE = 2**28
AGREEMENT = 1e-3
"""Of max |R|: kernels sum in another order for another number of rows. Mixing targets up shows as ~1."""


@dataclass(frozen=True)
class Stacked:
    """The relevance pass of an LRP graph, on the values that the forward pass of one sample left.

    Args:
        module: the graph's module.
        start: the node that relevance starts with.
        nodes: those behind it, in order.
        known: the values that these read, but for that of ``start``.
        of_sample: the nodes whose values depend on the model's inputs.
    """

    module: fx.GraphModule
    start: fx.Node
    nodes: Sequence[fx.Node]
    known: Mapping[fx.Node, Any]
    of_sample: Collection[fx.Node]

    def relevance(self, starts: Tensor) -> tuple[Tensor, ...]:
        """The relevance of each source, (T, …), from the starts of T targets, (T, …)."""
        known = {
            node: _expanded(value, len(starts)) if node in self.of_sample else value
            for node, value in self.known.items()
        }
        values = run_nodes(Runner(self.module), self.nodes, (), {**known, self.start: starts})
        relevance: tuple[Tensor, ...] = values[self.nodes[-1]][0]
        return relevance

    def is_valid(self, start: Tensor) -> bool:
        """Whether two targets can go together: tried on random relevance of the shape of a start.

        They cannot where a value has its batch elsewhere than in front, or samples see each other.
        """
        generator = torch.Generator(start.device).manual_seed(0)
        starts = torch.rand(
            *(2, *start.shape[1:]), generator=generator, dtype=start.dtype, device=start.device
        )
        alone = [self.relevance(each) for each in (starts[:1], starts[1:])]
        try:
            together = self.relevance(starts)
        except Exception:  # whatever is raised about sizes that do not fit
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
        return max(1, FITS.get(device, FITS_ELSEWHERE) // largest)


def _expanded(value: Any, count: int) -> Any:
    """What was found for one sample, as if for ``count`` equal ones."""
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
