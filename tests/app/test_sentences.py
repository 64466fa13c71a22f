"""Pairs of sentences, with a small encoder in place of the packaged one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from lrp_fx.app.sentences import LONGEST, Sentences, Similarity
from lrp_fx.errors import InputError

WORDS = ("cat", "kitten", "stock", "the", "a")


class Encoder(nn.Module):
    """Word vectors: a cat is nearly a kitten."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        rows = [[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 0.2], [0, 0, 0.2]]
        self.table.weight.data = torch.tensor(rows)

    def forward(self, tokens: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.table(tokens))


def _encode(text: str) -> tuple[Tensor, list[str]]:
    words = text.split()
    return torch.tensor([[WORDS.index(word) for word in words]]), words


def test_similar_words_are_found() -> None:
    """The nouns get the relevance, in both sentences."""
    pair = Sentences(Similarity(Encoder()).eval(), _encode).explain("the cat", "a kitten the")
    assert pair.cosine > 0.9
    assert pair.first.texts == ("the", "cat")
    assert pair.first.relevance[1] > 5 * abs(pair.first.relevance[0])
    assert max(pair.second.relevance) == pair.second.relevance[1]
    assert "kitten" in pair.second.html()


def test_mistakes_are_sentences() -> None:
    """Nothing, and too much."""
    sentences = Sentences(Similarity(Encoder()).eval(), _encode)
    with pytest.raises(InputError, match="second sentence is empty"):
        sentences.explain("cat", "  ")
    with pytest.raises(InputError, match=f"at most {LONGEST}"):
        sentences.explain("cat " * (LONGEST + 1), "cat")
