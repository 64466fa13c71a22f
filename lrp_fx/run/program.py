"""A program: an LRP graph bound to a live model, which follows its parameters and can be run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx._common import Recent, all_finite
from lrp_fx.capture import ModelState
from lrp_fx.errors import InputError, LRPError
from lrp_fx.graph import split_by_dependence
from lrp_fx.plan import Plan
from lrp_fx.relevance import (
    LargestTarget,
    Places,
    SelectorTarget,
    StartRelevance,
    Target,
    places_on,
    target_places,
)
from lrp_fx.rewrite import LRPGraph
from lrp_fx.run.batches import Alone, apart, hides_batch
from lrp_fx.run.follow import FollowedParameters
from lrp_fx.run.interpreter import Runner, leading_to, run_nodes
from lrp_fx.run.many_targets import Stacked
from lrp_fx.run.non_finite import first_non_finite


@dataclass(frozen=True)
class Explanation:
    """The result of one run.

    Args:
        relevance: the relevance of each source of the plan, in its shape.
        output: the explained output, (N, …).
        start: the relevance that the propagation started with, in the output's shape.
    """

    relevance: tuple[Tensor, ...]
    output: Tensor
    start: Tensor

    def delta(self) -> Tensor:
        """Σ start − Σ relevance of each sample, (N,)."""
        return per_sample(self.start) - sum(per_sample(r) for r in self.relevance)


_Result = tuple[tuple[Tensor, ...], Tensor, Tensor]
"""The relevance of each source, the output and the start, as in :class:`Explanation`."""


def per_sample(relevance: Tensor) -> Tensor:
    """The sum over the values of each sample, (N,)."""
    return relevance.reshape(relevance.shape[0], -1).sum(1)


def check_batch(output: Tensor, input: Tensor) -> None:
    """Raise an ``InputError`` unless the output has one entry for each sample of the input (N, …)."""
    if output.dim() == 0 or output.shape[0] != input.shape[0]:
        advice = ""
        if input.dim() == 1 and not input.is_floating_point():
            advice = (
                ". Words of several samples in one row, with offsets, are explained as (N, T): "
                "nn.EmbeddingBag takes those without offsets, padded to one length with its padding_idx"
            )
        raise InputError(
            f"the explained output has shape {tuple(output.shape)} for a batch of {input.shape[0]}: its "
            f"first dimension must be the batch{advice}"
        )


class Program:
    """An LRP graph and the model that it was made from.

    Before each run, the graph's tensors are updated from the model (see
    :class:`FollowedParameters`).

    A run with ``create_graph`` is differentiable. It neither uses nor changes kept values, but
    computes everything from the live parameters.
    """

    def __init__(
        self,
        state: ModelState,
        lrp: LRPGraph,
        plan: Plan,
        compiled: Callable[..., Any] | None = None,
        *,
        stacks: bool = False,
        check_finite: bool = True,
    ) -> None:
        self.lrp, self.plan, self.compiled = lrp, plan, compiled
        self.check_finite = check_finite
        self._output_shapes: Recent[Any, torch.Size] = Recent()
        self._hides_batch: Recent[Any, bool] = Recent()
        self.stacks = stacks
        self._stacks: Recent[Any, bool] = Recent()
        self.parameters = FollowedParameters(state, lrp)

    def refresh(self) -> None:
        """Forget everything that was computed from parameters; the next run computes it again."""
        self.parameters.refresh()

    def follow_model(self) -> None:
        """Update the graph's tensors from the model."""
        self.parameters.follow()

    def run(
        self,
        tensors: tuple[Tensor, ...],
        target: Target | SelectorTarget | LargestTarget,
        *,
        create_graph: bool = False,
        beside: tuple[Tensor, ...] = (),
    ) -> Explanation:
        """Explain a target.

        Args:
            tensors: the model's input tensors.
            target: as in :meth:`lrp_fx.LRPFx.attribute`.
            create_graph: make the explanation differentiable.
            beside: tensors that must be finite beside the result.

        Raises:
            InputError: if the forward pass or the start holds NaN or infinity.
            NonFiniteError: if the relevance does; it names the node where it first appeared.
            TargetError: if the target does not fit the output.
            OptionError: for ``create_graph`` where there can be no derivatives.
        """
        if create_graph or self._runs_apart(tensors):
            (explanation,) = self.run_many(
                tensors, [(target,)], create_graph=create_graph, beside=beside
            )
            return explanation
        self.follow_model()
        with torch.no_grad():
            if self.compiled is None:
                results = self.lrp.module.forward(*tensors, target)  # skips global module hooks
            else:
                results = self.compiled(*tensors, self._checked(tensors, target))
            relevance, output, start = results
            explanation = Explanation(relevance, output, start)
            self._check(explanation, beside, tensors, target)
        return explanation

    def hides_batch(self, tensors: tuple[Tensor, ...]) -> bool:
        """Whether the batch is not the first dimension of some value that a filter meets.

        Args:
            tensors: the model's input tensors. The answer is remembered for their shapes.
        """
        if all(step.top_k is None for step in self.plan.steps):
            return False
        shapes = tuple(tensor.shape for tensor in tensors)
        return self._hides_batch.get(
            shapes, lambda: hides_batch(self.plan, tensors, self.parameters.named())
        )

    def _runs_apart(self, tensors: tuple[Tensor, ...]) -> bool:
        """Whether the relevance pass is run once for each sample."""
        return tensors[0].shape[0] > 1 and self.hides_batch(tensors)

    def _checked(
        self, tensors: tuple[Tensor, ...], target: Target | SelectorTarget | LargestTarget
    ) -> Target | SelectorTarget | Places:
        """The target as a tensor of indices, which a compiled graph takes without reading its values."""
        start = self.lrp.module.get_submodule(str(self.lrp.start.target))
        assert isinstance(start, StartRelevance)
        if isinstance(target, LargestTarget):
            return target.places(self.output(tensors))
        if not start.takes_target or isinstance(target, SelectorTarget):
            return target
        shapes = tuple((tensor.shape, tensor.device) for tensor in tensors)

        def shape() -> torch.Size:
            output = self.output(tensors)
            check_batch(output, tensors[0])
            return output.shape

        known = self._output_shapes.get(shapes, shape)
        return places_on(tensors[0].device, target, known)

    @property
    def _placeholders(self) -> list[fx.Node]:
        """The graph's inputs: the model's tensors, the target, the channels of each mask."""
        return [node for node in self.lrp.module.graph.nodes if node.op == "placeholder"]

    def output(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The explained output (N, …), computed without the relevance pass."""
        self.follow_model()
        start = self.lrp.start
        output = start.args[0]
        assert isinstance(output, fx.Node)
        nodes = leading_to(self.lrp.module.graph, [output])
        with torch.no_grad():
            value = run_nodes(Runner(self.lrp.module), nodes, tensors, keep=[start])[output]
        assert isinstance(value, Tensor)
        return value

    def run_many(
        self,
        tensors: tuple[Tensor, ...],
        runs: Iterable[tuple[Target | SelectorTarget | LargestTarget, *tuple[Any, ...]]],
        *,
        create_graph: bool = False,
        beside: tuple[Tensor, ...] = (),
    ) -> Iterator[Explanation]:
        """Explain several targets, and compute what does not depend on the target only once.

        This is the forward pass and the denominators of the rules. Each further target costs only
        the adjoints.

        Args:
            tensors: the model's input tensors.
            runs: for each run the target, as in :meth:`run`, and the channels of each mask of the
                plan.
            create_graph: as in :meth:`run`.
            beside: as in :meth:`run`.

        Raises:
            InputError, NonFiniteError, TargetError, OptionError: as :meth:`run` does.
        """
        live = None
        if create_graph:
            live = self.parameters.live(tensors)
        else:
            self.follow_model()
        module = self.lrp.module
        shared, rest = split_by_dependence(module.graph, self._placeholders[len(tensors) :])
        runs_apart = self._runs_apart(tensors)
        with torch.set_grad_enabled(create_graph):
            known = run_nodes(Runner(module, live), shared, tensors, keep=rest)

        def one(run: tuple[Any, ...]) -> _Result:
            with torch.set_grad_enabled(create_graph):
                if runs_apart:
                    return self._run_apart(known, rest, run, tensors, live)
                values = run_nodes(Runner(module, live), rest, run, known)
                result: _Result = values[rest[-1]]
                return result

        runs = list(runs)
        results: Iterator[_Result] = map(one, runs)
        # for two targets the check that they can run together does not pay
        is_single = tensors[0].shape[0] == 1 and not self.plan.masks
        if self.stacks and is_single and len(runs) > 2 and not create_graph:
            results = self._run_stacked(known, rest, runs, tensors)
        for run, (relevance, output, start) in zip(runs, results, strict=True):
            explanation = Explanation(relevance, output, start)
            self._check(explanation, beside, tensors, *run, live=live)
            yield explanation

    def _run_stacked(
        self,
        known: Mapping[fx.Node, Any],
        rest: list[fx.Node],
        runs: list[tuple[Any, ...]],
        tensors: tuple[Tensor, ...],
    ) -> Iterator[_Result]:
        """The runs of :meth:`run_many` for one sample, several targets per relevance pass if valid.

        Args:
            known: the values that do not depend on the target.
            rest: the other nodes.
            runs: for each run the target.
            tensors: the model's input tensors.
        """
        start, output = self.lrp.start, known[self.lrp.start.all_input_nodes[0]]
        check_batch(output, tensors[0])
        first = rest.index(start) + 1
        before, after = rest[:first], rest[first:]
        of_sample = split_by_dependence(self.lrp.module.graph, self._placeholders[: len(tensors)])[
            1
        ]
        stacked = Stacked(self.lrp.module, start, after, known, of_sample)
        shapes = tuple(tensor.shape for tensor in tensors)
        with torch.no_grad():
            stacks = self._stacks.get(shapes, lambda: stacked.is_valid(output))
        size = stacked.fitting() if stacks else 1
        for place in range(0, len(runs), size):
            with torch.no_grad():
                starts = [
                    run_nodes(Runner(self.lrp.module), before, run, known, keep=after)
                    for run in runs[place : place + size]
                ]
                begun = torch.cat([values[start] for values in starts])
                relevance = stacked.relevance(begun)
            for i in range(len(begun)):
                yield tuple(each[i : i + 1] for each in relevance), output, begun[i : i + 1]

    def _run_apart(
        self,
        known: Mapping[fx.Node, Any],
        rest: list[fx.Node],
        run: tuple[Any, ...],
        tensors: tuple[Tensor, ...],
        live: Mapping[str, Tensor] | None,
    ) -> _Result:
        """One run of :meth:`run_many`, with one relevance pass for each sample.

        Args:
            known: the values that do not depend on the target.
            rest: the other nodes.
            run: the target and the channels.
            tensors: the model's input tensors.
            live: as in :class:`Runner`.
        """
        module, start = self.lrp.module, self.lrp.start
        first = rest.index(start) + 1
        before, after = rest[:first], rest[first:]
        known = run_nodes(Runner(module, live), before, run, known, keep=after)
        begun = known[start]
        check_batch(begun, tensors[0])
        total: tuple[Tensor, ...] = ()
        for alone in apart(begun):
            values = run_nodes(Alone(module, live), after, (), {**known, start: alone})
            relevance, output, _ = values[after[-1]]
            # with any layout, an entry has relevance of one sample only
            total = tuple(map(torch.add, total, relevance)) if total else relevance
        return total, output, begun

    def _check(
        self,
        explanation: Explanation,
        beside: tuple[Tensor, ...],
        tensors: tuple[Tensor, ...],
        *run: Any,
        live: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Raise an error unless everything is finite."""
        results = (*explanation.relevance, explanation.start, *beside)
        if not self.check_finite or all_finite(*results):
            return
        if isinstance(run[0], Tensor):  # on a device it was not read before
            target_places(run[0], explanation.output.shape)
        raise self.first_non_finite(tensors, *run, live=live)

    def first_non_finite(
        self, tensors: tuple[Tensor, ...], *run: Any, live: Mapping[str, Tensor] | None = None
    ) -> LRPError:
        """The error that names the node in which NaN or infinity first appeared."""
        return first_non_finite(self.lrp.module, self.lrp.start, (*tensors, *run), live)
