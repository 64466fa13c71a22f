"""Regression on maps of anomalies, with a truth that is known exactly (Mamalakis et al. 2022).

"Neural network attribution methods for problems in geoscience: a novel synthetic benchmark
dataset", Environmental Data Science 1:e8. The input is a field of correlated Gaussian anomalies, one
value per cell. The output is additive,

    y = Σ_i C_i(x_i),

with a continuous piecewise linear C_i of its own for each cell, and C_i(0) = 0. So C_i(x_i) is what the
cell adds to the output, exactly. A dense network learns y from samples. Here the field is smaller
than the paper's 458 cells, its covariance falls exponentially with distance in place of the observed
one, and the samples are fewer, so that it takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arena.task import Measure, Suite, Task, against_truth, pearson
from arena.training import fit

ROWS, COLUMNS = 5, 8
BREAKS = 5
LENGTH = 2.0  # of the correlation, in cells


@dataclass(frozen=True)
class Local:
    """The local functions C_i of all cells.

    Args:
        breaks: where the slopes change, ascending, (cells, K).
        slopes: between them, (cells, K + 1).
    """

    breaks: Tensor
    slopes: Tensor

    @staticmethod
    def draw(cells: int, generator: torch.Generator) -> Local:
        """Breaks as N(0, 1) sorted, as the anomalies are distributed, slopes as N(0, 1)."""
        breaks = torch.randn(cells, BREAKS, generator=generator).sort(1).values
        return Local(breaks, torch.randn(cells, BREAKS + 1, generator=generator))

    def __call__(self, x: Tensor) -> Tensor:
        """C_i(x_i), of the shape of x (N, cells): the integral of the slopes from 0 to x_i."""
        ends = torch.full((len(self.breaks), 1), torch.inf)
        low = torch.cat([-ends, self.breaks], 1)
        high = torch.cat([self.breaks, ends], 1)
        within = x[..., None].clamp(low, high) - torch.zeros(()).clamp(low, high)
        return (within * self.slopes).sum(-1)


def field(count: int, generator: torch.Generator) -> Tensor:
    """Fields of unit variance whose correlation is exp(−distance / LENGTH), (N, cells)."""
    places = torch.cartesian_prod(torch.arange(ROWS), torch.arange(COLUMNS)).double()
    covariance = (-torch.cdist(places, places) / LENGTH).exp()
    white = torch.randn(count, len(places), generator=generator, dtype=torch.float64)
    return (white @ torch.linalg.cholesky(covariance).T).float()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Linear(ROWS * COLUMNS, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
    )


def task(quick: bool) -> Task:
    draw = torch.Generator().manual_seed(0)
    local = Local.draw(ROWS * COLUMNS, draw)
    seen, x = field(4_000 if quick else 100_000, draw), field(50 if quick else 500, draw)
    y, truth = local(seen).sum(1, keepdim=True), local(x)
    scale = y.std()
    epochs = 3 if quick else 15
    model = fit(network, seen, y / scale, epochs=epochs, rate=4e-3, batch=250, loss=F.mse_loss)
    expected = truth.sum(1, keepdim=True) / scale
    with torch.no_grad():
        error = (model(x) - expected).var() / expected.var()
    targets = torch.zeros(len(x), dtype=torch.long)
    measure = Measure(against_truth(pearson, x, targets, truth), "Pearson with the truth")
    facts = f"R² {1 - error:.3f} on {len(x)} fields of {ROWS} × {COLUMNS} cells"
    return Task(
        "MLP, 4 layers", "dense", model, x, targets, {"pearson": measure}, facts, x.amin(), x.amax()
    )


SUITE = Suite("Regression with a known truth (geoscience)", {"field": task})
