"""Networks that learned from data, where no truth is known: what the output and the map do together.

The measures are those of ``lrp_fx.evaluate``: region perturbation with two imputers, the focus on
mosaics, randomised weights, the map of another class, sparseness.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from harness.networks import loaded, photographs
from torch import Tensor, nn

from arena import sentences
from arena.data import digits, fashion
from arena.networks import CNN, ViT, efficientnet_lite
from arena.task import Group, Measure, Suite, Task, measure_by
from arena.training import accuracy, fit, right_ones
from lrp_fx.evaluate import (
    SRG,
    Blur,
    CascadingRandomisation,
    ClassCorrelation,
    Constant,
    Mean,
    Metric,
    MosaicFocus,
    Patches,
    Regions,
    Sparseness,
)


def judged(metric: Metric, title: str, model: nn.Module, x: Tensor, targets: Tensor) -> Measure:
    """A metric of the library as a measure of a task; what the default is judged by is paired."""
    paired = isinstance(metric, SRG | MosaicFocus)
    return measure_by(metric, title, model, x, targets, paired=paired)


def measures(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    regions: Regions,
    perturbed: Sequence[tuple[str, Metric]],
    known: Tensor | None,
    mosaics: int = 2,
) -> dict[str, Measure]:
    """The measures of pictures.

    Args:
        model: the network.
        x: the pictures (N, C, H, W).
        targets: (N,).
        regions: whose relevance is compared between maps.
        perturbed: region perturbation, with titles.
        known: the numbers of the pictures whose class the network finds, for mosaics; None for a
            network that does not find it in mosaics, or takes pictures of one size only.
        mosaics: of each of these.
    """
    random = CascadingRandomisation(model=model, regions=regions)
    found = {
        title: judged(metric, title, model, x, targets)
        for title, metric in (
            *perturbed,
            ("random weights", random),
            ("another class", ClassCorrelation(regions=regions)),
            ("sparseness", Sparseness()),
        )
    }
    if known is not None:
        chosen = x[known], targets[known]
        focuses = {
            title: judged(MosaicFocus(regions=each, mosaics=mosaics), title, model, *chosen)
            for title, each in (("focus, patches", regions), ("focus, pixels", None))
        }
        first, *rest = found.items()
        found = dict([first, *focuses.items(), *rest])
    return found


# --- photographs ----------------------------------------------------------------------------------


def on_photographs(number: int, quick: bool) -> Task:
    """EfficientNet-Lite of a number. All are given 224 × 224 pixels, the size of Lite0."""
    model = copy.deepcopy(loaded().model) if number == 0 else efficientnet_lite(number)
    model = model.to(memory_format=torch.channels_last)  # a third less time for a forward pass
    x, labels = photographs()
    if quick:
        x, labels = x[:6], labels[:6]
    with torch.no_grad():
        targets = model(x).argmax(1)  # what the network sees, right or wrong
    known = (targets == labels).nonzero().flatten()
    steps, mosaics = (4, 1) if quick else (14, 2) if number == 0 else (7, 1)
    perturbed = [("SRG, blur", SRG(steps=steps)), ("SRG, mean", SRG(imputer=Mean(), steps=steps))]
    low, high = loaded().bounds
    return Task(
        f"EfficientNet-Lite{number}",
        "convolutional",
        model,
        x,
        targets,
        measures(model, x, targets, Patches(), perturbed, known, mosaics),
        f"{len(known)} of {len(x)} photographs right; {steps} steps, {mosaics} mosaics of each",
        low,
        high,
        "head.2",
        batch=4,
    )


# --- networks trained in the run ------------------------------------------------------------------


def on_pictures(
    build: Callable[[], nn.Module],
    title: str,
    data: Callable[[], tuple[Tensor, Tensor]],
    epochs: int,
    quick: bool,
) -> Task:
    """A CNN or a ViT on small grey pictures."""
    x, labels = data()
    held, explained = 500, 20 if quick else 100
    epochs = 1 if quick else epochs
    model = fit(build, x[held:], labels[held:], epochs=epochs, rate=5e-3, batch=64)
    right = right_ones(model, x[:held], labels[:held], explained)
    chosen, targets = x[right], labels[right]
    side = x.shape[-1]
    regions = Patches(8 if side == 8 else 7)
    perturbed = [
        ("SRG, zero", SRG(regions=regions, imputer=Constant())),
        ("SRG, mean", SRG(regions=regions, imputer=Mean())),
        ("SRG, blur", SRG(regions=regions, imputer=Blur(side / 8))),
    ]
    convolutional = build is CNN
    return Task(
        title,
        "convolutional" if convolutional else "attention",
        model,
        chosen,
        targets,
        measures(model, chosen, targets, regions, perturbed, None),
        f"accuracy {accuracy(model, x[:held], labels[:held]):.1%}, {len(chosen)} pictures",
        0.0,
        1.0,
        "last.0" if convolutional else "",
    )


EVERYONE: tuple[Group, ...] = ("maps", "starts", "filters", "more filters")
PHOTOGRAPHS = Suite("Photographs", {"lite0": partial(on_photographs, 0)}, EVERYONE)
MORE = Suite(
    "Photographs, larger networks",
    {f"lite{number}": partial(on_photographs, number) for number in (1, 2)},
    ("maps", "starts"),
)
SMALL = Suite(
    "Small pictures",
    {
        "digits": partial(on_pictures, CNN, "CNN, digits", digits, 8),
        "fashion": partial(on_pictures, CNN, "CNN, Fashion-MNIST", fashion, 4),
        "vit": partial(on_pictures, ViT, "ViT, digits", digits, 40),
    },
    EVERYONE,
)
TOKENS = Suite("Sentences", {"minilm": sentences.task}, ("maps", "starts"))
