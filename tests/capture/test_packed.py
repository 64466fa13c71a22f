"""Packed sequences: each is explained as if it were alone, and padding gets nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lrp_fx import LRPFx

LENGTHS = [1, 3]
ROUNDING = 1e-12
"""Of the same sums in float64."""


class Reader(nn.Module):
    """A classifier of sequences that reads each at its own length.

    Args:
        kind: of the recurrent layer.
        batch_first: whether sequences are the first dimension.
        options: of the layer.
    """

    def __init__(self, kind: type[nn.RNNBase], batch_first: bool, **options: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.layer = kind(3, 4, batch_first=batch_first, **options)
        self.out = nn.Linear(4 * (2 if options.get("bidirectional") else 1), 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if not self.batch_first:
            x = x.transpose(0, 1)
        packed = pack_padded_sequence(x, lengths, self.batch_first, enforce_sorted=False)
        output, states = self.layer(packed)
        last = states[0] if isinstance(states, tuple) else states
        steps, _ = pad_packed_sequence(output, self.batch_first, total_length=4)
        summed = steps.sum(1 if self.batch_first else 0)
        return self.out(summed) + last[-1].sum(-1, keepdim=True)


@pytest.mark.parametrize(
    ("kind", "batch_first", "options"),
    [
        (nn.RNN, True, {}),
        pytest.param(nn.LSTM, True, {"bidirectional": True}, marks=pytest.mark.slow),
        pytest.param(nn.GRU, False, {}, marks=pytest.mark.slow),
    ],
    ids=["plain", "both ways", "time first"],
)
def test_each_sequence_is_explained_at_its_own_length(
    kind: type[nn.RNNBase], batch_first: bool, options: dict[str, bool]
) -> None:
    torch.manual_seed(0)
    model = Reader(kind, batch_first, **options).double()
    x, lengths = torch.randn(2, 3, 3, dtype=torch.float64), torch.tensor(LENGTHS)
    lrp = LRPFx(model, capture="record")
    relevance = lrp.attribute(x, 1, additional_forward_args=(lengths,))
    by_gradient = LRPFx(model, capture="record", propagation="gradient").attribute(
        x, 1, additional_forward_args=(lengths,)
    )
    torch.testing.assert_close(relevance, by_gradient, rtol=0, atol=ROUNDING)
    assert lrp.audit(x, 1, additional_forward_args=(lengths,)).closes()
    for sample, length in enumerate(LENGTHS):
        assert not relevance[sample, length:].any()
        alone = lrp.attribute(
            x[sample : sample + 1, :length],
            1,
            additional_forward_args=(lengths[sample : sample + 1],),
        )
        torch.testing.assert_close(
            relevance[sample : sample + 1, :length], alone, rtol=0, atol=ROUNDING
        )
