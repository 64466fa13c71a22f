"""The shapes of common operations by formula are those that torch computes on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lrp_fx.graph import Packet, aten, on_meta
from lrp_fx.graph.shape_rules import _RULES


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


X, IMAGE, TOKENS = empty(2, 3, 4), empty(2, 6, 9, 8), empty(2, 5, dtype=torch.int64)
MASK, WEIGHT, BIAS = empty(3, 4, dtype=torch.bool), empty(7, 4), empty(7)
HIDDEN = [empty(2, 2, 5), empty(2, 2, 5)]
HEADS = empty(2, 3, 5, 4)
CALLS: list[tuple[Packet, tuple[Any, ...], dict[str, Any]]] = [
    (aten.softmax, (X, -1), {}),
    (aten.softmax, (X, -1, torch.float64), {}),
    (aten.log_softmax, (X, 1), {}),
    (aten.layer_norm, (X, [4]), {}),
    (aten.batch_norm, (IMAGE, *[empty(6)] * 4, False, 0.1, 1e-5, False), {}),
    (aten.group_norm, (IMAGE, 3), {}),
    (aten.cumsum, (X, 1), {}),
    (aten.cumsum, (TOKENS, 1), {}),
    (aten.where, (MASK, X, X), {}),
    (aten.where, (MASK, X, 0.0), {}),
    (aten.where, (MASK, X.double(), X), {}),
    (aten.masked_fill, (X, MASK, 0.0), {}),
    (aten.matmul, (X, empty(4, 6)), {}),
    (aten.matmul, (X, empty(4)), {}),
    (aten.matmul, (empty(5, 1, 2, 4), X.mT), {}),
    (aten.bmm, (X, X.mT), {}),
    (aten.mean, (X, [0, -1]), {}),
    (aten.mean, (X, [1], True), {}),
    (aten.mean, (X,), {}),
    (aten.sum, (X, [1]), {}),
    (aten.sum, (TOKENS, [1]), {}),
    (aten.sum, (MASK,), {}),
    (aten.amax, (X, [-1]), {"keepdim": True}),
    (aten.var, (X, [1]), {"keepdim": True}),
    (aten.var, (X, True), {}),
    (aten.std, (X, [0, -1], 1), {}),
    (aten.prod, (X, 1), {}),
    (aten.norm, (X, 2, [1], True), {}),
    (aten.linalg_vector_norm, (X, 2, [-1]), {"dtype": torch.float64}),
    (aten.logsumexp, (X, [1]), {}),
    (aten.nanmean, (X, [1], True), {}),
    (aten.nansum, (X, [0]), {}),
    (aten.conv1d, (X, empty(5, 3, 2)), {}),
    (aten.conv2d, (IMAGE, empty(4, 3, 3, 2), empty(4), [2, 1], [1, 0], [1, 2], 2), {}),
    (aten.conv2d, (IMAGE, empty(4, 6, 3, 3), None, [1], "same"), {}),
    (aten.max_pool2d, (IMAGE, [3, 2], [2], [1]), {}),
    (aten.max_pool2d, (IMAGE, [2], [], [0], [1], True), {}),
    (aten.avg_pool2d, (IMAGE, [2, 3]), {}),
    (aten.avg_pool1d, (X, [2]), {}),
    (aten.adaptive_avg_pool2d, (IMAGE, [1, 3]), {}),
    (aten.adaptive_avg_pool1d, (X, 1), {}),  # one number for a list
    (aten.max_pool2d, (IMAGE, 3, 2, 1), {}),
    (aten.mean, (X, 1), {}),
    (aten.linear, (X, WEIGHT, BIAS), {}),
    (aten.linear, (X, WEIGHT), {}),
    (aten.linear, (X, empty(4)), {}),
    (aten.addmm, (BIAS, empty(2, 4), WEIGHT.t()), {}),
    (aten.embedding, (WEIGHT, TOKENS), {}),
    (aten.scaled_dot_product_attention, (HEADS, HEADS, HEADS), {}),
    (aten.scaled_dot_product_attention, (HEADS, HEADS, HEADS, empty(5, 5)), {}),
    (aten.cat, ([X, X], -1), {}),
    (aten.cat, ([X, X.double()], 0), {}),
    (aten.stack, ([X, X], -1), {}),
    (aten.index, (X, [None, TOKENS]), {}),
    (aten.index, (X, [TOKENS, TOKENS]), {}),
    (aten.roll, (X, [1], [2]), {}),
    (aten.repeat, (X, [3, 1, 2, 1]), {}),
    (aten.gather, (TOKENS, 1, TOKENS), {}),
    (aten.upsample_bilinear2d, (IMAGE, [4, 5], False, None), {}),
    (aten.upsample_nearest2d, (IMAGE, None, [2.0, 0.5]), {}),
    (
        aten.lstm,
        (X, HIDDEN, [empty(20, 4), empty(20, 5)] * 2, False, 1, 0.0, False, True, True),
        {},
    ),
    (
        aten.gru,
        (X, HIDDEN[0], [empty(15, 4), empty(15, 5)] * 2, False, 1, 0.0, False, True, True),
        {},
    ),
    (aten.relu, (X,), {}),
    (aten.sigmoid, (TOKENS,), {}),
    (aten.add, (X, MASK), {}),
    (aten.add, (TOKENS, 2), {}),
    (aten.add, (TOKENS, 2.5), {}),
    (aten.mul, (X, empty(3, 1)), {}),
    (aten.mul, (X, 1j), {}),
    (aten.add, (X, empty(dtype=torch.float64)), {}),
    (aten.div, (TOKENS, 2), {}),
    (aten.pow, (X, 2), {}),
    (aten.eq, (TOKENS, 0), {}),
    (aten.lt, (X, TOKENS[0, 0]), {}),
    (aten.prelu, (IMAGE, empty(6)), {}),
    (aten.to, (X, torch.float64), {}),
    (aten.isin, (TOKENS, TOKENS[0]), {}),
    (aten.logical_not, (X,), {}),
]


@pytest.mark.parametrize("place", range(len(CALLS)), ids=lambda i: f"{i}-{CALLS[i][0].__name__}")
def test_the_formula_agrees_with_torch(place: int) -> None:
    packet, args, kwargs = CALLS[place]
    mine, theirs = on_meta(packet, args, kwargs), packet(*args, **kwargs)
    pairs = [(mine, theirs)] if isinstance(mine, Tensor) else list(zip(mine, theirs, strict=True))
    for one, other in pairs:
        assert one.is_meta
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


def test_every_rule_is_tested() -> None:
    tested = {str(packet.__name__) for packet, *_ in CALLS}
    same = {"rnn_tanh", "rnn_relu", "instance_norm", "rms_norm", "rsqrt", "mm", "amin"}
    same |= {name for name in _RULES if name.endswith("softmax")}
    dims = {name for name in _RULES if name[-2:] in ("1d", "2d", "3d")}
    assert set(_RULES) - same - dims <= tested


def test_a_call_that_torch_refuses_is_refused() -> None:
    with pytest.raises(RuntimeError):
        on_meta(aten.linear, (X, empty(7, 5)), {})
    with pytest.raises(RuntimeError):
        on_meta(aten.mul, (X, empty(5)), {})
