"""Simulated EEG with planted sources: does the map find their channels and times?

After Sujatha Ravindran and Contreras-Vidal 2023, "An empirical comparison of deep learning
explainability approaches for EEG using simulated ground truth", Scientific Reports 13: a trial is

    x = A s + background,

where A, the forward matrix, says how strongly each source is seen at each channel. Of four planted
sources one is active, which is the class: a burst of 10 Hz or 20 Hz in a time window. Here the
channels lie on a half sphere, and A falls as a Gaussian with the distance between channel and
source, less its mean over the channels (the average reference). The background is pink noise of other
sources through the same kind of matrix, and white noise of the sensors.

True are the channels where the source is seen with at least a third of its largest strength, at the
times of its window, and measured is the share of |relevance| there.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from arena.task import Measure, Suite, Task, against_truth, share
from arena.training import accuracy, fit, right_ones

CHANNELS, RATE, LENGTH = 24, 128, 128  # samples per second, samples in a trial
CLASSES = 4
WIDTH = 0.35  # of the spread of a source, in radii of the head
FREQUENCIES = (10.0, 20.0, 10.0, 20.0)  # Hz
WINDOWS = ((16, 56), (16, 56), (72, 112), (72, 112))  # samples
DISTRACTORS = 12
GAIN = 2.0  # of the bursts, against a background of about 1


class Trials(NamedTuple):
    x: Tensor  # (N, 1, channels, times)
    labels: Tensor  # (N,)
    planted: Tensor  # (N, 1, channels, times): A s
    truth: Tensor  # (N, 1, channels, times): 1 at the channels and times of the source


def half_sphere(count: int) -> Tensor:
    """So many places of about equal distances on the upper half of the unit sphere, (count, 3)."""
    index = torch.arange(count) + 0.5
    height = 1 - index / count
    angle = math.pi * (1 + 5**0.5) * index
    radius = (1 - height**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], 1)


def forward_matrix(sources: Tensor) -> Tensor:
    """How strongly the channels see the sources (S, 3), (channels, S)."""
    distance = torch.cdist(half_sphere(CHANNELS), sources)
    spread = (-(distance**2) / (2 * WIDTH**2)).exp()
    return spread - spread.mean(0, keepdim=True)


def planted_sources() -> Tensor:
    """The places of the sources of the classes, on four sides of the head, (CLASSES, 3)."""
    angle = torch.arange(CLASSES) * math.pi / 2 + math.pi / 4
    radius = torch.full_like(angle, 0.8)
    return torch.stack([radius * angle.cos(), radius * angle.sin(), (1 - radius**2).sqrt()], 1)


def trials(count: int, draw: torch.Generator) -> Trials:
    labels = torch.randint(CLASSES, (count,), generator=draw)
    matrix = forward_matrix(planted_sources())[:, labels].T  # (N, channels)
    waves = bursts(labels, draw)
    planted = GAIN * matrix[:, :, None] * waves[:, None] / matrix.abs().amax()
    others = torch.nn.functional.normalize(torch.randn(DISTRACTORS, 3, generator=draw), dim=1)
    others[:, 2] = others[:, 2].abs()
    noise = forward_matrix(others) @ pink(count, DISTRACTORS, draw)
    noise = noise / noise.std() + 0.3 * torch.randn(noise.shape, generator=draw)
    strong = matrix.abs() >= matrix.abs().amax(1, keepdim=True) / 3
    truth = (strong[:, :, None] & windows(labels)[:, None]).float()
    return Trials((planted + noise)[:, None], labels, planted[:, None], truth[:, None])


def windows(labels: Tensor) -> Tensor:
    """The times of each trial's burst, (N, times)."""
    bounds = torch.tensor(WINDOWS)[labels]
    time = torch.arange(LENGTH)
    return (time >= bounds[:, :1]) & (time < bounds[:, 1:])


def bursts(labels: Tensor, draw: torch.Generator) -> Tensor:
    """A wave of the class's frequency and a random phase, under a Hann window, (N, times)."""
    begin, end = torch.tensor(WINDOWS)[labels].T[:, :, None]
    time = torch.arange(LENGTH)
    phase = 2 * math.pi * torch.rand(len(labels), 1, generator=draw)
    wave = (2 * math.pi * torch.tensor(FREQUENCIES)[labels, None] * time / RATE + phase).sin()
    envelope = (math.pi * (time - begin + 0.5) / (end - begin)).sin() ** 2
    return wave * envelope * windows(labels)


def pink(count: int, sources: int, draw: torch.Generator) -> Tensor:
    """Noise whose power falls as 1 / f, (N, sources, times)."""
    spectrum = torch.fft.rfft(torch.randn(count, sources, LENGTH, generator=draw))
    frequency = torch.arange(spectrum.shape[-1]).clamp(min=1)
    return torch.fft.irfft(spectrum / frequency.sqrt(), LENGTH)


class EEGNet(nn.Module):
    """The form of EEGNet (Lawhern et al. 2018), smaller: filters in time, then over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(
            nn.Conv2d(1, 8, (1, 33), padding=(0, 16), bias=False), nn.BatchNorm2d(8)
        )
        self.space = nn.Sequential(
            nn.Conv2d(8, 16, (CHANNELS, 1), groups=8, bias=False),
            nn.BatchNorm2d(16),
            nn.ELU(),
            nn.AvgPool2d((1, 4)),
            nn.Dropout(0.25),
        )
        self.separable = nn.Sequential(
            nn.Conv2d(16, 16, (1, 15), padding=(0, 7), groups=16, bias=False),
            nn.Conv2d(16, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ELU(),
            nn.AvgPool2d((1, 8)),
            nn.Dropout(0.25),
        )
        self.classifier = nn.Linear(16 * (LENGTH // 32), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.separable(self.space(self.time(x))).flatten(1))
        return logits


class Shallow(nn.Module):
    """The form of ShallowFBCSPNet (Schirrmeister et al. 2017), smaller: the log power of bands."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = nn.Sequential(
            nn.Conv2d(1, 12, (1, 25), padding=(0, 12)),
            nn.Conv2d(12, 12, (CHANNELS, 1), bias=False),
            nn.BatchNorm2d(12),
        )
        self.pool = nn.AvgPool2d((1, 32), (1, 16))
        self.drop = nn.Dropout(0.25)
        self.classifier = nn.Linear(12 * 7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        power = self.pool(self.bands(x) ** 2)
        logits: Tensor = self.classifier(self.drop(power.clamp(min=1e-6).log().flatten(1)))
        return logits


NETWORKS = {"EEGNet": EEGNet, "ShallowFBCSP": Shallow}
LAYERS = {"EEGNet": "time", "ShallowFBCSP": ""}  # behind the others no channels are left


def task(name: str, quick: bool) -> Task:
    draw = torch.Generator().manual_seed(0)
    count, explained = (256, 20) if quick else (2000, 100)
    data = trials(count + 300, draw)
    seen, held = Trials(*(each[:count] for each in data)), Trials(*(each[count:] for each in data))
    epochs = 1 if quick else 8
    model = fit(NETWORKS[name], seen.x, seen.labels, epochs=epochs, rate=1e-2, batch=64)
    right = right_ones(model, held.x, held.labels, explained)
    x, targets, truth = held.x[right], held.labels[right], held.truth[right]
    places = {
        "both": (truth, "share at the channels and times"),
        "channels": (truth.amax(3, keepdim=True).expand_as(truth), "at the channels"),
        "times": (truth.amax(2, keepdim=True).expand_as(truth), "at the times"),
    }
    measures = {
        key: Measure(against_truth(share, x, targets, where), title)
        for key, (where, title) in places.items()
    }
    chance = truth.mean().item()
    return Task(
        name,
        "convolutional",
        model,
        x,
        targets,
        measures,
        f"accuracy {accuracy(model, held.x, held.labels):.0%}, {len(x)} trials; "
        f"a uniform map has {chance:.3f} at both",
        x.amin(),
        x.amax(),
        LAYERS[name],
        batch=50,
    )


SUITE = Suite("Simulated EEG", {name: partial(task, name) for name in NETWORKS})
