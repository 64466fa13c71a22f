"""Training small networks in seconds, the same each time."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
Change = Callable[[Tensor, torch.Generator], Tensor]


def fit(
    build: Callable[[], nn.Module],
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    rate: float = 1e-3,
    batch: int = 128,
    decay: float = 0.0,
    loss: Loss = F.cross_entropy,
    change: Change | None = None,
    seed: int = 0,
) -> nn.Module:
    """A trained network, in eval mode, its parameters frozen.

    AdamW, its learning rate rising to ``rate`` and falling to zero again (one cycle).

    Args:
        build: makes the network.
        inputs: (N, …).
        labels: (N, …), what ``loss`` takes.
        epochs: passes over the data.
        rate: the largest learning rate.
        batch: samples in a step.
        decay: of the weights.
        loss: from output and labels to a number.
        change: of each batch of inputs, such as deleting patches.
        seed: of the weights, the order and the changes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, draw = build().train(), torch.Generator().manual_seed(seed)
        steps = epochs * (len(inputs) // batch)
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        for _ in range(epochs):
            order = torch.randperm(len(inputs), generator=draw)
            for chosen in order[: len(order) // batch * batch].split(batch):
                x = inputs[chosen] if change is None else change(inputs[chosen], draw)
                optimizer.zero_grad()
                loss(model(x), labels[chosen]).backward()
                optimizer.step()
                schedule.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The share of samples whose class is found."""
    return (model(inputs).argmax(1) == labels).double().mean().item()


@torch.no_grad()
def right_ones(model: nn.Module, inputs: Tensor, labels: Tensor, count: int) -> Tensor:
    """The numbers of the first ``count`` samples whose class the network finds."""
    return (model(inputs).argmax(1) == labels).nonzero().flatten()[:count]
