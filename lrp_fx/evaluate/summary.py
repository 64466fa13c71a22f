"""Tables of estimates: the mean of each method and metric, as text, Markdown and in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrp_fx._common import columns
from lrp_fx.evaluate.statistics import Estimate

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class MetricInfo:
    """The description of a metric in a report.

    Args:
        name: the metric's name.
        higher_is_better: whether a larger score means a better map.
        settings: all settings, as the ``repr`` of the metric.
    """

    name: str
    higher_is_better: bool
    settings: str


@dataclass(frozen=True)
class Summary:
    """A table of estimates: prints as text, with rich as a table.

    Args:
        cells: (method, metric) → the estimate, in the order of the rows.
        metrics: what the metrics are.
        seconds: method → seconds per explanation.
        notes: settings and cautions, printed below.
        reference: the method that the others are compared with; None for plain means.
    """

    cells: Mapping[tuple[str, str], Estimate]
    metrics: tuple[MetricInfo, ...]
    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    reference: str | None = None

    def __getitem__(self, key: tuple[str, str]) -> Estimate:
        """The estimate for (method, metric)."""
        return self.cells[key]

    def head(self) -> tuple[str, ...]:
        """The titles of the columns."""
        mean = "mean" if self.reference is None else "difference"
        return ("metric", "method", mean, "interval", "s/map")

    @property
    def title(self) -> str:
        """The kind of the numbers."""
        return "" if self.reference is None else f"differences from {self.reference}, paired"

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The cells of each row as text. Arrows say which direction is better."""
        sign = "" if self.reference is None else "+"
        arrows = {each.name: "↑" if each.higher_is_better else "↓" for each in self.metrics}
        for (method, metric), estimate in self.cells.items():
            yield (
                f"{metric} {arrows[metric]}",
                method,
                estimate.text(sign),
                estimate.interval(sign),
                f"{self.seconds[method]:.3g}",
            )

    def to_markdown(self) -> str:
        """The table for a page, with the notes below."""
        title = [self.title, ""] if self.title else []
        lines = [self.head(), ("---", "---", "---:", "---", "---:"), *self.rows()]
        cells = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([*title, *cells, "", *(f"* {note}" for note in self.notes)])

    def __str__(self) -> str:
        title = [self.title] if self.title else []
        return "\n".join([*title, columns(self.head(), list(self.rows())), "", *self.notes])

    def __rich__(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(
            *self.head(),
            title=escape(self.title) or None,
            caption=escape("\n".join(self.notes)),
            caption_justify="left",
        )
        for place in (2, 4):
            table.columns[place].justify = "right"
        before = ""
        for row in self.rows():
            if before and row[0] != before:
                table.add_section()
            metric = "" if row[0] == before else row[0]
            table.add_row(*map(escape, (metric, *row[1:])))
            before = row[0]
        return table
