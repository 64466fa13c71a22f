"""Tetrominoes on noise: XAI-TRIS in its 8 × 8 form (Clark et al. 2024).

"XAI-TRIS: non-linear image benchmarks to quantify false positive post-hoc attribution of feature
importance", Machine Learning 113. A picture holds the shape T or L, or both, on noise. With patterns a
and noise η, each of Frobenius norm 1 over the whole data, and the strength α,

* **linear**: T at one fixed place or L at another; x = α a + (1 − α) η;
* **multiplicative**: the same places; x = (1 − α a) η, with a and η as they are;
* **rigid**: T or L at any place, turned by any multiple of 90°; x as for linear;
* **XOR**: both at their places, with equal signs (class 0) or opposite ones (class 1).

The noise is white, or white noise blurred (σ = 3), which a network may use to subtract the background:
such pixels matter to it, and are not among the true ones. All is scaled into [−1, 1]. True are the
pixels of the shape; where shapes have fixed places, of both, since the absence of one says as much
as the presence of the other. Measured are, with |relevance|,

* **precision**: of the k largest pixels, the share that is among the k true ones;
* **earth mover's score**: 1 − EMD / √98, with the Euclidean distance of pixels as cost; √98, from
  corner to corner, is the largest that there can be.

Only pictures whose class the network finds are explained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from arena.task import Kind, Measure, Suite, Task, against_truth, precision
from arena.training import accuracy, fit, right_ones

Scenario = Literal["linear", "multiplicative", "rigid", "xor"]
Noise = Literal["white", "correlated"]

SIDE = 8
T = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
L = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
PLACES = ((1, 1), (4, 5))  # of the upper left corners of T and L
STRENGTH: dict[tuple[Scenario, Noise], float] = {
    ("linear", "white"): 0.18,
    ("linear", "correlated"): 0.0125,
    ("multiplicative", "white"): 0.7,
    ("multiplicative", "correlated"): 0.1,
    ("rigid", "white"): 0.65,
    ("rigid", "correlated"): 0.2,
    ("xor", "white"): 0.35,
    ("xor", "correlated"): 0.15,
}
"""α as the authors set it for 8 × 8 pixels."""
VARIANCE = 0.5  # of the white noise
BLUR = 3.0
MOVED = 40  # samples whose earth mover's distance is found; each is a linear program


class Pictures(NamedTuple):
    x: Tensor  # (N, 1, 8, 8)
    labels: Tensor  # (N,)
    truth: Tensor  # (N, 1, 8, 8): true pixels are 1


def pictures(
    scenario: Scenario,
    noise: Noise,
    count: int,
    draw: torch.Generator,
    strength: float | None = None,
) -> Pictures:
    """Pictures of one scenario.

    Args:
        scenario: which shapes, where.
        noise: of the background.
        count: N.
        draw: the source of all chance.
        strength: α; that of the authors unless given.
    """
    alpha = STRENGTH[scenario, noise] if strength is None else strength
    labels = torch.randint(2, (count,), generator=draw)
    background = VARIANCE**0.5 * torch.randn(count, SIDE, SIDE, generator=draw)
    if noise == "correlated":
        background = blurred(background)
    pattern, truth = _patterns(scenario, labels, draw)
    if scenario == "multiplicative":
        x = (1 - alpha * pattern) * background
    else:
        x = alpha * pattern / pattern.norm() + (1 - alpha) * background / background.norm()
    x = x / x.abs().amax()
    return Pictures(x[:, None], labels, truth[:, None])


def _patterns(scenario: Scenario, labels: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is put on the noise, (N, 8, 8), and which pixels are true."""
    both = torch.zeros(2, SIDE, SIDE)
    for plane, shape, place in zip(both, (T, L), PLACES, strict=True):
        put(plane, shape, place)
    count = len(labels)
    if scenario == "rigid":
        pattern = torch.zeros(count, SIDE, SIDE)
        chance = torch.rand(count, 3, generator=draw)
        for plane, label, (turn, row, column) in zip(
            pattern, labels.tolist(), chance.tolist(), strict=True
        ):
            shape = torch.rot90((T, L)[label], int(4 * turn))
            rows, columns = (SIDE + 1 - size for size in shape.shape)
            put(plane, shape, (int(rows * row), int(columns * column)))
        return pattern, pattern.clone()
    truth = both.sum(0).expand(count, -1, -1)
    if scenario == "xor":
        sign = 2 * torch.randint(2, (count,), generator=draw) - 1
        second = sign * (1 - 2 * labels)
        return sign[:, None, None] * both[0] + second[:, None, None] * both[1], truth
    return both[labels], truth


def put(plane: Tensor, shape: Tensor, place: tuple[int, int]) -> None:
    """Write a shape into a plane, its upper left corner at the place."""
    (row, column), (height, width) = place, shape.shape
    plane[row : row + height, column : column + width] = shape


def blurred(noise: Tensor) -> Tensor:
    """Noise (N, 8, 8) behind a Gaussian filter of σ = BLUR, the picture mirrored at its edges."""
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(noise.numpy(), (0, BLUR, BLUR)))


def movers_score(relevance: Tensor, truth: Tensor) -> Tensor:
    """1 − earth mover's distance / √98 of |relevance| and the true pixels (N, 1, 8, 8), (N,)."""
    import numpy
    from scipy.optimize import linprog

    places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).double()
    farthest = math.hypot(SIDE - 1, SIDE - 1)
    scores = []
    for mine, true in zip(relevance.double().abs().flatten(1), truth.flatten(1) != 0, strict=True):
        if not mine.any():  # an empty map points nowhere: as far as can be
            scores.append(0.0)
            continue
        source, target = mine / mine.sum(), true.double() / true.sum()
        cost = torch.cdist(places, places[true])  # (64, k)
        leaving = torch.eye(len(places)).repeat_interleave(cost.shape[1], 1)
        arriving = torch.eye(cost.shape[1]).repeat(1, len(places))
        bounds = torch.cat([source, target[true]])
        flow = torch.cat([leaving, arriving]).numpy()
        # one equation follows from the others, and rounding would contradict it
        found = linprog(cost.flatten().numpy(), A_eq=flow[:-1], b_eq=bounds.numpy()[:-1])
        if not found.success:
            raise RuntimeError(f"no transport found: {found.message}")
        scores.append(float(1 - numpy.float64(found.fun) / farthest))
    return torch.tensor(scores, dtype=torch.float64)


class CNN(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 2),
        )


class MLP(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(SIDE * SIDE, 64),
            nn.ReLU(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 2),
        )


NETWORKS: dict[Kind, Callable[[], nn.Module]] = {"convolutional": CNN, "dense": MLP}


def task(scenario: Scenario, noise: Noise, kind: Kind, quick: bool) -> Task:
    draw = torch.Generator().manual_seed(0)
    count, explained = (1000, 50) if quick else (8000, 200)
    data = pictures(scenario, noise, count + 1000, draw)
    seen, held = (Pictures(*(part[chosen] for part in data)) for chosen in _split(count))
    epochs = 2 if quick else 8
    model = fit(NETWORKS[kind], seen.x, seen.labels, epochs=epochs, rate=4e-3, decay=0.01)
    right = right_ones(model, held.x, held.labels, explained)
    x, targets, truth = (part[right] for part in held)
    few = x[:MOVED], targets[:MOVED], truth[:MOVED]
    measures = {
        "precision": Measure(against_truth(precision, x, targets, truth), "precision", digits=2),
        "mover": Measure(against_truth(movers_score, *few), "earth mover's score"),
    }
    name = "CNN" if kind == "convolutional" else "MLP"
    right_share = accuracy(model, held.x, held.labels)
    return Task(
        f"{name}, {'XOR' if scenario == 'xor' else scenario}, {noise}",
        kind,
        model,
        x,
        targets,
        measures,
        f"accuracy {right_share:.0%}, {len(x)} pictures",
        layer="5" if kind == "convolutional" else "",
    )


def _split(count: int) -> tuple[slice, slice]:
    return slice(count), slice(count, None)


SUITE = Suite(
    "Tetrominoes on noise (XAI-TRIS)",
    {
        f"{kind} {scenario} {noise}": partial(task, scenario, noise, kind)
        for kind in NETWORKS
        for scenario, noise in STRENGTH
        if kind == "convolutional" or noise == "white"
    },
)
