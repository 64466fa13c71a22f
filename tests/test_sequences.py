"""Recurrent layers against loops over their steps; tokens, padding; what a packed sequence says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import numbers
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.errors import LRPError

EXACT = 1e-9
"""Of max |R|: loops in another order, ε = 1e-6 in the denominators of several steps."""
EPS = 1e-6


def quotient(relevance: Tensor, z: Tensor) -> Tensor:
    return relevance / (z + torch.where(z < 0, -EPS, EPS).to(z))


class Steps:
    """One layer and direction, step by step, for one sample; relevance by Arras et al. 2017.

    Gates get nothing, the signal takes all, every sum is split by the ε rule.
    """

    def __init__(self, layer: nn.RNNBase, suffix: str) -> None:
        zeros = torch.zeros(layer.weight_ih_l0.shape[0], dtype=torch.float64)
        self.kind = type(layer).__name__
        self.relu = getattr(layer, "nonlinearity", "tanh") == "relu"
        self.w = getattr(layer, f"weight_ih_{suffix}").detach()
        self.u = getattr(layer, f"weight_hh_{suffix}").detach()
        self.b = getattr(layer, f"bias_ih_{suffix}", zeros).detach()
        self.c = getattr(layer, f"bias_hh_{suffix}", zeros).detach()
        self.size = self.u.shape[1]

    def gate(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.w[rows], self.u[rows], self.b[rows], self.c[rows]

    def linear(self, index: int, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        w, u, b, c = self.gate(index)
        return w @ x + b, u @ h + c

    def forward(self, x: Tensor, h: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "RNN":
            z = sum(self.linear(0, x, h))
            return (z.relu() if self.relu else z.tanh()), cell
        if self.kind == "LSTM":
            i, f, g, o = (sum(self.linear(k, x, h)) for k in range(4))
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            return o.sigmoid() * cell.tanh(), cell
        (r, s), (z, v), (p, u) = (self.linear(k, x, h) for k in range(3))
        z, n = (z + v).sigmoid(), (p + (r + s).sigmoid() * u).tanh()
        return (1 - z) * n + z * h, cell

    def back(
        self, x: Tensor, h: Tensor, cell: Tensor, r_h: Tensor, r_cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Relevance of x, h and the cell before the step, from that behind it."""
        if self.kind == "RNN":
            w, u, _, _ = self.gate(0)
            q = quotient(r_h, sum(self.linear(0, x, h)))
            return x * (w.T @ q), h * (u.T @ q), r_cell
        if self.kind == "LSTM":
            i, f, g, _ = (sum(self.linear(k, x, h)) for k in range(4))
            kept, new = f.sigmoid() * cell, i.sigmoid() * g.tanh()
            q = quotient(r_h + r_cell, kept + new)
            signal = quotient(new * q, g)
            w, u, _, _ = self.gate(2)
            return x * (w.T @ signal), h * (u.T @ signal), kept * q
        (r, s), (z, v), (p, hidden) = (self.linear(k, x, h) for k in range(3))
        z, reset = (z + v).sigmoid(), (r + s).sigmoid()
        before = p + reset * hidden
        new, kept = (1 - z) * before.tanh(), z * h
        q = quotient(r_h, new + kept)
        signal = quotient(new * q, before)
        w, u, _, _ = self.gate(2)
        return x * (w.T @ signal), h * (u.T @ (signal * reset)) + kept * q, r_cell


def layer_back(
    steps: Steps,
    xs: list[Tensor],
    r_out: list[Tensor],
    initial: tuple[Tensor, Tensor],
    r_last: Tensor,
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs of a layer over time, and the relevance of its inputs."""
    states = [initial]
    for x in xs:
        states.append(steps.forward(x, *states[-1]))
    r_h, r_cell, found = r_last, torch.zeros_like(initial[1]), []
    for t in reversed(range(len(xs))):
        r_x, r_h, r_cell = steps.back(xs[t], *states[t], r_h + r_out[t], r_cell)
        found.append(r_x)
    return [h for h, _ in states[1:]], found[::-1]


def twin(
    layer: nn.RNNBase, x: Tensor, r_out: Tensor, r_last: Tensor | None, initial: Any
) -> Tensor:
    """The relevance of one sample's sequence (T, D), from that of the outputs and the last states."""
    ways = ["", "_reverse"] if layer.bidirectional else [""]
    count = len(ways)
    zero = torch.zeros(layer.hidden_size, dtype=x.dtype)

    def start(k: int) -> tuple[Tensor, Tensor]:
        if initial is None:
            return zero, zero
        return (initial[0][k], initial[1][k]) if isinstance(initial, tuple) else (initial[k], zero)

    sequences = [list(x)]
    for number in range(layer.num_layers):
        outputs = []
        for d, way in enumerate(ways):
            steps, xs = Steps(layer, f"l{number}{way}"), sequences[-1][:: -1 if d else 1]
            nothing = [zero] * len(xs)
            hs, _ = layer_back(steps, xs, nothing, start(number * count + d), zero)
            outputs.append(hs[:: -1 if d else 1])
        sequences.append([torch.cat(parts) for parts in zip(*outputs, strict=True)])
    relevance = list(r_out)
    for number in reversed(range(layer.num_layers)):
        shares = []
        for d, way in enumerate(ways):
            steps, xs = Steps(layer, f"l{number}{way}"), sequences[number][:: -1 if d else 1]
            mine = [r.chunk(count)[d] for r in relevance][:: -1 if d else 1]
            k = number * count + d
            last = zero if r_last is None else r_last[k]
            _, found = layer_back(steps, xs, mine, start(k), last)
            shares.append(found[:: -1 if d else 1])
        relevance = [sum(parts) for parts in zip(*shares, strict=True)]  # type: ignore[misc]
    return torch.stack(relevance)


class Recurrent(nn.Module):
    """A recurrent layer of which the outputs, or the last hidden states, are read."""

    def __init__(self, layer: nn.RNNBase, reads: str, initial: Any = None) -> None:
        super().__init__()
        self.layer, self.reads, self.initial = layer, reads, initial

    def forward(self, x: Tensor) -> Tensor:
        output, states = self.layer(x, self.initial)
        last = states[0] if isinstance(states, tuple) else states
        return output if self.reads == "output" else last.transpose(0, 1)


KINDS = [
    (nn.LSTM, {}),
    (nn.GRU, {}),
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu"}),
    (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    (nn.LSTM, {"bias": False}),
    (nn.GRU, {"bias": False, "num_layers": 2}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("reads", ["output", "last"])
@pytest.mark.parametrize("propagation", ["direct", "gradient"])
@pytest.mark.parametrize("given", [False, True])
def test_recurrent_layers(
    kind: type[nn.RNNBase], options: dict[str, Any], reads: str, propagation: Any, given: bool
) -> None:
    torch.manual_seed(0)
    layer = kind(3, 4, batch_first=True, **options).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.6)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    initial: Any = None
    if given:
        initial = numbers(count, 2, 4, seed=8)
        initial = (initial, numbers(count, 2, 4, seed=9)) if kind is nn.LSTM else initial
    model, x = Recurrent(layer, reads, initial), numbers(2, 5, 3)
    relevance = numbers(*model(x).shape, seed=1)
    mine = LRPFx(model, start=lambda output: relevance, propagation=propagation).attribute(x)
    nothing = torch.zeros(2, 5, 4 * (2 if layer.bidirectional else 1), dtype=x.dtype)
    for sample in range(2):
        own: Any = initial
        if given:
            own = tuple(s[:, sample] for s in initial) if kind is nn.LSTM else initial[:, sample]
        r_out, r_last = (
            (relevance[sample], None) if reads == "output" else (nothing[sample], relevance[sample])
        )
        expected = twin(layer, x[sample], r_out, r_last, own)
        assert (mine[sample] - expected).abs().max() <= EXACT * expected.abs().max()


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
