"""The conservation ledger: what each node received, passed on and took."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from lrp_fx._common import check_number, columns, html_table, is_int
from lrp_fx.errors import OptionError
from lrp_fx.relevance import CAUSES, Cause
from lrp_fx.run.entries import Entry, PerSample

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.table import Table


EXPLOSION = 10.0
"""If Σ |R| grows more than this at one node, the node is reported.

It grows 55 times where Montavon's γ meets signed inputs (EfficientNet-Lite0), 4.4 times under ε,
and 1.7 times under the signed γ.
"""
AMPLIFIED = 100.0
"""If Σ |R| grows more than this over all nodes together, the growth is reported."""
MAX_SHOWN = 4  # the largest number of samples whose starts the summary names
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 5e-2}
"""The largest gap that counts as rounding, as a share of Σ |terms|.

It is some hundred times the precision of the dtype in sums of many terms. For half precision it is
some ten times, since torch sums up in single precision.
"""


@dataclass(frozen=True)
class Ledger:
    """Where the relevance of a batch went. ``print(ledger)`` shows a table.

    For each sample, ``Σ start = Σ relevance + Σ taken``, and a similar equation holds at each node.

    Args:
        entries: the nodes, in the order in which relevance passes them.
        start: Σ of the relevance that each sample started with.
        relevance: Σ of the relevance of each sample's inputs.
        rounding: the largest gap that counts as rounding, as a share of Σ |terms|.
    """

    entries: tuple[Entry, ...]
    start: PerSample
    relevance: PerSample
    rounding: float = ROUNDING[torch.float64]

    @property
    def taken(self) -> dict[Cause, PerSample]:
        """The relevance that was taken in total, by cause."""
        return {
            cause: tuple(map(sum, zip(*amounts, strict=True)))
            for cause in CAUSES
            if (amounts := [e.taken[cause] for e in self.entries if cause in e.taken])
        }

    @property
    def left(self) -> tuple[PerSample, ...]:
        """``start − Σ taken so far`` after each node: the relevance still under way, on all paths."""
        rest, found = self.start, []
        for entry in self.entries:
            amounts = zip(rest, *entry.taken.values(), strict=True)
            rest = tuple(first - sum(taken) for first, *taken in amounts)
            found.append(rest)
        return tuple(found)

    @property
    def gap(self) -> PerSample:
        """``start − relevance − Σ taken``: zero up to rounding."""
        return tuple(
            first - last - sum(taken)
            for first, last, *taken in zip(
                self.start, self.relevance, *self.taken.values(), strict=True
            )
        )

    def closes(self, tolerance: float | None = None) -> bool:
        """Whether the figures of each node, and of all nodes together, add up.

        Args:
            tolerance: the largest gap that counts as rounding, as a share of Σ |terms|; None for
                that of the dtype.

        Raises:
            OptionError: if ``tolerance`` is not a number.
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
        """The nodes where Σ |R| grows by more than a factor of ``threshold``, the worst first.

        Raises:
            OptionError: if ``threshold`` is not a number.
        """
        check_number("threshold", threshold)
        found = (entry for entry in self.entries if entry.growth > threshold)
        return tuple(sorted(found, key=lambda entry: -entry.growth))

    @property
    def amplification(self) -> tuple[float, str]:
        """The largest Σ |R| after any node, as a multiple of the start's, and the name of that node."""
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

    def _repr_html_(self) -> str:
        return html_table(_HEAD, self._rows(), notes=self._summary(), numbers=(4, 5, 7))

    def _summary(self) -> list[str]:
        started = ", ".join(f"{amount:.4g}" for amount in self.start[:MAX_SHOWN])
        more = " …" if len(self.start) > MAX_SHOWN else ""
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
        """The rows of the table, in shares of the start."""
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
        """One row for each node and sample, one column for each cause. Needs pandas."""
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
        """The figure of the ledger: relevance left, Σ |R|, explosions, causes. Needs matplotlib."""
        from lrp_fx.run.figure import ledger_figure

        return ledger_figure(self.entries, self.start, self.left, self.explosions())


_HEAD = ("node", "module", "operation", "rule", "in", "out", "taken", "growth")


def _share(amounts: PerSample, whole: PerSample) -> str:
    """The mean share over the samples that did not start with zero."""
    shares = [amount / all_ for amount, all_ in zip(amounts, whole, strict=True) if all_]
    return f"{sum(shares) / len(shares):.2%}" if shares else "-"


def _shares(taken: dict[Cause, PerSample], whole: PerSample) -> str:
    shown = ((cause, _share(amounts, whole)) for cause, amounts in taken.items())
    return ", ".join(f"{cause} {share}" for cause, share in shown if share.strip("-") != "0.00%")
