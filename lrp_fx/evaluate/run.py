"""Runs metrics on methods."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from lrp_fx._common import all_finite, check_callable, check_count, check_flag, entries, needed
from lrp_fx.errors import InputError, LRPError, OptionError, blamed, shortened
from lrp_fx.evaluate.explain import Rebuildable
from lrp_fx.evaluate.metric import (
    Explain,
    Forward,
    Metric,
    Targets,
    batches,
    check_metric,
    check_samples,
)
from lrp_fx.evaluate.report import Report
from lrp_fx.evaluate.statistics import Bootstrap
from lrp_fx.evaluate.summary import MetricInfo

Progress = Callable[[int, int, str], None]
"""Called with how many steps are done, how many there are, and what comes next."""


def evaluate(
    forward: Forward,
    methods: Mapping[str, Explain],
    metrics: Sequence[Metric],
    inputs: Tensor,
    targets: Targets,
    *,
    samples: Sequence[str] | None = None,
    batch_size: int = 8,
    bootstrap: Bootstrap | None = None,
    progress: bool | Progress = False,
) -> Report:
    """Judge the maps of several methods by several metrics, on the same samples.

    Rankings of methods depend on the settings. Use at least two imputers, and compare methods by
    :meth:`Report.differences`, which pairs the samples.

    Args:
        forward: the model, from inputs ``(N, …)`` to logits ``(N, classes)``, in any runtime.
        methods: name → method. Tests by randomised weights need an :class:`Explainer`.
        metrics: no two with the same name.
        inputs: ``(N, …)``.
        targets: the classes to explain, ``(N,)``, integers. Usually the predicted ones.
        samples: the names of the samples; their numbers if None.
        batch_size: inputs that are explained at once. It sets what ``seconds`` are measured on.
        bootstrap: how intervals are made.
        progress: True for a bar in the terminal, which needs rich, or a function.

    Returns:
        All scores.

    Raises:
        OptionError: if there is nothing to judge or to judge by, or two metrics have one name.
        InputError: if the inputs, the relevance or the logits do not fit.
        TargetError: if the targets do not fit the model.
    """
    check_callable("forward", forward)
    if not isinstance(methods, Mapping):
        raise OptionError(
            f"methods must be a dict of names and methods, got {type(methods).__name__}"
        )
    if not isinstance(metrics, Iterable):
        raise OptionError(f"metrics must be a list of metrics, got {type(metrics).__name__}")
    metrics = tuple(metrics)
    for metric in metrics:
        check_metric(metric)
    names = [metric.name for metric in metrics]
    if not methods or not metrics:
        raise OptionError("evaluate needs at least one method and one metric")
    for name, method in methods.items():
        if not isinstance(name, str):
            raise OptionError(f"the name of a method must be a text, got {name!r}")
        check_callable("each method", method)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(
            f"two metrics have the name {twice[0]!r}: give each its own settings or label"
        )
    check_count("batch_size", batch_size)
    targets = check_samples(forward, inputs, targets)
    labels = _labels(samples, len(inputs))
    if bootstrap is not None and not isinstance(bootstrap, Bootstrap):
        raise OptionError(f"bootstrap must be a Bootstrap or None, got {bootstrap!r}")
    scores: dict[tuple[str, str], Tensor] = {}
    seconds: dict[str, float] = {}
    with _counted(progress, len(methods) * (len(metrics) + 1)) as step:
        for name, method in methods.items():
            step(f"{name}: maps")
            known, seconds[name] = _remembered(method, inputs, targets, batch_size, name)
            for metric in metrics:
                step(f"{name}: {metric.name}")
                scores[name, metric.name] = _judge(metric, name, forward, known, inputs, targets)
    return Report(
        scores={(m, each): scores[m, each] for each in names for m in methods},
        metrics=tuple(MetricInfo(m.name, m.higher_is_better, repr(m)) for m in metrics),
        seconds=seconds,
        samples=labels,
        bootstrap=bootstrap or Bootstrap(),
    )


def _labels(samples: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The names of the samples."""
    if samples is None:
        return tuple(map(str, range(count)))
    names = () if isinstance(samples, str) else tuple(entries(samples) or ())
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise OptionError(
            f"samples must be a list of texts, one for each of the {count} samples, got "
            f"{shortened(repr(samples))}"
        )
    return names


def _judge(
    metric: Metric, name: str, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
) -> Tensor:
    """The scores, on the CPU; errors name the metric and the method."""
    try:
        with blamed("it"):
            found: object = metric(forward, explain, inputs.clone(), targets.clone())
    except LRPError as error:
        raise type(error)(f"{metric.name}, method {name!r}: {error}") from error
    try:
        scores = torch.as_tensor(found).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(
            f"{metric.name} must return one number for each sample, not {type(found).__name__}"
        ) from error
    if scores.is_complex() or scores.shape != inputs.shape[:1] or not all_finite(scores):
        raise OptionError(
            f"{metric.name} gave no finite number for each sample of method {name!r}: shape "
            f"{tuple(scores.shape)} for {len(inputs)} samples"
        )
    return scores.double().cpu()


@dataclass(frozen=True, eq=False)
class _Batched:
    """A method that explains a few inputs at once. It gets copies, which it may write to."""

    method: Explain
    batch_size: int

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        some = batches(inputs, targets, self.batch_size)
        with blamed("it"):
            return torch.cat([self.method(x.clone(), target.clone()) for x, target in some])


@dataclass(frozen=True, eq=False)
class _Remembered:
    """A method that knows the maps of one batch already."""

    method: Explain
    inputs: Tensor
    targets: Tensor
    maps: Tensor

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        if _equal(inputs, self.inputs) and _equal(targets, self.targets):
            return self.maps.clone()
        return self.method(inputs, targets)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same in all respects, of any type and device."""
    alike = (one.dtype, one.device) == (other.dtype, other.device)
    return alike and torch.equal(one, other)


@dataclass(frozen=True, eq=False)
class _RememberedRebuildable(_Remembered):
    """The same for a method that can be made for another model."""

    rebuild: Callable[[nn.Module], Explain]
    batch_size: int

    def on(self, model: nn.Module) -> Explain:
        return _Batched(self.rebuild(model), self.batch_size)


def _remembered(
    method: Explain, inputs: Tensor, targets: Tensor, batch_size: int, name: str
) -> tuple[Explain, float]:
    """The method with its maps of the inputs, and the seconds for one map.

    They are the median over full batches but the first, which also prepares what later ones use. If
    there is only one, it is explained once more.
    """
    full = min(batch_size, len(inputs))
    maps: list[Tensor] = []
    times: list[float] = []
    try:
        for x, target in batches(inputs, targets, batch_size):
            with blamed("it"):
                relevance, seconds = _timed(method, x, target)
            maps.append(relevance)
            if len(x) == full:
                times.append(seconds / full)
        if len(times) == 1:
            times.append(_timed(method, inputs[:full], targets[:full])[1] / full)
        whole = torch.cat(maps)
    except LRPError as error:
        raise type(error)(f"method {name!r}: {error}") from error
    median = statistics.median(times[1:])
    batched = _Batched(method, batch_size)
    if isinstance(method, Rebuildable):
        rebuildable = _RememberedRebuildable(batched, inputs, targets, whole, method.on, batch_size)
        return rebuildable, median
    return _Remembered(batched, inputs, targets, whole), median


def _timed(method: Explain, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    """The relevance and the seconds that it took."""
    inputs, targets = inputs.clone(), targets.clone()  # a method may write to them
    _synchronize(inputs)
    start = time.perf_counter()
    relevance = method(inputs, targets)
    _synchronize(inputs)
    if not isinstance(relevance, Tensor):
        raise InputError(f"it returned {type(relevance).__name__} instead of a tensor")
    return relevance, time.perf_counter() - start


def _synchronize(inputs: Tensor) -> None:
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)


@contextmanager
def _counted(progress: bool | Progress, total: int) -> Iterator[Callable[[str], None]]:
    """A function that reports each step before it is taken; the end is reported, too."""
    with shown(progress) as show:
        done = count()
        yield lambda text: show(next(done), total, text)
        show(total, total, "done")


@contextmanager
def shown(progress: bool | Progress) -> Iterator[Progress]:
    """A display of the progress: a function of the user, a bar, or nothing."""
    if callable(progress):
        yield progress
        return
    check_flag("progress", progress)
    if not progress:
        yield lambda done, total, text: None
        return
    with needed("progress=True needs"):
        from rich.progress import Progress as Bar
    with Bar(transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total, description=text
        )
