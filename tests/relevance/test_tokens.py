"""Tokens and padding."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx
from tests.helpers.closeness import QUOTIENTS, assert_close
from tests.helpers.twins import quotient

EPS = 1e-6


class Bag(nn.Module):
    """Tokens, their mean, and a linear layer: whose token's relevance can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).mean(1))


def test_tokens_are_explained_at_their_embedding() -> None:
    """R_td = e_td / T · w_d / S(y) · y, by feature and summed up."""
    torch.manual_seed(0)
    model, tokens = Bag().double(), torch.tensor([[1, 5, 5], [0, 10, 2]])
    e, y = model.embedding(tokens), model(tokens)[:, 1]
    mean = e.mean(1)
    at_mean = mean * model.head.weight[1] * quotient(y, y, EPS).unsqueeze(1)
    expected = (e / 3 * quotient(at_mean, mean, EPS).unsqueeze(1)).detach()
    features = LayerLRPFx(model, "embedding").attribute(tokens, 1)
    assert_close(features, expected, QUOTIENTS)
    mine = LRPFx(model).attribute(tokens, 1)
    assert mine.shape == tokens.shape
    assert torch.allclose(mine, expected.sum(-1), atol=1e-12)


class First(nn.Module):
    """The classifier of BERT on the first word, which padding on the left moves two places on."""

    def __init__(self, inner: nn.Module, side: str) -> None:
        super().__init__()
        self.inner, self.place = inner, 2 if side == "left" else 0

    def forward(self, tokens: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Tensor:
        hidden = self.inner(tokens, attention_mask=attention_mask, position_ids=position_ids)
        place = self.place if tokens.shape[1] > 4 else 0
        return hidden.last_hidden_state[:, place]


def padded(own: Tensor, side: str) -> Tensor:
    """Two zeros more at one side of each row."""
    return F.pad(own, (0, 2) if side == "right" else (2, 0))


WORDS = torch.tensor([[7, 12, 3, 20], [9, 9, 14, 5]])
SENTENCE = (WORDS, torch.ones_like(WORDS), torch.arange(4).expand(2, 4))
"""Words, the mask of those that are there, their positions."""


def explained(lrp: LRPFx, words: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    more = {"attention_mask": mask, "position_ids": places}
    return lrp.attribute(words, 3, more)


@cache
def reading(attention: str, side: str) -> LRPFx:
    """An attribution that has read the model, with padding and without."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(
        **sizes, intermediate_size=32, vocab_size=30, attn_implementation=attention
    )
    inner = transformers.BertModel(config, add_pooling_layer=False)
    for parameter in inner.parameters():
        nn.init.normal_(parameter, std=0.3)
    lrp = LRPFx(First(inner, side).double().eval(), "attn_lrp")
    for sentence in (SENTENCE, [padded(each, side) for each in SENTENCE]):
        explained(lrp, *sentence)
    return lrp


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("composite", ["attn_lrp", "cp_lrp"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_padding_gets_nothing_and_changes_nothing(
    attention: str, side: str, composite: str
) -> None:
    """A classifier that reads the first word: with a mask, padding is as if it were not there."""
    lrp = reading(attention, side).with_composite(composite)
    plain = explained(lrp, *SENTENCE)
    both = explained(lrp, *(padded(each, side) for each in SENTENCE))
    own = both[:, :4] if side == "right" else both[:, 2:]
    rest = both[:, 4:] if side == "right" else both[:, :2]
    assert not rest.any()
    assert_close(own, plain, QUOTIENTS)
