"""The results of a rule search: all trials, the front, and their scores on held-out samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrp_fx._common import columns, is_int, needed
from lrp_fx.composites import Composite
from lrp_fx.errors import OptionError
from lrp_fx.evaluate.candidates import Candidate
from lrp_fx.evaluate.report import Report
from lrp_fx.evaluate.summary import MetricInfo, Summary
from lrp_fx.evaluate.trials import FailedTrial, Trial, best_of, front_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The results of a rule search. ``print(result)`` shows a table.

    Args:
        trials: all that have a score, presets first.
        failed: those that have none.
        held_out: the scores of the front and of all presets on samples that the search did not see.
        settings: the search, in words.
    """

    trials: tuple[Trial, ...]
    failed: tuple[FailedTrial, ...]
    held_out: Report
    settings: tuple[str, ...]

    @property
    def metric(self) -> MetricInfo:
        """The metric."""
        return self.held_out.metrics[0]

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other one beats in both score and cost, the cheapest first.

        By the samples of the search.
        """
        return front_of(self.trials, self.metric.higher_is_better)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The front and the presets, by their mean on the held-out samples, the best first."""
        return tuple(self.trial(name).candidate for name in self._ranked())

    @property
    def best(self) -> Candidate:
        """The candidate with the best mean on the held-out samples.

        It is at least as good there as every preset. Being the best of several, its mean is a
        little too good: see :attr:`chosen`.
        """
        return self.candidates[0]

    @property
    def chosen(self) -> Candidate:
        """The candidate that was best on the samples of the search.

        The held-out samples had no part in this choice, so they judge it without bias.
        """
        return best_of(self.trials, self.metric.higher_is_better).candidate

    def to_composite(self, k: int = 0) -> Composite:
        """The composite of the candidate at a place of :attr:`candidates`.

        Its filter and start are in ``result.candidates[k].options``.

        Args:
            k: the place, from 0 for the best.

        Raises:
            OptionError: if there is no such place.
        """
        if not is_int(k) or not 0 <= k < len(self.candidates):
            raise OptionError(f"k must lie between 0 and {len(self.candidates) - 1}, got {k!r}")
        return self.candidates[k].composite

    def trial(self, name: str) -> Trial:
        """The trial with a name.

        Raises:
            OptionError: if there is none.
        """
        for trial in self.trials:
            if trial.candidate.name == name:
                return trial
        names = ", ".join(repr(trial.candidate.name) for trial in self.trials)
        raise OptionError(f"no trial with a score is called {name!r}; there are {names}")

    def differences(self, reference: str | None = None) -> Summary:
        """The mean difference of each candidate from one on the held-out samples, paired.

        Args:
            reference: the name of a candidate; None for :attr:`best`.

        Raises:
            OptionError: if there is no such candidate.
        """
        return self.held_out.differences(self.best.name if reference is None else reference)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The cells of the table as text, a row for each of :attr:`candidates`."""
        best, differences = self.best.name, self.differences().cells
        table, on_front = self.held_out.table().cells, {each.candidate.name for each in self.front}
        for name in self._ranked():
            trial, estimate = self.trial(name), table[name, self.metric.name]
            difference = differences.get((name, self.metric.name))
            yield (
                name,
                "front" if name in on_front else "",
                estimate.text(),
                "best" if name == best else difference.text("+") if difference else "",
                difference.interval("+") if difference else "",
                f"{trial.score:.3f}".replace("-", "−"),
                f"{trial.cost:.2f}",
            )

    def head(self) -> tuple[str, ...]:
        """The titles of the columns."""
        arrow = "↑" if self.metric.higher_is_better else "↓"
        return (
            *("candidate", "", f"held out {arrow}", "− best", "interval"),
            *(f"searched {arrow}", "cost"),
        )

    def to_markdown(self) -> str:
        """The table for a page, with the notes below."""
        lines = [self.head(), ("---", "---", "---:", "---:", "---", "---:", "---:"), *self.rows()]
        return "\n".join(
            [*(f"| {' | '.join(line)} |" for line in lines), "", *(f"* {n}" for n in self.notes())]
        )

    def __str__(self) -> str:
        table = columns(self.head(), list(self.rows()))
        return "\n".join([table, "", *self.notes(), "", self.best.code])

    def notes(self) -> tuple[str, ...]:
        """The settings, and what has no score."""
        return (
            *self.settings,
            *self.held_out.notes(),
            "cost: the time of a map in input gradients, each the shortest of several.",
            f"best on the samples of the search: {self.chosen.name}",
            *(f"no score: {each.candidate.name}: {each.reason}" for each in self.failed),
        )

    def figure(self) -> Figure:
        """Scores over costs, the front as a line. Needs matplotlib.

        Raises:
            OptionError: if matplotlib is missing.
        """
        with needed("a figure needs"):
            from lrp_fx.evaluate.search_figure import search_figure
        return search_figure(self.trials, self.front, self.held_out.table())

    def _ranked(self) -> list[str]:
        means = {
            name: self.held_out.scores[name, self.metric.name].mean().item()
            for name in self.held_out.methods
        }
        return sorted(means, key=means.__getitem__, reverse=self.metric.higher_is_better)
