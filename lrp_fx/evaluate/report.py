"""The result of an evaluation: every score, with its tables, files and figure."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from lrp_fx._common import appearing, check_choice, check_file, needed
from lrp_fx.evaluate.statistics import Bootstrap, Estimate
from lrp_fx.evaluate.summary import MetricInfo, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    *("method", "metric", "sample", "score", "higher_is_better", "seconds_per_explanation"),
    "settings",
)
"""Of the files of scores."""


@dataclass(frozen=True)
class Score:
    """One score.

    Args:
        method: the method's name.
        metric: the metric's name.
        sample: the sample's name, its number unless named.
        value: the score.
    """

    method: str
    metric: str
    sample: str
    value: float


@dataclass(frozen=True, eq=False)
class Report:
    """All scores of an evaluation.

    Args:
        scores: (method, metric) → one score for each sample, ``(N,)``, float64.
        metrics: what the metrics are, with all their settings.
        seconds: method → seconds per explanation, measured on these samples.
        samples: the names of the samples.
        bootstrap: how intervals are made.
    """

    scores: Mapping[tuple[str, str], Tensor]
    metrics: tuple[MetricInfo, ...]
    seconds: Mapping[str, float]
    samples: tuple[str, ...]
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods, in their order."""
        return tuple(self.seconds)

    def rows(self) -> Iterator[Score]:
        """One row for each method, metric and sample."""
        for (method, metric), scores in self.scores.items():
            for sample, value in zip(self.samples, scores.tolist(), strict=True):
                yield Score(method, metric, sample, value)

    def table(self) -> Summary:
        """The mean of each method and metric, with standard error and bootstrap interval."""
        return self._summary(
            self.methods,
            lambda method, metric: self.bootstrap.estimate(self.scores[method, metric]),
            None,
        )

    def differences(self, reference: str) -> Summary:
        """The mean difference of each method from a reference, paired sample by sample.

        Args:
            reference: the name of a method.

        Raises:
            OptionError: if there is no such method.
        """
        check_choice("reference", reference, self.methods)
        return self._summary(
            tuple(method for method in self.methods if method != reference),
            lambda method, metric: self.bootstrap.difference(
                self.scores[method, metric], self.scores[reference, metric]
            ),
            reference,
        )

    def _summary(
        self,
        methods: tuple[str, ...],
        estimate: Callable[[str, str], Estimate],
        reference: str | None,
    ) -> Summary:
        cells = {
            (method, metric.name): estimate(method, metric.name)
            for metric in self.metrics
            for method in methods
        }
        return Summary(cells, self.metrics, self.seconds, self.notes(), reference)

    def notes(self) -> tuple[str, ...]:
        """The settings of everything, and cautions."""
        count = len(self.samples)
        lines = [
            f"{count} sample{'s' if count > 1 else ''}; mean ± standard error; {self.bootstrap}.",
            *(metric.settings for metric in self.metrics),
        ]
        perturbing = {
            metric.settings.partition("imputer=")[2].partition(")")[0]
            for metric in self.metrics
            if "imputer=" in metric.settings
        }
        if len(perturbing) == 1:
            lines.append("One imputer only: with another one the ranking may differ.")
        return tuple(lines)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write every score with its settings, one row for each method, metric and sample.

        Args:
            path: the file; it is whole or not there.

        Raises:
            OptionError: if it cannot be there.
            RunError: if it cannot be written; what was there before stays.
        """
        check_file("path", path)
        with (
            appearing(Path(os.fsdecode(path))) as part,
            open(part, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(self._lines())

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write every score as :meth:`to_csv` does, as Parquet. Needs pyarrow.

        The settings of the intervals are metadata of the file, under ``bootstrap``.

        Raises:
            OptionError: if pyarrow is missing, or the file cannot be there.
            RunError: if it cannot be written; what was there before stays.
        """
        check_file("path", path)
        with needed("Parquet needs"):
            import pyarrow
            from pyarrow import parquet
        by_column = dict(zip(COLUMNS, zip(*self._lines(), strict=True), strict=True))
        table = pyarrow.table({name: list(values) for name, values in by_column.items()})
        table = table.replace_schema_metadata({"bootstrap": repr(self.bootstrap)})
        with appearing(Path(os.fsdecode(path))) as part:
            parquet.write_table(table, part)

    def _lines(self) -> Iterator[tuple[str | float | bool, ...]]:
        infos = {metric.name: metric for metric in self.metrics}
        for row in self.rows():
            info = infos[row.metric]
            yield (
                *(row.method, row.metric, row.sample, row.value),
                *(info.higher_is_better, self.seconds[row.method], info.settings),
            )

    def figure(self) -> Figure:
        """Bars of the means with their intervals, a panel for each metric. Needs matplotlib.

        Raises:
            OptionError: if matplotlib is missing.
        """
        with needed("a figure needs"):
            from lrp_fx.evaluate.figure import report_figure
        return report_figure(self.table())
