"""AttnLRP and CP-LRP on ``nn.TransformerEncoderLayer`` against a relevance pass written out step by step.

Here the published formulas stand as they are, one line for each step of the layer, without autograd,
graphs or anything of the library. All ε are zero, so that both sides differ by rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.composites import compat
from lrp_fx.errors import CaptureError
from tests.helpers.closeness import ROUNDING, distance
from tests.helpers.held import relevance_by_hand
from tests.helpers.numbers import numbers
from tests.helpers.transformers import cp_lrp

N, T, D, HEADS = 2, 5, 8, 2
FUTURE = torch.ones(T, T, dtype=torch.bool).triu(1)
PADDED = torch.arange(T) >= torch.tensor([[3], [4]])


def test_shared_heads_are_written_out() -> None:
    """Else the graph would not compute the model, and be read in another way."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.kv = nn.Linear(D, D), nn.Linear(D, D)

        def forward(self, x: Tensor) -> Tensor:
            q = self.q(x).unflatten(-1, (4, -1)).transpose(1, 2)
            k, v = self.kv(x).unflatten(-1, (2, 2, -1)).transpose(1, 3).unbind(2)
            y = nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            return y.flatten(1)

    plan = LRPFx(Shared().double().eval()).plan(numbers(N, T, D))
    assert plan.way == "symbolic"


def additive(mask: Tensor) -> Tensor:
    """A boolean mask in floats."""
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask, -math.inf)


MASKS: dict[str, dict[str, Tensor]] = {
    "none": {},
    "float": {"src_mask": additive(FUTURE)},
    "bool": {"src_mask": FUTURE},
    "padding": {"src_key_padding_mask": PADDED},
    "float padding": {"src_key_padding_mask": additive(PADDED)},
    "both": {"src_mask": FUTURE, "src_key_padding_mask": PADDED},
    "causal": {"src_mask": additive(FUTURE), "is_causal": torch.tensor(True)},
}


class Encoder(nn.Module):
    """One layer and a head; a layer takes ``is_causal`` as a bool, a model here takes tensors."""

    def __init__(self, norm_first: bool, activation: str = "relu") -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            D, HEADS, 12, batch_first=True, activation=activation, norm_first=norm_first
        )
        self.head = nn.Linear(D, 3)

    def forward(
        self,
        x: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: Tensor | None = None,
    ) -> Tensor:
        masks = (src_mask, src_key_padding_mask)
        return self.head(self.layer(x, *masks, is_causal=is_causal is not None).mean(1))


def encoder(norm_first: bool, activation: str = "relu") -> Encoder:
    torch.manual_seed(0)
    model = Encoder(norm_first, activation).double().eval()
    for parameter in model.parameters():
        if parameter.dim() < 2:  # biases, γ and β that do something
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    return model.requires_grad_(False)


# The relevance of each step's input


def through_linear(x: Tensor, layer: nn.Linear, y: Tensor, relevance: Tensor) -> Tensor:
    return x * ((relevance / y) @ layer.weight)


def through_norm(x: Tensor, norm: nn.LayerNorm, y: Tensor, relevance: Tensor) -> Tensor:
    """``x ⊙ (I − 11ᵀ/n) diag(γ/σ) R / y``, the statistic constant."""
    sigma = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    q = norm.weight / sigma * relevance / y
    return x * (q - q.mean(-1, keepdim=True))


def through_heads(
    layer: nn.MultiheadAttention, u: Tensor, mask: Tensor, relevance: Tensor, cp: bool
) -> Tensor:
    """Back through self-attention on ``u``, (N, T, D)."""

    def split(x: Tensor) -> Tensor:
        return x.reshape(N, T, HEADS, D // HEADS).transpose(1, 2)

    def join(x: Tensor) -> Tensor:
        return x.transpose(1, 2).reshape(N, T, D)

    projected = u @ layer.in_proj_weight.T + layer.in_proj_bias
    q, k, v = map(split, projected.chunk(3, -1))
    s = q @ k.mT / math.sqrt(D // HEADS)
    weights = (s + mask).softmax(-1)
    o = weights @ v
    y = layer.out_proj(join(o))
    back = split(through_linear(join(o), layer.out_proj, y, relevance))
    if cp:
        of_q, of_k, of_v = torch.zeros_like(q), torch.zeros_like(k), v * (weights.mT @ (back / o))
    else:
        half = back / (2 * o)
        of_v, of_weights = v * (weights.mT @ half), weights * (half @ v.mT)
        # the logits s + mask get (s + mask) ⊙ (R − w ΣR), of which the mask keeps its part
        of_s = s * (of_weights - weights * of_weights.sum(-1, keepdim=True))
        half = of_s / (2 * s) / math.sqrt(D // HEADS)
        of_q, of_k = q * (half @ k), k * (half.mT @ q)
    arrived = torch.cat([join(of_q), join(of_k), join(of_v)], -1)
    return u * ((arrived / projected) @ layer.in_proj_weight)


def by_hand(model: Encoder, x: Tensor, mask: Tensor, target: int, *, cp: bool) -> Tensor:
    """The relevance of ``x`` (N, T, D)."""
    layer, first = model.layer, model.layer.norm_first
    u = layer.norm1(x) if first else x
    attended = layer.self_attn(u, u, u, attn_mask=mask.expand(N, HEADS, T, T).flatten(0, 1))[0]
    a = x + attended
    b = a if first else layer.norm1(a)
    w = layer.norm2(b) if first else b
    h = layer.linear1(w)
    g = layer.activation(h)
    f = layer.linear2(g)
    c = b + f
    y = c if first else layer.norm2(c)
    mean = y.mean(1)
    output = model.head(mean)
    start = torch.zeros_like(output)
    start[:, target] = output[:, target]
    relevance = through_linear(mean, model.head, output, start)
    relevance = y / T * (relevance / mean)[:, None]
    if not first:
        relevance = through_norm(c, layer.norm2, y, relevance)
    skipped, back = b * relevance / c, f * relevance / c
    back = through_linear(g, layer.linear2, f, back)
    back = through_linear(w, layer.linear1, h, back)
    relevance = skipped + (through_norm(b, layer.norm2, w, back) if first else back)
    if not first:
        relevance = through_norm(a, layer.norm1, b, relevance)
    skipped, back = x * relevance / a, attended * relevance / a
    back = through_heads(layer.self_attn, u, mask, back, cp)
    return skipped + (through_norm(x, layer.norm1, u, back) if first else back)


def whole_mask(masks: dict[str, Tensor]) -> Tensor:
    """All masks as one in floats, (N or 1, 1, T or 1, T)."""
    total = torch.zeros(1, 1, T, T, dtype=torch.float64)
    for name, mask in masks.items():
        if name != "is_causal":
            floats = additive(mask) if mask.dtype == torch.bool else mask
            total = total + (floats[:, None, None] if "padding" in name else floats)
    return total


@pytest.mark.parametrize("method", ["attn_lrp", "cp_lrp"])
@pytest.mark.parametrize(("norm_first", "activation"), [(False, "relu"), (True, "gelu")])
@pytest.mark.parametrize("masks", MASKS)
def test_a_layer_step_by_step(masks: str, norm_first: bool, activation: str, method: str) -> None:
    """Both orders of the norms under every mask; and the ledger closes, also where a mask is −∞."""
    check(encoder(norm_first, activation), masks, method, capture="record")


@pytest.mark.parametrize("method", ["attn_lrp", "cp_lrp"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("masks", MASKS)
def test_the_two_references_agree(masks: str, norm_first: bool, method: str) -> None:
    """The steps by hand, and input × gradient with parts held constant: neither knows the other."""
    model, x, cp = encoder(norm_first), numbers(N, T, D), method == "cp_lrp"
    expected = by_hand(model, x, whole_mask(MASKS[masks]), 1, cp=cp)
    held = relevance_by_hand(
        model, x, 1, lambda logits: logits, constant_attention=cp, **MASKS[masks]
    )
    assert distance(held, expected) <= ROUNDING


@pytest.mark.parametrize("engine", ["direct", "gradient"])
@pytest.mark.parametrize(("norm_first", "activation"), [(False, "gelu"), (True, "relu")])
def test_a_layer_as_it_is_read_by_default(norm_first: bool, activation: str, engine: Any) -> None:
    """Recording is quick; what is taken by default is exported. And both engines."""
    check(encoder(norm_first, activation), "both", "attn_lrp", capture="auto", propagation=engine)


def check(model: Encoder, masks: str, method: str, **options: Any) -> None:
    """The library against the steps by hand."""
    x, cp, given = numbers(N, T, D), method == "cp_lrp", MASKS[masks]
    lrp = LRPFx(model, cp_lrp() if cp else compat.attnlrp(), **options)
    expected = by_hand(model, x, whole_mask(given), 1, cp=cp)
    assert distance(lrp.attribute(x, 1, given), expected) <= ROUNDING
    assert lrp.audit(x, 1, given).closes()


# torch's fast path


@contextmanager
def without_fast_path() -> Iterator[None]:
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def stack() -> nn.Module:
    """Two layers, of which nn.TransformerEncoder sets padded tokens to zero on its fast path."""

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(D, HEADS, 12, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(D, 3)

        def forward(self, x: Tensor, padding: Tensor) -> Tensor:
            return self.head(self.encoder(x, src_key_padding_mask=padding).mean(1))

    torch.manual_seed(0)
    return Stack().double().eval()


TWO_OUTPUTS = r"has two outputs .* '{}' \(nn.{}\) takes a fast path .*set_fastpath_enabled\(False\)"


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_float_mask_that_the_fast_path_misreads(norm_first: bool) -> None:
    """Any other value than 0 hides a token there, so the model is not what its code says.

    The user is told; with the fast path switched off, the layer is explained like any other.
    """
    model, x, mask = encoder(norm_first), numbers(N, T, D), numbers(T, T, seed=5)
    with pytest.raises(CaptureError, match=TWO_OUTPUTS.format("layer", "TransformerEncoderLayer")):
        LRPFx(model, compat.attnlrp()).attribute(x, 1, (mask,))
    with without_fast_path():
        lrp = LRPFx(model, compat.attnlrp(), capture="record")
        expected = by_hand(model, x, mask, 1, cp=False)
        assert distance(lrp.attribute(x, 1, (mask,)), expected) <= ROUNDING
        assert lrp.audit(x, 1, (mask,)).closes()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_padded_tokens_that_the_fast_path_sets_to_zero() -> None:
    """Where the model reads them, its output depends on the path, which is by nested tensors."""
    model, x = stack(), numbers(N, T, D)
    with pytest.raises(CaptureError, match=TWO_OUTPUTS.format("encoder", "TransformerEncoder")):
        LRPFx(model).attribute(x, 1, (PADDED,))
    with without_fast_path():
        lrp = LRPFx(model, compat.attnlrp(), capture="record")
        lrp.attribute(x, 1, (PADDED,))
        assert distance(lrp.explained_output(x, (PADDED,)), model(x, PADDED).detach()) <= ROUNDING
        assert lrp.audit(x, 1, (PADDED,)).closes()
