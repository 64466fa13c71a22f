"""Tokens and padding; what a model says that packs a sequence."""

from __future__ import annotations

import pytest
import torch
from models import numbers
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.errors import LRPError

EXACT = 1e-9
"""Of max |R|: sums in another order, ε = 1e-6 in the denominators of several steps."""
EPS = 1e-6


def quotient(relevance: Tensor, z: Tensor) -> Tensor:
    return relevance / (z + torch.where(z < 0, -EPS, EPS).to(z))


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, torch.tensor([5, 4]), batch_first=True)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0][:, 0]


@pytest.mark.parametrize("capture", ["auto", "export", "record"])
def test_packed_sequences_are_a_clear_error(capture: str) -> None:
    with pytest.raises(LRPError, match=r"(?i)pack") as caught:
        LRPFx(Packed().double(), capture=capture).attribute(numbers(2, 5, 3), 1)
    assert "padded" in str(caught.value)


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
    at_mean = mean * model.head.weight[1] * quotient(y, y).unsqueeze(1)
    expected = (e / 3 * quotient(at_mean, mean).unsqueeze(1)).detach()
    features = LayerLRPFx(model, "embedding").attribute(tokens, 1)
    assert (features - expected).abs().max() <= EXACT * expected.abs().max()
    mine = LRPFx(model).attribute(tokens, 1)
    assert mine.shape == tokens.shape
    assert torch.allclose(mine, expected.sum(-1), atol=1e-12)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("composite", ["attn_lrp", "cp_lrp"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_padding_gets_nothing_and_changes_nothing(
    attention: str, side: str, composite: str
) -> None:
    """A classifier that reads the first word: with a mask, padding is as if it were not there."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(
        **sizes, intermediate_size=32, vocab_size=30, attn_implementation=attention
    )
    inner = transformers.BertModel(config, add_pooling_layer=False)
    for parameter in inner.parameters():
        nn.init.normal_(parameter, std=0.3)

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.place = 2 if side == "left" else 0

        def forward(self, tokens: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Tensor:
            hidden = self.inner(tokens, attention_mask=attention_mask, position_ids=position_ids)
            place = self.place if tokens.shape[1] > 4 else 0
            return hidden.last_hidden_state[:, place]

    model = First().double().eval()
    words = torch.tensor([[7, 12, 3, 20], [9, 9, 14, 5]])
    positions = torch.arange(4).expand(2, 4)
    plain = LRPFx(model, composite).attribute(
        words, 3, {"attention_mask": torch.ones(2, 4).long(), "position_ids": positions}
    )
    padding, ones = torch.zeros(2, 2).long(), torch.ones_like(words)

    def joined(own: Tensor) -> Tensor:
        return torch.cat([own, padding] if side == "right" else [padding, own], 1)

    padded = LRPFx(model, composite).attribute(
        joined(words), 3, {"attention_mask": joined(ones), "position_ids": joined(positions)}
    )
    own = padded[:, :4] if side == "right" else padded[:, 2:]
    rest = padded[:, 4:] if side == "right" else padded[:, :2]
    assert not rest.any()
    assert (own - plain).abs().max() <= EXACT * plain.abs().max()
