"""Runs the relevance pass sample by sample, where the layout of a value may hide the batch.

A filter keeps a fraction of each sample's relevance. Inside attention, and in models with time as
the first dimension, a value may be (T, N, …), (T · N, …) or (N · windows, …), so that a row is not
a sample. The relevance pass is then run once per sample, with the relevance of all other samples
set to zero. This needs neither the layouts nor slices of the inputs, some of which may have no
batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.plan import Plan
from lrp_fx.relevance import TopKFilter
from lrp_fx.run.interpreter import Runner, leading_to, run_nodes

SIZES = (2, 3)
"""Batch sizes to try. If the first dimension of a value follows both, it is the batch."""


class Alone(Runner):
    """Runs the relevance pass for one sample of a batch; the relevance of all others is zero."""

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The result of a relevance node. A filter is told that only one sample has relevance."""
        if isinstance(self.fetch_attr(target), TopKFilter):
            kwargs = {**kwargs, "alone": True}
        return super().call_module(target, args, kwargs)


def apart(start: Tensor) -> Iterator[Tensor]:
    """For each sample in turn, the start of its relevance (N, …), with zeros for all other samples."""
    for sample in range(start.shape[0]):
        alone = torch.zeros_like(start)
        alone[sample] = start[sample]
        yield alone


def hides_batch(plan: Plan, tensors: tuple[Tensor, ...], live: Mapping[str, Tensor]) -> bool:
    """Whether the batch is not the first dimension of some value that a filter meets.

    The forward pass is run with other batch sizes, which the first dimension has to follow.
    Comparing it with the batch size alone could be misled by a dimension that happens to be equally
    large. If the forward pass works with no other size, the batch is taken to be hidden.

    Args:
        plan: which nodes have filters.
        tensors: the model's input tensors.
        live: the tensors that the canonical graph reads, by path.
    """
    placeholders = [n for n in plan.explained.graph.nodes if n.op == "placeholder"]
    explained = tuple(map(plan.facts.is_dynamic, placeholders))
    # an additional argument of the batch's length may or may not have a batch: try both
    as_long = tuple(t.shape[:1] == tensors[0].shape[:1] for t in tensors)
    answers = [_is_in_front(plan, tensors, batched, live) for batched in {explained, as_long}]
    return not any(answers) or False in answers


def _is_in_front(
    plan: Plan, tensors: tuple[Tensor, ...], batched: Sequence[bool], live: Mapping[str, Tensor]
) -> bool | None:
    """Whether all filtered values have the batch as first dimension; None if it cannot be tried.

    Args:
        plan: as in :func:`hides_batch`.
        tensors: as in :func:`hides_batch`.
        batched: which of the tensors have a batch dimension.
        live: as in :func:`hides_batch`.
    """
    module = plan.explained.graph.owning_module
    assert module is not None
    filtered = {step.node for step in plan.steps if step.top_k is not None}
    # of several results, those that carry relevance
    filtered |= {s.node for s in plan.steps if s.operation is None and s.receivers[0] in filtered}
    nodes = leading_to(module.graph, filtered)
    found = set()
    for size in SIZES:
        values = [
            t[torch.arange(size, device=t.device) % len(t)] if has_batch else t
            for t, has_batch in zip(tensors, batched, strict=True)
        ]
        runner = _Leading(module, live, filtered)
        try:
            with torch.no_grad():
                run_nodes(runner, nodes, values)
        except Exception:  # sizes that do not fit may raise anything
            return None
        found.add(runner.found == {size})
    return found == {True}


class _Leading(Runner):
    """Records the first dimension of the values of some nodes."""

    def __init__(
        self, module: fx.GraphModule, live: Mapping[str, Tensor], noted: set[fx.Node]
    ) -> None:
        super().__init__(module, live)
        self.noted = noted
        self.found: set[int | None] = set()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.noted and isinstance(result, Tensor):
            self.found.add(result.shape[0] if result.dim() else None)
        return result
