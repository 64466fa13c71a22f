"""What methods are compared on: a network, its inputs, and the measures of a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from lrp_fx.evaluate import Metric, Sparseness

Explain = Callable[[Tensor, Tensor], Tensor]
"""From inputs (N, …) and targets (N,) to relevance of the inputs' shape."""
Kind = Literal["dense", "convolutional", "attention"]
Group = Literal["maps", "starts", "filters", "more filters"]
"""Of methods: maps of the logit; other starts; some filters; filters from 1 % to 50 %."""
Score = Callable[[Explain], Tensor]
"""From a method to one value per sample, (N,)."""


@dataclass(frozen=True)
class Measure:
    """One figure of merit.

    Args:
        score: from a method to one value per sample.
        title: as the page shows it.
        higher: whether more is better; None: neither is, the figure only describes.
        digits: how many are shown.
        paired: whether the page shows, sample by sample, the differences from the default.
    """

    score: Score = field(repr=False)
    title: str
    higher: bool | None = True
    digits: int = 3
    paired: bool = False


def measure_by(
    metric: Metric,
    title: str,
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    *,
    paired: bool,
) -> Measure:
    """A metric of the library on the inputs of a task."""

    def score(explain: Explain) -> Tensor:
        return metric(model, explain, x, targets)

    higher = None if isinstance(metric, Sparseness) else metric.higher_is_better
    return Measure(score, title, higher, paired=paired)


@dataclass(frozen=True)
class Task:
    """A network that is explained, on samples that it has not seen in training.

    Args:
        title: as the page shows it.
        kind: decides which methods take part.
        model: in eval mode, its parameters frozen; from (N, …) to logits (N, classes).
        inputs: (N, …).
        targets: the outputs that are explained, (N,).
        measures: by their names in the file of results.
        facts: one sentence: how well the network does, on what.
        low: the smallest value of an input, for the box rule.
        high: the largest.
        layer: the path of the layer for Grad-CAM; "" for none.
        batch: samples in one call of a method.
    """

    title: str
    kind: Kind
    model: nn.Module = field(repr=False)
    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    measures: Mapping[str, Measure]
    facts: str = ""
    low: float | Tensor = -1.0
    high: float | Tensor = 1.0
    layer: str = ""
    batch: int = 256


@dataclass(frozen=True)
class Suite:
    """Tasks that ask the same question; a section of the page.

    Args:
        title: of the section.
        tasks: by name, functions that make them (they train a network, so only when needed); the
            argument says whether to be quick: smaller, for a trial of the command.
        groups: of the methods that take part.
    """

    title: str
    tasks: Mapping[str, Callable[[bool], Task]]
    groups: tuple[Group, ...] = ("maps", "starts", "filters")


def in_batches(explain: Explain, task_batch: int) -> Explain:
    """The same method, in calls of at most so many samples."""

    def explained(inputs: Tensor, targets: Tensor) -> Tensor:
        parts = zip(inputs.split(task_batch), targets.split(task_batch), strict=True)
        return torch.cat([explain(*part).detach() for part in parts])

    return explained


def against_truth(
    compare: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor, truth: Tensor
) -> Score:
    """A score that compares maps with the truth.

    Args:
        compare: from maps (N, …) and truth (N, …) to (N,).
        inputs: (N, …).
        targets: (N,).
        truth: (N, …).
    """

    def score(explain: Explain) -> Tensor:
        return compare(explain(inputs, targets), truth)

    return score


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """The correlation of each sample's entries, (N,); 0 if one of both is constant."""
    a, b = (each.double().flatten(1) for each in (a, b))
    a, b = (each - each.mean(1, keepdim=True) for each in (a, b))
    # 64-bit maps of 1e-200 square to zero, so the scale goes first
    a, b = (each / each.abs().amax(1, keepdim=True).clamp(min=1e-300) for each in (a, b))
    norms = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(norms > 0, (a * b).sum(1) / norms.clamp(min=1e-300), 0.0)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """The correlation of the ranks, equal values sharing their mean rank, (N,)."""
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(each.flatten(1).numpy(), axis=1)) for each in (a, b)]
    return pearson(*ranks)


def share(relevance: Tensor, truth: Tensor) -> Tensor:
    """The share of |relevance| that lies where the truth is not zero, (N,); 0 for an empty map."""
    size = relevance.double().abs().flatten(1)
    inside = (size * (truth.flatten(1) != 0)).sum(1)
    return inside / size.sum(1).clamp(min=1e-300)


def precision(relevance: Tensor, truth: Tensor) -> Tensor:
    """Of the k entries of largest |relevance|, the share that is among the k true ones, (N,)."""
    size, true = relevance.abs().flatten(1), truth.flatten(1) != 0
    found = []
    for mine, mask in zip(size, true, strict=True):
        count = int(mask.sum())
        found.append(mask[mine.topk(count).indices].double().mean())
    return torch.stack(found)
