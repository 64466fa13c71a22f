"""Trials of a rule search, and the front: those that no other trial beats in score and cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lrp_fx.evaluate.candidates import Candidate


@dataclass(frozen=True)
class Trial:
    """A candidate that was tried.

    Args:
        candidate: the rules, filter and start.
        score: the mean score on the samples of the search.
        cost: the time of a map in input gradients.
    """

    candidate: Candidate
    score: float
    cost: float


@dataclass(frozen=True)
class FailedTrial:
    """A candidate without a score.

    Args:
        candidate: the rules, filter and start.
        reason: why it has no score.
    """

    candidate: Candidate
    reason: str


def front_of(trials: Iterable[Trial], higher_is_better: bool) -> tuple[Trial, ...]:
    """The trials that no other one beats in both score and cost, the cheapest first."""
    sign = -1 if higher_is_better else 1
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda each: (each.cost, sign * each.score)):
        if not front or sign * trial.score < sign * front[-1].score:
            front.append(trial)
    return tuple(front)


def best_of(trials: Iterable[Trial], higher_is_better: bool) -> Trial:
    """The trial with the best score, the first of several."""
    sign = -1 if higher_is_better else 1
    return min(trials, key=lambda each: sign * each.score)
