"""The trials of a rule search, proposed and kept by Optuna; needs optuna."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from lrp_fx._common import check_file, locked
from lrp_fx.errors import LRPError, OptionError, in_words
from lrp_fx.evaluate.candidates import Chooser

NAME = "lrp_fx.search"
SEARCHED, FIXED, REASON = "searched", "candidate", "reason"
"""Of a study what was searched; of a trial the candidate that was asked for, and why it failed."""
ROUNDING = 1e-3
"""Outputs of a model may differ by this share of the largest one, by rounding."""
SEEDS = 2**32
"""The number of seeds that the sampler takes."""
RANDOM = 5
"""The number of random proposals, before the sampler uses earlier scores."""


@dataclass(frozen=True)
class Outcome:
    """A trial that is over.

    Args:
        number: of the trial.
        fixed: the name of the candidate that was asked for; None for a proposal.
        params: the choices, by name.
        values: score and cost; None if it has none.
        reason: why it has none.
    """

    number: int
    fixed: str | None
    params: Mapping[str, str | float]
    values: tuple[float, float] | None
    reason: str


class Proposal:
    """A trial that runs.

    Args:
        trial: Optuna's.
    """

    def __init__(self, study: optuna.Study, trial: optuna.Trial) -> None:
        self._study, self._trial = study, trial
        self.number: int = trial.number
        self.fixed: str | None = trial.user_attrs.get(FIXED)
        self.choose: Chooser = trial

    @contextmanager
    def running(self) -> Iterator[list[float]]:
        """Keep the score and the cost that the body appends to the list.

        An error of this library is kept as the reason why there are none. Any other one, such as an
        interrupt, leaves a trial that will be tried again.
        """
        values: list[float] = []
        try:
            yield values
        except LRPError as error:
            self._trial.set_user_attr(REASON, in_words(error))
            self._study.tell(self._trial, state=TrialState.PRUNED)
        except BaseException:
            self._study.tell(self._trial, state=TrialState.FAIL)
            raise
        else:
            self._study.tell(self._trial, values)


class Study:
    """A search that may have begun before.

    Args:
        storage: a file, the address of a database, or None for memory.
        searched: the search, by name. A study of anything else is refused; numbers may differ
            by rounding.
        higher_is_better: whether a larger score is better. A smaller cost always is.
        fixed: candidates to try first, each with the choices that it nearly stands for.
        seed: of the proposals.

    Raises:
        OptionError: if the storage cannot be used, or holds a search of something else.
    """

    def __init__(
        self,
        storage: str | os.PathLike[str] | None,
        searched: Mapping[str, str | list[float]],
        *,
        higher_is_better: bool,
        fixed: Mapping[str, Mapping[str, str | float]],
        seed: int,
    ) -> None:
        least, most = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
        directions = [most if higher_is_better else least, least]
        address = _address(storage)
        try:
            with _without_chatter(), _alone(storage):
                self._study = optuna.create_study(
                    storage=address, study_name=NAME, directions=directions, load_if_exists=True
                )
                self._join(storage, searched, fixed, seed)
        except OptionError:
            raise
        except Exception as error:  # of SQLAlchemy, of a driver, of Optuna, of the lock
            raise OptionError(f"storage '{storage}' cannot be used: {in_words(error)}") from error

    def _join(
        self,
        storage: object,
        searched: Mapping[str, str | list[float]],
        fixed: Mapping[str, Mapping[str, str | float]],
        seed: int,
    ) -> None:
        """Note what is searched, or compare it; and put the candidates that are missing first."""
        before = self._study.user_attrs.get(SEARCHED)
        if before is None:
            self._study.set_user_attr(SEARCHED, dict(searched))
        elif differing := [
            name for name, value in searched.items() if not _same(before.get(name), value)
        ]:
            other = ", ".join(differing)
            raise OptionError(
                f"storage '{storage}' holds another search, which differs in: {other}. Name another "
                "file, or delete this one to start again"
            )
        trials = self._study.get_trials(deepcopy=False)
        # other random numbers than before, so that a continued search proposes something new
        self._study.sampler = optuna.samplers.TPESampler(
            seed=(seed + len(trials)) % SEEDS, n_startup_trials=len(fixed) + RANDOM
        )
        over = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING)
        known = {trial.user_attrs.get(FIXED) for trial in trials if trial.state in over}
        for name, point in fixed.items():
            if name not in known:
                self._study.enqueue_trial(dict(point), user_attrs={FIXED: name})

    def ask(self) -> Proposal:
        """The next trial."""
        return Proposal(self._study, self._study.ask())

    def outcomes(self) -> list[Outcome]:
        """All trials that are over, in their order.

        A candidate counts once: a search that joins a running one cannot know whether the trial that
        runs there will end, and tries its candidate again.
        """
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        found: dict[str | int, Outcome] = {}
        for trial in self._study.get_trials(deepcopy=False, states=states):
            fixed = trial.user_attrs.get(FIXED)
            outcome = Outcome(
                trial.number,
                fixed,
                trial.params,
                (trial.values[0], trial.values[1]) if trial.values else None,
                str(trial.user_attrs.get(REASON, "")),
            )
            found.setdefault(trial.number if fixed is None else fixed, outcome)
        return list(found.values())


def _same(before: object, now: str | list[float]) -> bool:
    """Whether two texts are equal, or numbers up to rounding."""
    if isinstance(now, str) or not isinstance(before, list) or len(before) != len(now):
        return before == now
    largest = max(map(abs, now), default=0.0)
    return all(abs(a - b) <= ROUNDING * largest for a, b in zip(before, now, strict=True))


@contextmanager
def _alone(storage: str | os.PathLike[str] | None) -> Iterator[None]:
    """Let no other search begin in the same file; databases have locks of their own."""
    if storage is None or "://" in os.fsdecode(storage):
        yield
        return
    path = Path(os.fsdecode(storage))
    with locked(path.with_name(f".{path.name}.lock"), f"'{path}'", wait=True):
        yield


def _address(storage: str | os.PathLike[str] | None) -> str | None:
    """A storage of Optuna."""
    if storage is None:
        return None
    if not isinstance(storage, (str, os.PathLike)):
        raise OptionError(f"storage must be a file or the address of a database, got {storage!r}")
    text = os.fsdecode(storage)
    if "://" in text:
        return text
    check_file("storage", text)
    return f"sqlite:///{text}"


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Let Optuna say nothing below a warning."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
