"""Single deletions within the domain (IDSDS; Hesse et al. 2024).

"Benchmarking the attribution quality of vision models", NeurIPS, Datasets and Benchmarks. A network is
trained with pictures of which patches of a 4 × 4 grid are deleted, so that a picture without a patch is
nothing new to it. Then each patch is deleted alone, and the drop of the target's output is what the
patch is worth. The score is the rank correlation (Spearman) of the relevance of the patches with their
drops, for signed relevance as it is. Deleted means zero, which on these pictures is the background.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from arena.data import digits, fashion
from arena.networks import CNN
from arena.task import Measure, Suite, Task, against_truth, spearman
from arena.training import accuracy, fit, right_ones

GRID = 4


def deleted(x: Tensor, patch: Tensor) -> Tensor:
    """Pictures (N, C, H, W) without one patch of the grid each; patch (N,) counts row by row."""
    height, width = (size // GRID for size in x.shape[2:])
    kept = torch.ones(len(x), GRID * GRID).scatter(1, patch[:, None], 0).view(-1, 1, GRID, GRID)
    return x * kept.repeat_interleave(height, 2).repeat_interleave(width, 3)


def some_deleted(x: Tensor, draw: torch.Generator) -> Tensor:
    """In training: half of the pictures miss a patch."""
    patch = torch.randint(GRID * GRID, (len(x),), generator=draw)
    changed = torch.rand(len(x), generator=draw) < 0.5
    return torch.where(changed[:, None, None, None], deleted(x, patch), x)


@torch.no_grad()
def drops(model: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """The output's drop without each patch: of each sample's target, (N, patches)."""
    picked = targets[:, None]
    whole = model(x).gather(1, picked)
    without = [
        model(deleted(x, torch.full((len(x),), patch))).gather(1, picked)
        for patch in range(GRID * GRID)
    ]
    return whole - torch.cat(without, 1)


def by_patch(relevance: Tensor) -> Tensor:
    """The relevance of each patch, (N, patches), of maps (N, C, H, W)."""
    pixels = relevance.sum(1)
    height, width = (size // GRID for size in pixels.shape[1:])
    return pixels.unflatten(2, (GRID, width)).unflatten(1, (GRID, height)).sum((2, 4)).flatten(1)


def patchwise(relevance: Tensor, worth: Tensor) -> Tensor:
    """The rank correlation of the patches' relevance with what they are worth, (N,)."""
    return spearman(by_patch(relevance), worth)


def task(data: Callable[[], tuple[Tensor, Tensor]], title: str, epochs: int, quick: bool) -> Task:
    x, labels = data()
    held, explained = 500, 30 if quick else 200
    model = fit(
        CNN,
        x[held:],
        labels[held:],
        epochs=1 if quick else epochs,
        rate=5e-3,
        batch=64,
        change=some_deleted,
    )
    right = right_ones(model, x[:held], labels[:held], explained)
    chosen, targets = x[right], labels[right]
    truth = drops(model, chosen, targets)
    score = against_truth(patchwise, chosen, targets, truth)
    return Task(
        title,
        "convolutional",
        model,
        chosen,
        targets,
        {"spearman": Measure(score, "rank correlation with the drop")},
        f"accuracy {accuracy(model, x[:held], labels[:held]):.1%}, {len(chosen)} pictures",
        0.0,
        1.0,
        "last.0",
    )


SUITE = Suite(
    "Single deletions (IDSDS)",
    {
        "digits": partial(task, digits, "digits, CNN", 12),
        "fashion": partial(task, fashion, "Fashion-MNIST, CNN", 4),
    },
)
