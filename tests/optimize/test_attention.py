"""Attention in blocks of queries: the same maps, and no matrix over all pairs of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lrp_fx import LayerLRPFx, LRPFx, Optimizations, composites, rules
from lrp_fx.errors import InputError
from lrp_fx.optimize import query_blocks
from lrp_fx.rules import Stabilizer
from tests.helpers.closeness import ROUNDING, assert_close

TOKENS, WIDTH, HEADS = 23, 12, 3

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As the models of transformers write it: scaled behind the product, with a mask that is added."""
    mask = torch.zeros(q.shape[-2], k.shape[-2], dtype=q.dtype)
    mask = mask.masked_fill(torch.ones_like(mask).triu(1).bool(), torch.finfo(q.dtype).min)
    logits = torch.matmul(q, k.transpose(2, 3)) * q.shape[-1] ** -0.5 + mask
    return torch.matmul(F.softmax(logits, dim=-1).to(q.dtype), v)


def hidden(q: Tensor) -> Tensor:
    """Each token sees all but the third and the fifth."""
    seen = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool)
    seen[:, [2, 4]] = False
    return seen


def biased(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """With a constant bias for distances, which takes a share of the relevance."""
    places = torch.arange(q.shape[-2])
    bias = (places[:, None] - places[None]).abs().to(q.dtype) / -7
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


ATTENDS: dict[str, Attend] = {
    "fused": F.scaled_dot_product_attention,
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=hidden(q)),
    "bias": biased,
    "eager": eager,
    "soft cap": lambda q, k, v: (torch.tanh(q @ k.mT / 5) * 5).softmax(-1) @ v,
    "unscaled, three dimensions": lambda q, k, v: torch.bmm(
        torch.softmax(torch.bmm(q.flatten(0, 1), k.flatten(0, 1).mT), -1), v.flatten(0, 1)
    ).view(v.shape),
    "one key for all heads": lambda q, k, v: (q @ k[:, :1].mT).softmax(-1) @ v,
}


class Reader(nn.Module):
    """Tokens (N, T, C) → scores (N, C)."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        read = self.attend(q, k, v).transpose(1, 2).flatten(2)
        scores: Tensor = self.out(read).mean(1)
        return scores


def reader(attend: Attend) -> Reader:
    torch.manual_seed(0)
    return Reader(attend).double().eval()


def tokens(batch: int = 2, count: int = TOKENS) -> Tensor:
    return torch.randn(
        batch, count, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture(params=[7 * TOKENS, TOKENS, 10**6], ids=["rows", "single rows", "matrices"])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Small matrices run in blocks, too: of a few rows, of one, or of several heads."""
    monkeypatch.setattr(query_blocks, "WHOLE", 0)
    monkeypatch.setattr(query_blocks, "SINGLE", 10**6)
    monkeypatch.setattr(query_blocks, "BLOCK", request.param)
    limit: int = request.param
    return limit


class Largest(TorchDispatchMode):
    """Notes the largest number of entries of a result."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(each, Tensor):
                self.found = max(self.found, each.numel())
        return result


def pair(model: nn.Module, composite: Any = None) -> tuple[LRPFx, LRPFx]:
    """In blocks, and as a whole."""
    kept = LRPFx(model, composite, optimize=Optimizations(blocks=False))
    return LRPFx(model, composite), kept


def names(lrp: LRPFx) -> Iterator[str]:
    return (str(node.target) for node in lrp.graph.nodes if node.op == "call_module")


@pytest.mark.parametrize("composite", [None, "cp_lrp"])
@pytest.mark.parametrize("name", ATTENDS)
def test_blocks_give_the_same_map(name: str, composite: str | None, small_blocks: int) -> None:
    x = tokens()
    blocked, kept = pair(reader(ATTENDS[name]), composite)
    assert_close(blocked.attribute(x, target=1), kept.attribute(x, target=1), ROUNDING)
    assert_close(blocked.attribute(x, target=[0, 2]), kept.attribute(x, target=[0, 2]), ROUNDING)
    assert any(path.endswith("softmax_backward") for path in names(blocked))
    for ours, theirs in zip(
        blocked.attribute_many(x[:1], [0, 1, 2]), kept.attribute_many(x[:1], [0, 1, 2]), strict=True
    ):
        assert_close(ours, theirs, ROUNDING)


@pytest.mark.parametrize("name", ATTENDS)
def test_kept_matrices_give_the_same_map(name: str) -> None:
    """Where the matrices are small, they are kept, as they are without this pass."""
    x = tokens()
    blocked, kept = pair(reader(ATTENDS[name]))
    assert_close(blocked.attribute(x, target=1), kept.attribute(x, target=1), ROUNDING)
    several = blocked.attribute_many(x[:1], [1, 1])  # the first leaves what is kept as it is
    assert torch.equal(*several)


@pytest.mark.parametrize("stabilizer", [0.0, 1e-2])
def test_any_stabilizer(stabilizer: float, small_blocks: int) -> None:
    """The closed form is for ε > 0; with ε = 0 the nodes themselves run in blocks."""
    x = tokens()
    rule = rules.Half(Stabilizer(stabilizer))
    given = composites.AttnLRP().assignments
    composite = composites.Composite(
        [(composites.operation("bilinear"), rule), *given], strict=False
    )
    blocked, kept = pair(reader(ATTENDS["fused"]), composite)
    assert_close(blocked.attribute(x, target=1), kept.attribute(x, target=1), ROUNDING)


def test_encoder_layers_and_their_derivatives(small_blocks: int) -> None:
    """Models of torch's own layers; where autograd records, nothing runs in blocks."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True).double()
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten())
    x = tokens()
    blocked, kept = pair(model.eval())
    assert_close(blocked.attribute(x, target=1), kept.attribute(x, target=1), ROUNDING)
    x.requires_grad_()
    slopes = [
        torch.autograd.grad(each.attribute(x, 1, create_graph=True).square().sum(), x)[0]
        for each in pair(model)
    ]
    assert_close(*slopes, ROUNDING)


@pytest.mark.parametrize("name", ["fused", "causal", "eager"])
def test_no_matrix_over_all_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 tokens the largest value of a call is a block; kept whole, it is all pairs of tokens."""
    count, block = 400, 2**13
    monkeypatch.setattr(query_blocks, "WHOLE", 0)
    monkeypatch.setattr(query_blocks, "BLOCK", block)
    x = tokens(1, count)
    pairs = count * count  # masks over all pairs are the model's own
    found = []
    for lrp in pair(reader(ATTENDS[name])):
        lrp.attribute(x, target=1)
        with Largest() as largest:
            lrp.attribute(x, target=1)
        found.append(largest.found)
    in_blocks, whole = found
    assert whole == HEADS * pairs
    assert in_blocks <= (block if name == "fused" else pairs)


class Weights(nn.Module):
    """Attention whose weights are the output of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(-1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.matmul(self.softmax(q @ k.mT), v)


def test_what_others_read_is_kept(small_blocks: int) -> None:
    """A layer in between, whose relevance is wanted, and a filter inside leave the nodes as they are."""
    model, x = reader(Weights()), tokens()
    layers = [
        LayerLRPFx(model, model.attend.softmax, optimize=optimize).attribute(x, target=1)
        for optimize in (True, Optimizations(blocks=False))
    ]
    assert_close(*layers, ROUNDING)
    filtered = [LRPFx(model, top_k=0.5), LRPFx(model, top_k=0.5, optimize=False)]
    assert_close(*(each.attribute(x, target=1) for each in filtered), ROUNDING)


def test_hooks_get_all_rows(small_blocks: int) -> None:
    """A hook inside gets the relevance of all queries at once, and not that of a block."""
    model, x, shapes = reader(Weights()), tokens(), []

    def largest(relevance: Tensor, step: object) -> Tensor:
        shapes.append(relevance.shape)
        return relevance * (relevance.abs() > relevance.abs().max() / 3)

    maps = []
    for optimize in (Optimizations(), Optimizations(blocks=False)):
        lrp = LRPFx(model, optimize=optimize)
        lrp.register_relevance_hook(nn.Softmax, largest)
        maps.append(lrp.attribute(x, target=1))
    assert shapes == [(2, HEADS, TOKENS, TOKENS)] * 2
    assert_close(*maps, ROUNDING)


def test_recomputed(small_blocks: int) -> None:
    """Attention that is computed again for less memory."""
    x = tokens()
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True).double()
    model = nn.Sequential(nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Flatten())
    lrp = LRPFx(model.eval(), optimize=Optimizations(recompute=True))
    kept = LRPFx(model, optimize=Optimizations(blocks=False))
    assert_close(lrp.attribute(x, target=1), kept.attribute(x, target=1), ROUNDING)


def test_a_row_without_tokens_is_named(small_blocks: int) -> None:
    """A softmax of nothing is named as in the graph without blocks."""

    def nothing_seen(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = (q @ k.mT).masked_fill(torch.eye(q.shape[-2])[:1].bool().mT, -math.inf)
        return logits.softmax(-1) @ v

    with pytest.raises(InputError, match=r"softmax.*every entry is masked"):
        LRPFx(reader(nothing_seen)).attribute(tokens(), target=1)
