"""The run that fills a ledger: the relevance pass of each sample, recorded node by node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx._common import all_finite
from lrp_fx.graph import name_of, split_by_dependence, tree_flatten
from lrp_fx.plan import Step
from lrp_fx.relevance import CAUSES, Cause, EdgeRelevance, RelevanceNode, Target
from lrp_fx.run.batches import Alone, apart
from lrp_fx.run.entries import Entry
from lrp_fx.run.interpreter import run_nodes
from lrp_fx.run.ledger import ROUNDING, Ledger
from lrp_fx.run.program import Program, check_batch, per_sample


def audit(program: Program, tensors: tuple[Tensor, ...], target: Target) -> Ledger:
    """Run the relevance pass once for each sample and record every node.

    The forward pass runs once. For each sample, the relevance of all others is set to zero. So the
    ledger is right even where the layout of a value hides the batch.

    Args:
        program: made with ``View(audited=True)``.
        tensors: the model's input tensors.
        target: as in :meth:`lrp_fx.LRPFx.attribute`.

    Raises:
        InputError, TargetError, NonFiniteError: as :meth:`lrp_fx.LRPFx.attribute` does.
    """
    program.follow_model()
    module = program.lrp.module
    start = program.lrp.start
    steps = {step.node.name: step for step in program.plan.steps}
    before, after = split_by_dependence(module.graph, [start])
    with torch.no_grad():
        known = run_nodes(fx.Interpreter(module), [*before, start], (*tensors, target), keep=after)
        begun = known[start]
        check_batch(begun, tensors[0])
        bookings, relevance, dtypes = [], [], set[torch.dtype]()
        for alone in apart(begun):
            books = _Books(module)
            values = run_nodes(books, after[1:], (), {**known, start: alone})
            results = values[after[-1]][0]
            if not all(map(all_finite, results)):
                raise program.first_non_finite(tensors, target)
            bookings.append(books.found)
            dtypes |= books.dtypes
            relevance.append(sum(float(r.sum()) for r in results))
    entries = tuple(
        _entry(steps, module, [books[name] for books in bookings]) for name in bookings[0]
    )
    rounding = max(ROUNDING.get(dtype, 0.0) for dtype in dtypes)
    return Ledger(entries, tuple(per_sample(begun).tolist()), tuple(relevance), rounding)


@dataclass(frozen=True)
class _Booking:
    """The figures of one node for one sample."""

    node: fx.Node
    arrived: float
    passed: float
    taken: dict[Cause, float]
    magnitude_in: float
    magnitude_out: float


class _Books(Alone):
    """Records each relevance node that it runs."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, _Booking] = {}
        self.opened: dict[fx.Node, _Booking] = {}
        """The figures of operations with several relevance nodes, until the last of these has run."""
        self.dtypes: set[torch.dtype] = set()
        """The dtypes of the relevance and of the values beside it, which are coarser under autocast."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "call_module":
            return result
        node = self.fetch_attr(str(n.target))
        if isinstance(node, RelevanceNode) and node.books != "nothing":
            self._book(n, node, result)
        return result

    def _book(self, n: fx.Node, node: RelevanceNode, result: Any) -> None:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        leaves = (*tree_flatten((args, kwargs))[0], *tree_flatten(result)[0])
        self.dtypes |= {leaf.dtype for leaf in leaves if isinstance(leaf, Tensor)}
        arrived, passed = _tensors(args[0]), _tensors(result)
        came, went = _total(arrived), _total(passed)
        taken = {cause: float(amount) for cause, amount in node.account(*args, **kwargs).items()}
        if isinstance(node, EdgeRelevance):
            taken = {"filter": came - went}
        sizes = (_total(map(torch.abs, tensors)) for tensors in (arrived, passed))
        booking = _Booking(n, came, went, taken, *sizes)
        if node.books == "departure":
            first = self.opened.pop(n.all_input_nodes[0])
            taken = {cause: first.taken.get(cause, 0.0) + taken.get(cause, 0.0) for cause in CAUSES}
            booking = replace(
                booking, arrived=first.arrived, magnitude_in=first.magnitude_in, taken=taken
            )
        if node.books == "arrival":
            self.opened[n] = booking
        else:
            self.found[n.name] = booking


def _entry(steps: dict[str, Step], module: fx.GraphModule, bookings: Sequence[_Booking]) -> Entry:
    node = bookings[0].node
    step = steps[node.meta["origin"]]
    taken = {
        cause: amounts
        for cause in CAUSES
        if any(amounts := tuple(booking.taken.get(cause, 0.0) for booking in bookings))
    }
    rule = module.get_submodule(str(node.target))
    return Entry(
        step.node.name,
        step.path,
        rule.kind if isinstance(rule, EdgeRelevance) else name_of(step.node),
        rule.extra_repr() if isinstance(rule, EdgeRelevance) else str(step.rule),
        tuple(booking.arrived for booking in bookings),
        tuple(booking.passed for booking in bookings),
        taken,
        tuple(booking.magnitude_in for booking in bookings),
        tuple(booking.magnitude_out for booking in bookings),
    )


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [each for each in value if each is not None]


def _total(tensors: Iterable[Tensor]) -> float:
    return sum(float(tensor.sum()) for tensor in tensors)
