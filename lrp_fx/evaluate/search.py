"""The rule search: which rules, filter and start give the best maps of a model, at which cost?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor, nn

from lrp_fx._common import (
    __version__,
    check_count,
    check_number,
    digest,
    digest_of_metric,
    is_int,
    needed,
)
from lrp_fx.attribution import LRPFx
from lrp_fx.composites import Composite, by_name
from lrp_fx.errors import InputError, OptionError
from lrp_fx.evaluate.candidates import Candidate, Chooser, Given, Layout, point_of, presets, propose
from lrp_fx.evaluate.cost import relative_cost
from lrp_fx.evaluate.explain import Explainer
from lrp_fx.evaluate.found import SearchResult
from lrp_fx.evaluate.metric import (
    Metric,
    Targets,
    batches,
    check_metric,
    check_samples,
    logits_of,
)
from lrp_fx.evaluate.report import Report
from lrp_fx.evaluate.run import Progress, evaluate, shown
from lrp_fx.evaluate.space import Space
from lrp_fx.evaluate.statistics import Bootstrap
from lrp_fx.evaluate.trials import FailedTrial, Trial, front_of

REPEATS = 7
"""Measurements of the time of each candidate."""


def search(
    model: nn.Module,
    inputs: Tensor,
    targets: Targets,
    metric: Metric,
    *,
    trials: int = 50,
    seed: int = 0,
    space: Space | None = None,
    baselines: Mapping[str, Composite | str] | None = None,
    held_out: float | tuple[Tensor, Targets] = 0.5,
    storage: str | os.PathLike[str] | None = None,
    batch_size: int = 8,
    bootstrap: Bootstrap | None = None,
    progress: bool | Progress = False,
) -> SearchResult:
    """Search the rules, the filter and the start that give the best maps of a model.

    All presets are tried first, then Optuna's TPE sampler proposes candidates of the space, for a
    good score and a low cost (Bergstra et al. 2011). The model is read once. Only a part of the
    samples is seen by the search; the front of score against cost and all presets are then judged
    once on the rest. Needs optuna.

    A metric is not the truth: the best candidate by one may be bad by another. So judge the result
    also by metrics and imputers that were not searched with :func:`evaluate`. The proposals depend
    on the measured times, so only the scores of a given candidate can be repeated exactly.

    Args:
        model: in eval mode, from inputs ``(N, …)`` to logits ``(N, classes)``.
        inputs: ``(N, …)``, floating point.
        targets: the classes to explain, ``(N,)``, integers.
        metric: it is to be improved. A metric with masks, one for each sample, cannot be used: the
            samples are divided here. With ``storage`` it must be a dataclass or a function, or have a
            ``repr`` with all settings.
        trials: how many candidates are tried besides the presets.
        seed: of the split and of the proposals.
        space: what may be chosen; None for ``Space()``.
        baselines: name → composite, tried and judged as the presets are.
        held_out: the share of the samples that only judges, drawn at random; or other samples
            ``(inputs, targets)``, for example of other persons or places.
        storage: a file in which a search is kept, so that the same call continues where it stopped,
            also with more trials; or the address of a database, as Optuna takes it. None keeps
            nothing.
        batch_size: inputs that are explained at once.
        bootstrap: how intervals are made.
        progress: True for a bar in the terminal, which needs rich, or a function.

    Returns:
        The trials, the front, and the scores on the held-out samples.

    Raises:
        OptionError: if optuna is missing, for a value that an option cannot have, or if the storage
            holds a search of something else.
        InputError: if the inputs do not fit, the model is in train mode, or no preset has a score.
        TargetError: if the targets do not fit the model.
        LRPError: the errors of :meth:`lrp_fx.LRPFx.attribute`, for the default composite.
    """
    with needed("search needs"):
        from lrp_fx.evaluate.study import Study
    space = Space() if space is None else space
    _check(model, metric, space)
    for name, value in (("trials", trials), ("batch_size", batch_size)):
        check_count(name, value)
    if not is_int(seed) or seed < 0:
        raise OptionError(f"seed must be an int of at least 0, got {seed!r}")
    parts = _split(model, inputs, _checked(model, inputs, targets), held_out, seed)

    lrp = LRPFx(model)
    lrp.attribute(parts[0][:batch_size], target=parts[1][:batch_size])
    layout = Layout.of(lrp.plan(parts[0][:batch_size]), space.depths)
    fixed = {each.name: each for each in presets(space, layout)}
    fixed |= dict(_baselines(baselines or {}, fixed))
    for candidate in fixed.values():
        lrp.with_options(**candidate.changes())  # a wrong name is an error here
    judge = _Judge(lrp, model, metric, batch_size)
    points = {name: point_of(name, space, layout) for name in fixed}
    study = Study(
        storage,
        {}
        if storage is None
        else _searched(model, parts, metric, space, fixed, (seed, batch_size)),
        higher_is_better=metric.higher_is_better,
        fixed=points,
        seed=seed,
    )

    def candidate_of(fixed_name: str | None, number: int, choose: Chooser) -> Candidate:
        """The candidate of a trial; a fixed one tells the sampler where it nearly lies."""
        if fixed_name is None:
            return propose(space, layout, choose, f"trial {number}")
        if points[fixed_name]:
            propose(space, layout, choose, fixed_name)
        return fixed[fixed_name]

    total = len(fixed) + trials
    with shown(progress) as show:
        while (done := len(study.outcomes())) < total:
            proposal = study.ask()
            candidate = candidate_of(proposal.fixed, proposal.number, proposal.choose)
            show(done, total, candidate.name)
            with proposal.running() as values:
                values += judge.objectives(candidate, *parts[:2])
        show(total, total, "held-out samples")
    found, failed = [], []
    for outcome in study.outcomes():
        candidate = candidate_of(outcome.fixed, outcome.number, Given(outcome.params))
        if outcome.values is None:
            failed.append(FailedTrial(candidate, outcome.reason))
        else:
            found.append(Trial(candidate, *outcome.values))
    if not found:
        raise InputError(f"no candidate has a score, the first because of {failed[0].reason}")
    front = front_of(found, metric.higher_is_better)
    judged = {
        each.candidate.name: each.candidate
        for each in found
        if each in front or each.candidate.name in fixed
    }
    report = judge.report(judged, *parts[2:], bootstrap)
    settings = (
        f"{len(found)} candidates with a score, {len(failed)} without; seed {seed}; "
        f"{len(parts[0])} samples for the search, {len(parts[2])} held out.",
    )
    return SearchResult(tuple(found), tuple(failed), report, settings)


@dataclass(frozen=True, eq=False)
class _Judge:
    """Scores candidates on one reading of the model."""

    lrp: LRPFx
    model: nn.Module
    metric: Metric
    batch_size: int

    def objectives(
        self, candidate: Candidate, inputs: Tensor, targets: Tensor
    ) -> tuple[float, float]:
        """The mean score, and the cost of a map."""
        method = self._method(candidate)
        report = self._evaluated({candidate.name: method}, inputs, targets, None)
        score = report.scores[candidate.name, self.metric.name].mean().item()
        batch = inputs[: self.batch_size], targets[: self.batch_size]
        return score, relative_cost(self.model, method, *batch, REPEATS)

    def report(
        self,
        candidates: Mapping[str, Candidate],
        inputs: Tensor,
        targets: Tensor,
        bootstrap: Bootstrap | None,
    ) -> Report:
        """The scores of several candidates."""
        methods = {name: self._method(each) for name, each in candidates.items()}
        return self._evaluated(methods, inputs, targets, bootstrap)

    def _evaluated(
        self,
        methods: Mapping[str, Explainer],
        inputs: Tensor,
        targets: Tensor,
        bootstrap: Bootstrap | None,
    ) -> Report:
        return evaluate(
            self.model,
            methods,
            [self.metric],
            inputs,
            targets,
            batch_size=self.batch_size,
            bootstrap=bootstrap,
        )

    def _method(self, candidate: Candidate) -> Explainer:
        """A method on the reading of the model; for randomised weights it reads theirs."""
        return Explainer(partial(self._attribution, candidate), self.model)

    def _attribution(self, candidate: Candidate, model: nn.Module) -> LRPFx:
        if model is self.model:
            return self.lrp.with_options(**candidate.changes())
        return candidate.attribution(model)


def _check(model: object, metric: Metric, space: object) -> None:
    if not isinstance(model, nn.Module):
        raise OptionError(f"the model must be a torch.nn.Module, got {type(model).__name__}")
    if any(module.training for module in model.modules()):
        raise InputError("the model is in train mode, in which its output varies: model.eval()")
    check_metric(metric)
    if getattr(metric, "masks", None) is not None:
        raise OptionError(
            f"the metric {metric.name!r} has a mask for each sample, but a search divides and reorders "
            "the samples: search with a metric without masks, and judge what it finds by this one with "
            "evaluate"
        )
    if not isinstance(space, Space):
        raise OptionError(f"space must be a Space, got {space!r}")


def _checked(model: nn.Module, inputs: Tensor, targets: Targets) -> Tensor:
    """The targets of samples that fit the model and can have a gradient."""
    if isinstance(inputs, Tensor) and not inputs.is_floating_point():
        raise InputError(
            f"a search needs floating-point inputs, not {inputs.dtype}, because the cost of a map is "
            "measured in input gradients: convert images, or give a model of embeddings"
        )
    return check_samples(model, inputs, targets)


def _split(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    held_out: float | tuple[Tensor, Targets],
    seed: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and targets of the search, and those held out."""
    if isinstance(held_out, tuple):
        if len(held_out) != 2:
            raise OptionError("held_out must be a share or a pair (inputs, targets)")
        return inputs, targets, held_out[0], _checked(model, *held_out)
    check_number("held_out", held_out)
    count = round(held_out * len(inputs)) if 0 < held_out < 1 else 0
    if not 2 <= count <= len(inputs) - 1:
        raise OptionError(
            f"held_out={held_out!r} of {len(inputs)} samples leaves too few: the search needs one, "
            "and two are held out"
        )
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    last, first = order[:count].to(inputs.device), order[count:].to(inputs.device)
    return inputs[first], targets[first], inputs[last], targets[last]


def _baselines(
    baselines: Mapping[str, Composite | str], known: Mapping[str, Candidate]
) -> Iterator[tuple[str, Candidate]]:
    for name, composite in baselines.items():
        if name in known or not isinstance(name, str):
            raise OptionError(f"a baseline needs a name of its own, got {name!r}")
        code = f"from lrp_fx import LRPFx\n\nlrp = LRPFx(model, baselines[{name!r}])"
        rules = by_name(composite) if isinstance(composite, str) else composite
        if not isinstance(rules, Composite):
            raise OptionError(f"baseline {name!r} must be a Composite or the name of a preset")
        yield name, Candidate(name, rules, {}, code)


def _searched(
    model: nn.Module,
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
    metric: Metric,
    space: Space,
    fixed: Mapping[str, Candidate],
    settings: tuple[int, int],
) -> dict[str, str | list[float]]:
    """What is searched: a search is continued only if all of it is the same.

    The model's outputs are included as numbers, since rounding depends on the machine's load.
    """
    seed, batch_size = settings
    choices = [getattr(space, each.name) for each in fields(space)]
    return {
        "model": digest(model),
        "samples": digest(*parts),
        "metric": digest_of_metric(metric),
        "space": digest(*choices),
        "list of presets": digest(*(f"{name} {each.composite}" for name, each in fixed.items())),
        "seed": str(seed),
        "batch_size": str(batch_size),
        "version of lrp_fx": __version__,
        "outputs of the model": _outputs(model, *parts[:2], batch_size),
    }


def _outputs(model: nn.Module, inputs: Tensor, targets: Tensor, batch_size: int) -> list[float]:
    """A weighted sum of the logits of each sample, which nearly every change of the model changes."""
    some = batches(inputs, targets, batch_size)
    logits = torch.cat([logits_of(model, x).double().cpu() for x, _ in some])
    weights = torch.arange(1, logits.shape[1] + 1).double().cos()
    return (logits.nan_to_num() * weights).sum(1).tolist()
