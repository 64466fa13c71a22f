"""Linear and logical models: networks whose weights are written down, and what each input adds.

A gate takes two bits. Its output is a sum of ReLUs,

    AND = relu(a + b − 1),   OR = relu(a + b) − relu(a + b − 1),   XOR = relu(a + b) − 2 relu(a + b − 1),

and the share of a bit is its Shapley value, towards both bits zero: half of AND(1, 1) to each, all
of OR(1, 0) to the first, nothing of XOR(1, 1). Networks of this kind are used by Tritscher et al.
2020, "Evaluation of post-hoc XAI approaches through synthetic tabular data".
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from arena.task import Measure, Suite, Task, against_truth, pearson

Gate = Literal["and", "or", "xor"]
HIDDEN = {"and": (0.0, 1.0), "or": (1.0, -1.0), "xor": (1.0, -2.0)}
"""The weights of relu(a + b) and relu(a + b − 1) in the output of each gate."""
PAIRS, CLASSES, FEATURES = 8, 3, 16


def network(gate: Gate, weights: Tensor) -> nn.Module:
    """Sums of gates: from bits (N, 2P) to (N, C), with ``weights`` (C, P) of the P gates."""
    count = weights.shape[1]
    first, last = nn.Linear(2 * count, 2 * count), nn.Linear(2 * count, len(weights), bias=False)
    pairs = torch.eye(count).repeat_interleave(2, 0).repeat_interleave(2, 1)
    with torch.no_grad():
        first.weight.copy_(pairs)
        first.bias.copy_(torch.tensor([0.0, -1.0]).repeat(count))
        last.weight.copy_((weights[..., None] * torch.tensor(HIDDEN[gate])).flatten(1))
    return nn.Sequential(first, nn.ReLU(), last).eval().requires_grad_(False)


def shares(gate: Gate, bits: Tensor, weights: Tensor) -> Tensor:
    """The Shapley value of each bit, (N, 2P), for the weights (N, P) of each sample's gates."""
    a, b = bits.unflatten(1, (-1, 2)).unbind(-1)
    alone = 0.0 if gate == "and" else 1.0  # the output for a single bit
    both = 0.0 if gate == "xor" else 1.0
    together = both - 2 * alone  # what both bits add beyond each alone; half of it to each
    own = [each * alone + a * b * together / 2 for each in (a, b)]
    return (torch.stack(own, -1) * weights[..., None]).flatten(1)


def logical(gate: Gate, count: int) -> Task:
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(CLASSES, PAIRS, generator=draw)
    bits = torch.randint(2, (2 * count, 2 * PAIRS), generator=draw).float()
    bits = bits[shares(gate, bits, torch.ones(1, PAIRS)).any(1)][:count]  # where a gate is open
    targets = torch.randint(CLASSES, (len(bits),), generator=draw)
    truth = shares(gate, bits, weights[targets])
    return _task(f"{gate.upper()}, {PAIRS} gates", network(gate, weights), bits, targets, truth)


def linear(count: int, layers: int) -> Task:
    """A linear model, in one layer or two without anything between: what x_i adds is w_i x_i."""
    draw = torch.Generator().manual_seed(0)
    sizes = [FEATURES] * layers + [CLASSES]
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)))
    weight = torch.eye(FEATURES)
    with torch.no_grad():
        for layer in model:
            layer.weight.normal_(generator=draw)
            weight = layer.weight @ weight
    x = torch.randn(count, FEATURES, generator=draw)
    targets = torch.randint(CLASSES, (count,), generator=draw)
    title = f"linear, {layers} layer{'s' * (layers > 1)}"
    return _task(title, model.eval().requires_grad_(False), x, targets, weight[targets] * x)


def _task(title: str, model: nn.Module, x: Tensor, targets: Tensor, truth: Tensor) -> Task:
    measure = Measure(against_truth(pearson, x, targets, truth), "Pearson with the truth")
    return Task(
        title, "dense", model, x, targets, {"pearson": measure}, low=x.amin(), high=x.amax()
    )


def _count(quick: bool) -> int:
    return 20 if quick else 200


SUITE = Suite(
    "Linear and logical models",
    {
        "linear": lambda quick: linear(_count(quick), 1),
        "linear in two layers": lambda quick: linear(_count(quick), 2),
        "and": lambda quick: logical("and", _count(quick)),
        "or": lambda quick: logical("or", _count(quick)),
        "xor": lambda quick: logical("xor", _count(quick)),
    },
)
