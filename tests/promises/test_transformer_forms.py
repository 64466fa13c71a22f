"""A transformer in several forms of code, batches and captures: its relevance is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import distance
from tests.helpers.numbers import numbers
from tests.helpers.transformers import swin, vision_transformer

EXACT, SINGLE = 1e-12, 1e-4
"""Of max |R|: other kernels for another batch size, in float64 and in float32."""
SAME = 1e-10
"""Of max |R|: export splits some operations into others."""


class ByModules(nn.Module):
    """A block whose steps are modules where there are modules for them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act, self.soft = nn.LayerNorm(8), nn.GELU(), nn.Softmax(-1)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(torch.matmul(self.soft(torch.matmul(q, k.transpose(-2, -1)) / 8**0.5), v))
        x = x + self.down(self.act(self.up(x)))
        return self.head(x.mean(1))


class ByFunctions(ByModules):
    """The same in functions."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x, (8,), self.norm.weight, self.norm.bias, self.norm.eps)
        q, k, v = torch.chunk(F.linear(y, self.qkv.weight, self.qkv.bias), 3, -1)
        logits = torch.div(torch.matmul(q, torch.transpose(k, -2, -1)), 8**0.5)
        mixed = torch.matmul(F.softmax(logits, -1), v)
        x = torch.add(x, F.linear(mixed, self.out.weight, self.out.bias))
        hidden = F.gelu(F.linear(x, self.up.weight, self.up.bias))
        x = torch.add(x, F.linear(hidden, self.down.weight, self.down.bias))
        return F.linear(torch.mean(x, 1), self.head.weight, self.head.bias)


class ByMethods(ByModules):
    """The same in methods and operators."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        x = x.add(self.out((q.matmul(k.transpose(-2, -1)) / 8**0.5).softmax(-1).matmul(v)))
        return self.head(x.add(self.down(self.act(self.up(x)))).mean(1))


class InPlace(ByModules):
    """The same, overwriting what nobody reads again."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        logits = torch.matmul(q, k.transpose(-2, -1))
        logits /= 8**0.5
        y = self.out(torch.matmul(logits.softmax(-1), v))
        y = x + y
        z = self.down(self.act(self.up(y)))
        y += z
        return self.head(y.mean(1))


def made(form: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return form().double().eval()


@pytest.mark.parametrize("form", [ByFunctions, ByMethods, InPlace])
@pytest.mark.parametrize("composite", ["attn_lrp", "cp_lrp"])
def test_the_form_of_the_code_changes_nothing(form: type[nn.Module], composite: str) -> None:
    """Bit for bit."""
    x = numbers(2, 5, 8)
    expected = LRPFx(made(ByModules), composite).attribute(x, 1)
    assert torch.equal(LRPFx(made(form), composite).attribute(x, 1), expected)


@pytest.mark.parametrize(("make", "side"), [(vision_transformer, 16), (swin, 32)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_batch_is_many_single_runs(
    make: Callable[[], nn.Module], side: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    model, x = make().to(dtype).eval(), numbers(3, 3, side, side).to(dtype)
    for parameter in model.parameters():
        if not parameter.any():  # such as the head of a new ViT
            nn.init.normal_(parameter, std=0.1)
    lrp = LRPFx(model)
    together = lrp.attribute(x, [0, 1, 2])
    single = torch.cat([lrp.attribute(x[i : i + 1], i) for i in range(3)])
    assert distance(together, single) <= (EXACT if dtype == torch.float64 else SINGLE)


def test_both_captures_give_the_same_relevance() -> None:
    x = numbers(2, 5, 8)
    symbolic = LRPFx(made(ByModules), capture="symbolic").attribute(x, 1)
    exported = LRPFx(made(ByModules), capture="export").attribute(x, 1)
    recorded = LRPFx(made(ByModules), capture="record").attribute(x, 1)
    assert distance(exported, symbolic) <= SAME
    assert distance(recorded, symbolic) <= SAME


class Twice(nn.Module):
    """A block that runs twice, or its copy the second time."""

    def __init__(self, unrolled: bool) -> None:
        super().__init__()
        self.first = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.second = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.second.load_state_dict(self.first.state_dict())
        self.unrolled, self.head = unrolled, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        second = self.second if self.unrolled else self.first
        return self.head(second(self.first(x)).mean(1))


def test_a_reused_block_is_its_unrolled_copy() -> None:
    torch.manual_seed(0)
    reused, x = Twice(unrolled=False).double().eval(), numbers(2, 5, 8)
    unrolled = Twice(unrolled=True).double().eval()
    unrolled.load_state_dict(reused.state_dict())
    mine, expected = (LRPFx(model).attribute(x, 1) for model in (reused, unrolled))
    assert distance(mine, expected) <= EXACT
