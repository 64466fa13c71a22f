"""A small transformer, and what its output becomes when a token is patched.

Relevance promises to say what a token adds. Activation patching measures it: the token's embedding is
replaced, the model runs again, and the target's logit drops. As in RelP (Rezaei Jafari et al. 2025,
arXiv 2508.21258) the score is the correlation (Pearson) of both over the tokens of a sequence.

The model has two layers and learns to look up: a sequence holds pairs of a key and its value, and at
its end one of the keys again; the answer is that key's value. For this, one layer has to join each
value with the key before it, and the other to find the key. Patched are

* **removed**: the embedding becomes zero, which is what gradient methods with a baseline of zeros ask;
* **exchanged**: it becomes that of another token of the same kind, as in RelP. The estimate of a map is
  then Σ_d (x_d − x'_d) R_d / x_d, with R_d / x_d in the place of the gradient.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from arena.task import Explain, Measure, Suite, Task, pearson
from arena.training import accuracy, fit, right_ones

PAIRS, KEYS, VALUES = 3, 6, 6
LENGTH = 2 * PAIRS + 1
WIDTH, HEADS = 48, 4


class Sequences(NamedTuple):
    tokens: Tensor  # (N, LENGTH): keys are 0 to KEYS − 1, values follow
    answers: Tensor  # (N,), from 0 to VALUES − 1


def sequences(count: int, draw: torch.Generator) -> Sequences:
    """Pairs of different keys with any values, and one of the keys at the end."""
    keys = torch.rand(count, KEYS, generator=draw).argsort(1)[:, :PAIRS]
    values = torch.randint(VALUES, (count, PAIRS), generator=draw)
    asked = torch.randint(PAIRS, (count, 1), generator=draw)
    pairs = torch.stack([keys, values + KEYS], -1).flatten(1)
    tokens = torch.cat([pairs, keys.gather(1, asked)], 1)
    return Sequences(tokens, values.gather(1, asked).flatten())


class Block(nn.Module):
    """Attention and a dense part, each behind a layer norm and beside a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attend(self.before(x)))
        return x + self.narrow(self.activation(self.wide(self.between(x))))

    def attend(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in self.project(x).chunk(3, dim=2)
        )
        weights = (query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        return (weights @ value).transpose(1, 2).flatten(2)


class Embedded(nn.Module):
    """The model behind its embeddings: from (N, LENGTH, WIDTH) to logits of the values (N, VALUES)."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(0.5 * torch.randn(LENGTH, WIDTH))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VALUES)

    def forward(self, embedded: Tensor) -> Tensor:
        last = self.blocks(embedded + self.places)[:, -1]
        logits: Tensor = self.head(self.norm(last))
        return logits


class Transformer(nn.Module):
    """From tokens (N, LENGTH) to logits of the values (N, VALUES)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.rest = nn.Embedding(KEYS + VALUES, WIDTH), Embedded()

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.rest(self.embedding(tokens))
        return logits


@torch.no_grad()
def drops(model: nn.Module, x: Tensor, targets: Tensor, patch: Tensor) -> Tensor:
    """The drop of the target's logit with each token patched alone, (N, T).

    Args:
        model: from (N, T, D) to (N, C).
        x: the embeddings (N, T, D).
        targets: (N,).
        patch: what replaces them, (N, T, D).
    """
    picked = targets[:, None]
    one = torch.eye(x.shape[1], dtype=torch.bool)[:, :, None]
    patched = [model(torch.where(here, patch, x)).gather(1, picked) for here in one]
    return model(x).gather(1, picked) - torch.cat(patched, 1)


def estimates(relevance: Tensor, x: Tensor, patch: Tensor) -> Tensor:
    """What a map (N, T, D) says that patching each token costs, (N, T)."""
    coefficients = torch.where(x != 0, relevance / x, 0.0)
    return ((x - patch) * coefficients).sum(2)


def others(tokens: Tensor, draw: torch.Generator) -> Tensor:
    """Another token of the same kind in each place, (N, T)."""
    step = 1 + torch.randint(KEYS - 1, tokens.shape, generator=draw)
    key = tokens < KEYS
    return torch.where(key, (tokens + step) % KEYS, KEYS + (tokens - KEYS + step) % VALUES)


def task(quick: bool) -> Task:
    draw = torch.Generator().manual_seed(0)
    count, explained = (2_000, 20) if quick else (30_000, 200)
    tokens, answers = sequences(count + 500, draw)
    held = tokens[count:], answers[count:]
    epochs = 1 if quick else 6
    model = fit(Transformer, tokens[:count], answers[:count], epochs=epochs, rate=5e-3, batch=200)
    right = right_ones(model, *held, explained)
    mine, targets = (each[right] for each in held)
    x, exchanged = model.embedding(mine), model.embedding(others(mine, draw))
    patches = {"removed": torch.zeros_like(x), "exchanged": exchanged}

    def score(patch: Tensor, truth: Tensor, explain: Explain) -> Tensor:
        return pearson(estimates(explain(x, targets), x, patch), truth)

    measures = {
        name: Measure(
            partial(score, patch, drops(model.rest, x, targets, patch)), f"Pearson, token {name}"
        )
        for name, patch in patches.items()
    }
    return Task(
        "transformer, 2 layers",
        "attention",
        model.rest,
        x,
        targets,
        measures,
        f"accuracy {accuracy(model, *held):.1%}, {len(x)} sequences of {LENGTH} tokens",
        x.amin(),
        x.amax(),
    )


SUITE = Suite("Activation patching of a transformer", {"look-up": task})
