"""The conservation ledger: what came in, what went on and what was taken, at each node."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from lrp_fx.batches import Alone, apart
from lrp_fx.checks import all_finite, check_number, is_int
from lrp_fx.errors import OptionError
from lrp_fx.evaluation import run_nodes
from lrp_fx.graph.calls import name_of
from lrp_fx.graph.private_torch import tree_flatten
from lrp_fx.graph.walks import split_by_dependence
from lrp_fx.plan import Step
from lrp_fx.program import Program, check_batch, per_sample
from lrp_fx.relevance import CAUSES, Cause, EdgeRelevance, RelevanceNode
from lrp_fx.relevance.auxiliary import BoundRelevance
from lrp_fx.start import Target
from lrp_fx.tables import columns

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.table import Table

PerSample = tuple[float, ...]
EXPLOSION = 10.0
"""So much may Σ |R| grow at one node before it is named: 55 times where Montavon's γ meets signed inputs
(EfficientNet-Lite0), 4.4 times under ε, 1.7 under the signed γ."""
AMPLIFIED = 100.0
"""So much may it grow over all nodes, of which none need be an explosion."""
SHOWN = 4  # samples whose start the summary names
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 5e-2}
"""The gap that is rounding, as a share of Σ |terms|: some hundred times the dtype's precision in sums of
many terms, and for half precision some ten times, since torch adds up in single precision."""


@dataclass(frozen=True)
class Entry:
    """One node of the relevance pass; all figures are sums over the node's values, per sample.

    Args:
        node: the node's name in the plan.
        path: its module path.
        operation: ATen's name of the operation, or ``filter`` or ``hook`` for what stands before it.
        rule: the rule.
        arrived: Σ R that came in.
        passed: Σ R that went on.
        taken: what was taken, by cause; a cause that took nothing from any sample is left out.
        magnitude_in: Σ |R| that came in.
        magnitude_out: Σ |R| that went on.
    """

    node: str
    path: str
    operation: str
    rule: str
    arrived: PerSample
    passed: PerSample
    taken: dict[Cause, PerSample]
    magnitude_in: PerSample
    magnitude_out: PerSample

    @property
    def growth(self) -> float:
        """The largest Σ |R_out| / Σ |R_in| of the samples; 0 where nothing came in."""
        pairs = zip(self.magnitude_in, self.magnitude_out, strict=True)
        return max((out / came for came, out in pairs if came), default=0.0)

    @property
    def gap(self) -> PerSample:
        """``arrived − passed − Σ taken``: zero but for rounding."""
        amounts = zip(*self.taken.values(), strict=True) if self.taken else [()] * len(self.arrived)
        return tuple(
            came - went - sum(kept)
            for came, went, kept in zip(self.arrived, self.passed, amounts, strict=True)
        )

    @property
    def terms(self) -> PerSample:
        """Σ |terms| that the gap is measured by: relevance in and out, and what was taken."""
        sizes = [self.magnitude_in, self.magnitude_out]
        sizes += [tuple(map(abs, amounts)) for amounts in self.taken.values()]
        return tuple(map(sum, zip(*sizes, strict=True)))


@dataclass(frozen=True)
class Ledger:
    """Where the relevance of a batch went. ``print(ledger)`` shows a table.

    ``Σ start = Σ relevance + Σ taken`` of each sample, and likewise at each node.

    Args:
        entries: the nodes, in the order in which the relevance takes them.
        start: Σ of what each sample started with.
        relevance: Σ of the relevance of the inputs of each sample.
        rounding: the gap that is rounding, by the dtype of the relevance; see ``ROUNDING``.
    """

    entries: tuple[Entry, ...]
    start: PerSample
    relevance: PerSample
    rounding: float = ROUNDING[torch.float64]

    @property
    def taken(self) -> dict[Cause, PerSample]:
        """What was taken in all, by cause."""
        return {
            cause: tuple(map(sum, zip(*amounts, strict=True)))
            for cause in CAUSES
            if (amounts := [e.taken[cause] for e in self.entries if cause in e.taken])
        }

    @property
    def left(self) -> tuple[PerSample, ...]:
        """``start − Σ taken so far`` behind each node: what is still on its way, by all ways together."""
        rest, found = self.start, []
        for entry in self.entries:
            amounts = zip(rest, *entry.taken.values(), strict=True)
            rest = tuple(first - sum(taken) for first, *taken in amounts)
            found.append(rest)
        return tuple(found)

    @property
    def gap(self) -> PerSample:
        """``start − relevance − Σ taken``: zero but for rounding."""
        return tuple(
            first - last - sum(taken)
            for first, last, *taken in zip(
                self.start, self.relevance, *self.taken.values(), strict=True
            )
        )

    def closes(self, tolerance: float | None = None) -> bool:
        """Whether the figures of each node, and of all nodes together, add up.

        Args:
            tolerance: the gap that is rounding, as a share of Σ |terms|; None for that of the dtype.
        """
        if tolerance is None:
            tolerance = self.rounding
        check_number("tolerance", tolerance)
        whole = [sum(sizes) for sizes in zip(*(e.terms for e in self.entries), strict=True)]
        pairs = [(e.gap, e.terms) for e in self.entries] + [(self.gap, tuple(whole))]
        return all(
            abs(gap) <= tolerance * size
            for gaps, sizes in pairs
            for gap, size in zip(gaps, sizes, strict=True)
        )

    def explosions(self, threshold: float = EXPLOSION) -> tuple[Entry, ...]:
        """The nodes where Σ |R| grows by more than ``threshold`` times, the worst first."""
        check_number("threshold", threshold)
        found = (entry for entry in self.entries if entry.growth > threshold)
        return tuple(sorted(found, key=lambda entry: -entry.growth))

    @property
    def amplification(self) -> tuple[float, str]:
        """The largest Σ |R| behind any node, in multiples of the start's, and the name of that node."""
        if not self.entries:
            return 0.0, ""
        begun = self.entries[0].magnitude_in
        found = (
            (
                max(
                    (size / s for size, s in zip(e.magnitude_out, begun, strict=True) if s),
                    default=0.0,
                ),
                e,
            )
            for e in self.entries
        )
        size, entry = max(found, key=lambda pair: pair[0])
        return size, entry.node

    def of_sample(self, sample: int) -> Ledger:
        """The ledger of one sample.

        Raises:
            OptionError: if there is no such sample.
        """
        if not is_int(sample) or not 0 <= sample < len(self.start):
            raise OptionError(
                f"the ledger holds samples 0 to {len(self.start) - 1}, not {sample!r}"
            )

        def chosen(amounts: PerSample) -> PerSample:
            return (amounts[sample],)

        entries = tuple(
            replace(
                entry,
                arrived=chosen(entry.arrived),
                passed=chosen(entry.passed),
                taken={cause: chosen(amounts) for cause, amounts in entry.taken.items()},
                magnitude_in=chosen(entry.magnitude_in),
                magnitude_out=chosen(entry.magnitude_out),
            )
            for entry in self.entries
        )
        return Ledger(entries, chosen(self.start), chosen(self.relevance), self.rounding)

    def __str__(self) -> str:
        return "\n".join([*self._summary(), columns(_HEAD, self._rows())])

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(*_HEAD, caption="\n".join(self._summary()), caption_justify="left")
        for row in self._rows():
            table.add_row(*row)
        return table

    def _summary(self) -> list[str]:
        started = ", ".join(f"{amount:.4g}" for amount in self.start[:SHOWN])
        more = " …" if len(self.start) > SHOWN else ""
        lines = [
            f"started with {started}{more}; shares of that, the mean of {len(self.start)} samples:",
            f"arrived at the inputs: {_share(self.relevance, self.start)}",
            f"taken: {_shares(self.taken, self.start) or 'nothing'}",
        ]
        lines += [
            f"relevance explosion: Σ |R| grows {entry.growth:.3g} times at '{entry.node}' "
            f"({entry.rule})"
            for entry in self.explosions()
        ]
        size, node = self.amplification
        if size > AMPLIFIED:
            lines.append(f"Σ |R| grows to {size:.3g} times that of the start, at '{node}'")
        return lines

    def _rows(self) -> list[tuple[str, ...]]:
        """The table, in shares of what was started with."""
        return [
            (
                *(entry.node, entry.path, entry.operation, entry.rule),
                _share(entry.arrived, self.start),
                _share(entry.passed, self.start),
                _shares(entry.taken, self.start),
                f"{entry.growth:.3g}",
            )
            for entry in self.entries
        ]

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain Python values."""
        return asdict(self)

    def to_json(self) -> str:
        """All figures as JSON."""
        return json.dumps(self.to_dict())

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each node and sample, a column for each cause. Needs pandas."""
        import pandas

        rows = [
            {
                "node": entry.node,
                "module": entry.path,
                "operation": entry.operation,
                "rule": entry.rule,
                "sample": sample,
                "in": entry.arrived[sample],
                "out": entry.passed[sample],
                **{c: entry.taken[c][sample] if c in entry.taken else 0.0 for c in CAUSES},
                "magnitude_in": entry.magnitude_in[sample],
                "magnitude_out": entry.magnitude_out[sample],
            }
            for entry in self.entries
            for sample in range(len(self.start))
        ]
        return pandas.DataFrame(rows)

    def plot(self) -> Figure:
        """Along the depth: what is left, Σ |R|, explosions, what was taken where. Needs matplotlib."""
        from lrp_fx.visualize import ledger_figure

        return ledger_figure(self)


def audit(program: Program, tensors: tuple[Tensor, ...], target: Target) -> Ledger:
    """Run the relevance pass once for each sample and book every node.

    The forward pass runs once. A sample's ledger is that of the batch with the relevance of all others
    set to zero, so that it holds wherever the layout of a node's value hides the batch.

    Args:
        program: made with ``View(audited=True)``.
        tensors: the model's input tensors.
        target: as in :meth:`lrp_fx.LRPFx.attribute`.
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
    """One node and one sample."""

    node: fx.Node
    arrived: float
    passed: float
    taken: dict[Cause, float]
    magnitude_in: float
    magnitude_out: float


class _Books(Alone):
    """Books each relevance node that it runs."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, _Booking] = {}
        self.opened: dict[fx.Node, _Booking] = {}
        """Of operations that have several nodes, until the last of them has run."""
        self.dtypes: set[torch.dtype] = set()
        """Of the relevance and of the values beside it, which are coarser under autocast."""

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


_HEAD = ("node", "module", "operation", "rule", "in", "out", "taken", "growth")


def _share(amounts: PerSample, whole: PerSample) -> str:
    """The mean share of the samples that started with anything."""
    shares = [amount / all_ for amount, all_ in zip(amounts, whole, strict=True) if all_]
    return f"{sum(shares) / len(shares):.2%}" if shares else "-"


def _shares(taken: dict[Cause, PerSample], whole: PerSample) -> str:
    shown = ((cause, _share(amounts, whole)) for cause, amounts in taken.items())
    return ", ".join(f"{cause} {share}" for cause, share in shown if share.strip("-") != "0.00%")
