"""What the canonical graph makes of single values, and that it still computes them.

Each case is a function of the input ``x`` and of a module ``m`` that holds constants, the shape of
``x``, and the names of the operations that remain.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lrp_fx.canonize.pipeline import canonize
from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.reading import read
from lrp_fx.capture.running import run_model
from lrp_fx.graph import name_of
from tests.helpers.canonical import canonical, operations
from tests.helpers.numbers import numbers

Function = Callable[["Held", Tensor], Tensor]


class Held(nn.Module):
    """A function, and the constants that it may read."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        for name, shape in {
            "w": (5,),
            "W": (5, 5),
            "T": (3, 5),
            "K": (3, 4, 5),
            "C": (4, 5),
        }.items():
            setattr(self, name, nn.Parameter(numbers(*shape, seed=len(name + name) + len(shape))))
        self.register_buffer("mask", torch.tensor([True, False, True, True, False]))
        self.register_buffer("single", numbers(5).float())
        self.linear = nn.Linear(5, 5)
        self.double().eval()
        self.single = self.single.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.float64)


tensordot = torch.ops.aten.tensordot


def share(e: Tensor) -> Tensor:
    return e / e.sum(-1, keepdim=True)


LINE, ROWS, CUBE = (4, 5), (2, 4, 5), (2, 3, 4, 5)
CASES: dict[str, tuple[Function, tuple[int, ...], str]] = {
    # sigmoids and signs
    "twice logsumexp": (
        lambda m, x: torch.sub(x, x.logsumexp(-1, True), alpha=2),
        LINE,
        "logsumexp sub",
    ),
    "log_softmax": (lambda m, x: x - x.logsumexp(-1, True), LINE, "log_softmax"),
    "expm1 and another number": (
        lambda m, x: 3 * torch.expm1(m.linear(x)) + 2,
        LINE,
        "linear expm1 mul add",
    ),
    "expm1 and its number": (lambda m, x: 3 * torch.expm1(m.linear(x)) + 3, LINE, "linear exp mul"),
    "exp times a value / (1 + exp)": (
        lambda m, x: x.exp() * m.linear(x) / (1 + x.exp()),
        LINE,
        "linear sigmoid mul",
    ),
    "exp times a value / another": (
        lambda m, x: x.exp() * m.linear(x) / (1 + m.linear(x).exp()),
        LINE,
        "exp linear mul mul linear sigmoid mul mul",
    ),
    "-softsign": (lambda m, x: -(x / (1 + x.abs())), LINE, "neg abs add div"),
    "-quotient": (lambda m, x: -(x / (2 + x.abs())), LINE, "abs add div neg"),
    "number / exp": (lambda m, x: 3 / m.linear(x).exp(), LINE, "mul mul linear exp mul"),
    "number / gate": (
        lambda m, x: 3 / m.linear(x).sigmoid(),
        LINE,
        "linear sigmoid reciprocal mul",
    ),
    "two less a gate": (
        lambda m, x: 2 - 3 * m.linear(x).sigmoid(),
        LINE,
        "mul mul linear sigmoid mul add",
    ),
    "two and a gate": (lambda m, x: 2 + 3 * m.linear(x).sigmoid(), LINE, "linear sigmoid mul add"),
    "one less a gate, and a value": (
        lambda m, x: x - m.linear(x).sigmoid() + 1,
        LINE,
        "mul mul linear sigmoid add",
    ),
    "tanh by a gate, and a value": (
        lambda m, x: 2 * m.linear(x).sigmoid() + x - 1,
        LINE,
        "linear mul tanh add",
    ),
    "tanh, a value and one": (lambda m, x: m.linear(x).tanh() + x + 1, LINE, "linear tanh add add"),
    "exp, a value and minus one": (
        lambda m, x: m.linear(x).exp() + x - 1,
        LINE,
        "linear expm1 add",
    ),
    "exp, a value and minus two": (
        lambda m, x: m.linear(x).exp() + x - 2,
        LINE,
        "linear exp add sub",
    ),
    "clamp, a value and its number": (
        lambda m, x: F.relu6(m.linear(x) + 3) + x - 3,
        LINE,
        "linear mul hardtanh mul add",
    ),
    "two functions, one number": (
        lambda m, x: m.linear(x).sigmoid() + x.tanh() + 1,
        LINE,
        "linear sigmoid tanh add add",
    ),
    "two exponentials less two": (
        lambda m, x: m.linear(x).exp() + x.exp() - 2,
        LINE,
        "linear expm1 expm1 add",
    ),
    "share times a value": (
        lambda m, x: x.exp() * m.C / x.exp().sum(-1, True),
        LINE,
        "softmax mul",
    ),
    "softplus, read twice": (
        lambda m, x: (lambda y: -y + y * x)(F.softplus(m.linear(x))),
        LINE,
        "linear softplus add mul",
    ),
    "signs before views": (
        lambda m, x: -m.linear(x).tanh().unsqueeze(1),
        LINE,
        "mul mul linear tanh unsqueeze",
    ),
    "views without signs": (
        lambda m, x: 2 * m.linear(x).tanh().unsqueeze(1),
        LINE,
        "linear tanh unsqueeze mul",
    ),
    # softmaxes
    "masked share": (
        lambda m, x: share(torch.where(m.mask, x.exp(), 0.0)),
        LINE,
        "eq masked_fill softmax",
    ),
    "masked share, turned round": (
        lambda m, x: share(torch.where(m.mask, 0.0, x.exp())),
        LINE,
        "masked_fill softmax",
    ),
    "share of exp or two": (
        lambda m, x: share(torch.where(m.mask, x.exp(), 2.0)),
        LINE,
        "exp where sum div",
    ),
    "share of one or exp": (
        lambda m, x: share(torch.where(m.mask, 1.0, x.exp())),
        LINE,
        "exp where sum div",
    ),
    "share of two exponentials": (
        lambda m, x: share(x.exp() * (x * m.w).exp()),
        LINE,
        "exp mul exp mul sum div",
    ),
    "share with a prior": (lambda m, x: share(x.exp() * m.w.exp()), LINE, "add softmax"),
    "shifted by another maximum": (
        lambda m, x: (x - (x * m.w).amax(-1, True)).softmax(-1),
        LINE,
        "mul amax sub softmax",
    ),
    "shifted by its maximum": (lambda m, x: (x - x.amax(-1, True)).softmax(-1), LINE, "softmax"),
    "shifted along another dimension": (
        lambda m, x: (x - x.amax(1, True)).softmax(-1),
        ROWS,
        "amax sub softmax",
    ),
    # pieces
    "slice of another dimension than the pad's": (
        lambda m, x: F.pad(x, (1, 1))[:, 1:],
        ROWS,
        "pad slice",
    ),
    "slice of a pad": (lambda m, x: F.pad(x, (1, 1))[:, :, 1:-1], ROWS, ""),
    "slice of a pad, one further": (lambda m, x: F.pad(x, (1, 1))[:, :, 2:], ROWS, "pad slice"),
    "slice of a pad on both": (lambda m, x: F.pad(x, (1, 1, 2, 0), value=1.0)[:, 2:], ROWS, "pad"),
    # sums
    "sum of a stack": (
        lambda m, x: torch.stack([m.linear(x), x.exp()]).sum(0),
        LINE,
        "linear exp stack sum",
    ),
    "sum of a stack in float32": (
        lambda m, x: torch.stack([m.linear(x), x.exp()]).sum(0, dtype=torch.float32),
        LINE,
        "linear exp stack sum",
    ),
    "sum of a stack, kept": (
        lambda m, x: torch.stack([m.linear(x), x.exp()]).sum(0, True),
        LINE,
        "linear exp stack sum",
    ),
    "sum of a stack along another": (
        lambda m, x: torch.stack([x, x.exp()]).sum(1),
        LINE,
        "exp stack sum",
    ),
    "a stack read twice": (
        lambda m, x: (lambda s: s.sum(0) + s[0])(torch.stack([x, x.exp()])),
        LINE,
        "exp stack sum add",
    ),
    # scales
    "rounded quotient": (
        lambda m, x: torch.div(m.linear(x), 2.0, rounding_mode="floor"),
        LINE,
        "linear div",
    ),
    "quotient": (lambda m, x: m.linear(x) / 2.0, LINE, "linear div"),
    "constant / layer": (lambda m, x: m.w / m.linear(x), LINE, "linear div"),
    "layer / constant": (
        lambda m, x: m.linear(x) / m.w,
        LINE,
        "reciprocal reshape mul reshape mul linear",
    ),
    "constant - layer": (lambda m, x: m.w - m.linear(x), LINE, "mul mul reshape add linear"),
    "layer - twice a constant": (
        lambda m, x: torch.sub(m.linear(x), m.w, alpha=2),
        LINE,
        "mul reshape add linear",
    ),
    "twice a layer": (
        lambda m, x: torch.add(m.w, m.linear(x), alpha=2),
        LINE,
        "mul mul reshape add linear",
    ),
    "rsub": (
        lambda m, x: torch.rsub(m.linear(x), m.w, alpha=2),
        LINE,
        "mul mul reshape add linear",
    ),
    "-2 layer": (lambda m, x: -2 * m.linear(x), LINE, "mul mul linear mul"),
    "-2 layer, shifted": (lambda m, x: -2 * m.linear(x) + m.w, LINE, "mul mul reshape add linear"),
    "layer by its own": (lambda m, x: (lambda y: y / y)(m.linear(x)), LINE, "linear div"),
    "layer of a row scaled": (
        lambda m, x: (m.C @ x.mT) * m.T[0, :4, None],
        ROWS,
        "mT select slice unsqueeze mul product",
    ),
    "layer of a row scaled by columns": (
        lambda m, x: (m.C @ x.mT) * m.w[:4],
        ROWS,
        "mT product slice mul",
    ),
    "rounded quotient by a constant": (
        lambda m, x: torch.div(m.linear(x), m.w, rounding_mode="floor"),
        LINE,
        "linear div",
    ),
    "quotient by zero": (lambda m, x: m.linear(x) / 0, LINE, "linear div"),
    "number / layer": (lambda m, x: 2.0 / m.linear(x), LINE, "linear reciprocal mul"),
    "layer twice": (lambda m, x: (lambda y: y * y)(m.linear(x)), LINE, "linear mul"),
    # factors
    "powers of numbers": (lambda m, x: 2**x + 3 * 2**x, LINE, "mul exp mul exp mul add"),
    "powers of negative numbers": (lambda m, x: (-2.0) ** x.round(), LINE, "round pow"),
    "whole powers": (lambda m, x: 2 ** x.round().to(torch.int64), LINE, "round to pow"),
    "gate - rounded quotient": (
        lambda m, x: m.linear(x) * x + torch.div(x * m.linear(x), x.exp(), rounding_mode="floor"),
        LINE,
        "linear mul linear mul exp div add",
    ),
    "constant less gated": (lambda m, x: m.w - m.w * x.sigmoid(), LINE, "neg sigmoid mul"),
    "constant less other gated": (
        lambda m, x: m.w - 2 * m.w * x.sigmoid(),
        LINE,
        "mul sigmoid mul sub",
    ),
    "two constants less gated": (
        lambda m, x: m.w - m.w * x.sigmoid() - m.w * (2 * x).sigmoid(),
        LINE,
        "mul sigmoid neg sigmoid mul mul mul add",
    ),
    "constant less tanh gate": (
        lambda m, x: m.w - m.w * x.softmax(-1),
        LINE,
        "softmax mul add mul",
    ),
    "constant less other": (
        lambda m, x: m.w - m.w.exp() * x.sigmoid(),
        LINE,
        "exp sigmoid mul sub",
    ),
    "blend with a number": (
        lambda m, x: x + x.sigmoid() * (m.linear(x) - x + 1),
        LINE,
        "sigmoid linear sub add mul add",
    ),
    "blend by a constant mask": (
        lambda m, x: x + m.mask * (m.linear(x) - x),
        LINE,
        "to mul add mul reshape mul reshape mul linear add",
    ),
    "blend by a constant sigmoid": (
        lambda m, x: x + m.w.sigmoid() * (m.linear(x) - x),
        LINE,
        "sigmoid neg sigmoid mul reshape mul reshape mul linear add",
    ),
    "blend by a constant": (lambda m, x: x + m.w * (m.linear(x) - x), LINE, "linear sub mul add"),
    "blend with negative": (
        lambda m, x: x.sigmoid() * (-m.linear(x) - x) + x,
        LINE,
        "sigmoid linear neg sigmoid mul mul mul add",
    ),
    "1 / a + 1 / a - b / a": (
        lambda m, x: 1 / x.exp() + 1 / x.exp() - m.linear(x) / x.exp(),
        LINE,
        "neg exp linear exp div mul mul add",
    ),
    "a (number / b) + a": (
        lambda m, x: x * (0.5 / (1 + x * x)) + x,
        LINE,
        "mul add reciprocal mul add mul",
    ),
    "gates alone": (
        lambda m, x: x.sigmoid() * (2 * x).sigmoid() + x.sigmoid(),
        LINE,
        "sigmoid mul sigmoid mul sigmoid add",
    ),
    # products
    "summed product": (lambda m, x: (x * m.w).sum(-1), LINE, "reshape product"),
    "summed product, kept": (
        lambda m, x: (x * m.C).sum((1, 2), True),
        ROWS,
        "reshape product unsqueeze unsqueeze",
    ),
    "mean of a product": (lambda m, x: (x * m.w).mean(-1), LINE, "reshape product div"),
    "product summed in float32": (
        lambda m, x: (x * m.w).sum(-1, dtype=torch.float32),
        LINE,
        "mul sum",
    ),
    "whole product summed": (lambda m, x: (x * m.w).sum(), LINE, "mul sum"),
    "product summed over another": (lambda m, x: (x * m.w).sum(1), ROWS, "mul sum"),
    "product summed over both": (lambda m, x: (x * m.w).sum((1, 2)), ROWS, "mul sum"),
    "product with float32": (lambda m, x: (x * m.single).sum(-1), LINE, "reshape to product"),
    "product of float32": (lambda m, x: (x.float() * m.w).sum(-1), LINE, "to mul sum"),
    "counts times weights": (
        lambda m, x: (x.round().to(torch.int64) * m.w).sum(-1),
        LINE,
        "round to mul sum",
    ),
    "spread and summed": (
        lambda m, x: (x[:, None] * m.T).sum(-1),
        LINE,
        "unsqueeze squeeze reshape linear",
    ),
    "spread, summed over the new": (
        lambda m, x: (x[:, None] * m.T).sum(1),
        LINE,
        "unsqueeze reshape squeeze product sum",
    ),
    "more dimensions": (lambda m, x: (x * m.K).sum(-1), LINE, "mul sum"),
    "spread": (lambda m, x: x[:, :, None] * m.w, (4, 3), "unsqueeze reshape unsqueeze linear"),
    "spread, each": (lambda m, x: x[:, None] * m.T, LINE, "unsqueeze reshape squeeze product"),
    "spread by quotients": (
        lambda m, x: x[:, None] / m.T,
        LINE,
        "unsqueeze reshape reciprocal squeeze product",
    ),
    "spread along the batch": (lambda m, x: x * m.C, (1, 5), "mul"),
    "spread to more dimensions": (lambda m, x: x * m.K, LINE, "mul"),
    "spread of whole numbers": (
        lambda m, x: x.round().to(torch.int64)[:, :, None] * m.mask,
        (4, 3),
        "round to unsqueeze mul",
    ),
    "spread in float32": (
        lambda m, x: x.float()[:, :, None] * m.single,
        (4, 3),
        "to unsqueeze reshape unsqueeze linear",
    ),
    # matrices
    "x @ W": (lambda m, x: x @ m.W, LINE, "t linear"),
    "W @ x": (lambda m, x: m.C @ x.mT, ROWS, "mT product"),
    "x @ ones": (lambda m, x: x @ ones(5, 1), LINE, "sum mul"),
    "x @ two columns of ones": (lambda m, x: x @ ones(5, 2), LINE, "full product"),
    "x @ a vector of ones": (lambda m, x: x @ ones(5), LINE, "full product"),
    "bmm": (lambda m, x: torch.bmm(x, m.W.expand(2, -1, -1)), ROWS, "t linear"),
    "bmm, unsqueezed": (lambda m, x: torch.bmm(x, m.W[None].expand(2, -1, -1)), ROWS, "t linear"),
    "bmm, expanded otherwise": (
        lambda m, x: torch.bmm(x, m.W[:, None].expand(-1, 2, -1).transpose(0, 1)),
        ROWS,
        "unsqueeze expand transpose product",
    ),
    "bmm with an expanded row": (
        lambda m, x: torch.bmm(x, m.w[:, None].expand(2, 5, 3)),
        ROWS,
        "unsqueeze expand product",
    ),
    "bmm by ones": (lambda m, x: torch.bmm(x, ones(2, 5, 1)), ROWS, "full product"),
    "bmm with another matrix each": (
        lambda m, x: torch.bmm(x, m.K[:2].mT),
        ROWS,
        "slice mT product",
    ),
    "inner": (lambda m, x: torch.inner(x, m.T), LINE, "linear"),
    "inner, the constant first": (lambda m, x: torch.inner(m.T, x), LINE, "product"),
    "inner with a vector": (lambda m, x: torch.inner(x, m.w), LINE, "product"),
    "inner of two": (lambda m, x: torch.inner(x, x.exp()), LINE, "exp einsum"),
    "tensordot": (lambda m, x: tensordot(x, m.T, [1], [1]), LINE, "linear"),
    "tensordot over the first": (lambda m, x: tensordot(x, m.T, [1], [0]), (4, 3, 2), "product"),
    "tensordot over two": (lambda m, x: tensordot(x, m.C, [1, 2], [0, 1]), ROWS, "product"),
    "tensordot over two, turned": (lambda m, x: tensordot(x, m.K, [2, 1], [2, 1]), ROWS, "product"),
    "tensordot, the constant first": (lambda m, x: tensordot(m.K, x, [2], [1]), LINE, "product"),
    "tensordot with many": (lambda m, x: tensordot(x, m.K, [1], [2]), LINE, "product"),
    "tensordot of two": (lambda m, x: tensordot(x, x.exp(), [1], [1]), LINE, "exp einsum"),
    "tensordot over none": (
        lambda m, x: tensordot(x, m.w, [], []),
        LINE,
        "unsqueeze reshape unsqueeze linear",
    ),
    "addmm": (lambda m, x: torch.addmm(m.w, x, m.W), LINE, "t linear"),
    "addmm, scaled": (
        lambda m, x: torch.addmm(m.w, x, m.W, alpha=2, beta=3),
        LINE,
        "t mul mul reshape expand linear",
    ),
    "addmm, matrix added": (lambda m, x: torch.addmm(m.C, x, m.W), LINE, "t linear mul add"),
    "addmm of two": (lambda m, x: torch.addmm(m.w, x, x.mT @ x), LINE, "mT matmul mm mul mul add"),
    "addmm, the value added": (lambda m, x: torch.addmm(x, m.C, m.W), LINE, "mm mul mul add"),
    "baddbmm": (
        lambda m, x: torch.baddbmm(m.w, x, m.W.expand(2, -1, -1), alpha=2, beta=3),
        ROWS,
        "t mul mul reshape expand linear",
    ),
    # others
    "sum with a size": (
        lambda m, x: torch.add(x.exp(), x, alpha=x.shape[0]) + x.tanh(),
        LINE,
        "exp getattr getitem mul add tanh add",
    ),
    "shift times a size": (
        lambda m, x: torch.add(m.linear(x), m.w, alpha=x.shape[0]),
        LINE,
        "linear getattr getitem mul add",
    ),
    "number first": (lambda m, x: torch.full_like(x, 2.0) + x.exp() + x, LINE, "exp add add"),
    "blend with a reciprocal": (
        lambda m, x: x.sigmoid() * (m.linear(x) + (-x).tanh()) + 1 / x.tanh(),
        LINE,
        "sigmoid linear neg tanh add mul tanh reciprocal mul add",
    ),
    "nothing left": (lambda m, x: x * x.exp() - x * x.exp(), LINE, "exp mul exp mul sub"),
    "gated twice": (
        lambda m, x: x * (2 * x).sigmoid() + x * (3 * x).sigmoid(),
        LINE,
        "mul sigmoid mul mul sigmoid mul add",
    ),
    "scaled and added": (lambda m, x: x * m.w + x, LINE, "mul add"),
    "divided by a number / value": (
        lambda m, x: x / (2.0 / x.exp()) + x,
        LINE,
        "neg exp mul div add",
    ),
    "blend with a half": (
        lambda m, x: x + x.sigmoid() * (0.5 * x.exp() - x),
        LINE,
        "sigmoid exp neg sigmoid mul mul mul add",
    ),
    "blend with less": (
        lambda m, x: x + x.sigmoid() * (-0.5 * x.exp() - x),
        LINE,
        "sigmoid exp neg sigmoid mul mul mul mul add",
    ),
    "bmm with a row each": (
        lambda m, x: torch.bmm(x, m.W[:, None].expand(5, 5, 5)),
        (5, 4, 5),
        "unsqueeze expand product",
    ),
    "bmm with an expanded batch": (
        lambda m, x: torch.bmm(x, m.K[:1].expand(2, -1, -1)),
        (2, 3, 4),
        "slice expand product",
    ),
    "filled": (lambda m, x: torch.fill(x, 2.0) + x, LINE, "add"),
    "filled with a value": (
        lambda m, x: torch.fill(x, x[0, 0]) + x,
        LINE,
        "select select expand_as add",
    ),
    "copied": (lambda m, x: torch.ops.aten.copy(x, x[:1].exp()), LINE, "slice exp expand_as"),
    "spread of nothing": (lambda m, x: x[:, :, None] * 1.5, (4, 3), "unsqueeze mul"),
    "spread gate": (lambda m, x: x.sigmoid()[:, :, None] * m.w, (4, 3), "sigmoid unsqueeze mul"),
    "added columns": (
        lambda m, x: (x @ F.pad(m.W, (0, 1), value=1.0))[:, -1:],
        LINE,
        "pad t linear slice",
    ),
    "shifted by its own part": (
        lambda m, x: (x - x.max(-1, True)[0]).log_softmax(-1),
        LINE,
        "log_softmax",
    ),
    "share of deep masks": (
        lambda m, x: share(x.exp() * m.mask * m.mask * m.mask * m.mask),
        LINE,
        "exp to mul to mul to mul to mul sum div",
    ),
    "share of triangles": (
        lambda m, x: share(x.exp().tril()),
        LINE,
        "ones_like tril eq masked_fill softmax",
    ),
    "share of whole numbers": (
        lambda m, x: share(x.exp().masked_fill(m.mask, 1.0)),
        LINE,
        "exp masked_fill sum div",
    ),
    # look-ups
    "one_hot": (
        lambda m, x: F.one_hot(x.abs().to(torch.int64), 5).double() @ m.W,
        LINE,
        "abs to embedding",
    ),
    "one_hot with a bias": (
        lambda m, x: F.linear(F.one_hot(x.abs().to(torch.int64), 5).double(), m.W, m.w),
        LINE,
        "abs to t embedding add",
    ),
    "one_hot, summed": (
        lambda m, x: F.one_hot(x.abs().to(torch.int64), 5).double().sum(1) @ m.W,
        LINE,
        "abs to embedding sum",
    ),
    "one_hot, halved": (
        lambda m, x: (F.one_hot(x.abs().to(torch.int64), 5) / 2).double() @ m.W,
        LINE,
        "abs to embedding mul",
    ),
    "one_hot, summed up": (
        lambda m, x: F.one_hot(x.abs().to(torch.int64), 5).double().sum(-1) @ m.W,
        LINE,
        "abs to one_hot to sum t linear",
    ),
    "one_hot, all summed": (
        lambda m, x: F.one_hot(x.abs().to(torch.int64), 5).double().sum((0, 1)) @ m.W,
        LINE,
        "abs to embedding sum",
    ),
    # dropout
    "unsqueezed elsewhere": (
        lambda m, x: torch.bmm(x, m.W[:1].unsqueeze(2).expand(2, -1, 3)[:, :1].expand(2, 5, 3)),
        ROWS,
        "slice unsqueeze expand slice expand product",
    ),
    "dropout of nothing": (lambda m, x: F.dropout(x, 0.0, True).relu(), LINE, "relu"),
    "native dropout": (lambda m, x: torch.native_dropout(x, 0.5, False)[0].relu(), LINE, "relu"),
    "both of native dropout": (
        lambda m, x: (lambda both: both[0].relu() * both[1])(torch.native_dropout(x, 0.5, False)),
        LINE,
        "relu",
    ),
}
WITHOUT = {
    "clamp, a value and its number": "linear hardtanh add",
    "number first": "full_like exp add add",
    "filled": "full_like add",
    "share of deep masks": "exp mul mul mul mul sum div",
    "slice of a pad": "pad slice",
    "slice of a pad on both": "pad slice",
    "a stack read twice": "exp stack sum select add",
    "blend by a constant mask": "linear mul add mul mul add",
    "summed product": "mul sum",
    "summed product, kept": "mul sum",
    "mean of a product": "mul mean",
    "product with float32": "mul sum",
    "spread and summed": "unsqueeze mul sum",
    "spread, summed over the new": "unsqueeze mul sum",
    "spread": "unsqueeze mul",
    "spread, each": "unsqueeze mul",
    "spread by quotients": "unsqueeze div",
    "spread in float32": "to unsqueeze mul",
    "inner": "permute reshape linear",
    "inner, the constant first": "permute reshape linear movedim",
    "inner with a vector": "permute reshape linear squeeze",
    "inner of two": "exp inner",
    "tensordot": "permute reshape movedim linear",
    "tensordot over the first": "permute reshape movedim linear",
    "tensordot over two": "permute reshape movedim flatten linear squeeze",
    "tensordot over two, turned": "permute reshape movedim flatten linear",
    "tensordot, the constant first": "permute reshape movedim linear unflatten movedim",
    "tensordot with many": "permute reshape movedim linear unflatten",
    "tensordot of two": "exp tensordot",
    "tensordot over none": "tensordot",
    "one_hot, summed": "abs to one_hot to sum t linear",
    "one_hot, all summed": "abs to one_hot to sum t linear",
    "both of native dropout": "ones_like relu mul",
}
"""What remains where no example input shows the shapes of values, if it is something else."""


def model(name: str) -> Held:
    torch.manual_seed(0)
    return Held(CASES[name][0])


def check(graph: Captured, name: str, remaining: str) -> None:
    assert " ".join(operations(graph)) == remaining
    x = numbers(*CASES[name][1])
    torch.testing.assert_close(graph.module(x)[0], model(name)(x), equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_with_an_example(name: str) -> None:
    check(canonical(model(name), numbers(*CASES[name][1])), name, CASES[name][2])


@pytest.mark.parametrize("name", [name for name in CASES if name != "whole powers"])
def test_without_an_example(name: str) -> None:
    form = Arguments.of((torch.empty(0),))
    captured = read(model(name), Arguments((), form.constants, form.spec), "symbolic")
    check(canonize(captured), name, WITHOUT.get(name, CASES[name][2]))


attention = F.scaled_dot_product_attention
LAYERS: dict[str, tuple[Function, str]] = {
    "attention": (lambda m, x: attention(x, m.linear(x), x.exp()), "softmax"),
    "attention with a scale": (
        lambda m, x: attention(x, m.linear(x), x.exp(), scale=0.3),
        "softmax",
    ),
    "attention with weights added": (
        lambda m, x: attention(x, m.linear(x), x.exp(), m.W[:4, :4]),
        "_safe_softmax",
    ),
    "attention behind a mask": (
        lambda m, x: attention(x, m.linear(x), x.exp(), m.mask[:4]),
        "_safe_softmax",
    ),
    "causal attention": (
        lambda m, x: attention(x, m.linear(x), x.exp(), is_causal=True),
        "masked_fill",
    ),
    "attention of grouped queries": (
        lambda m, x: attention(
            x[:, :, None], x[:, :2, None].exp(), x[:, 2:, None], enable_gqa=True
        ),
        "repeat_interleave",
    ),
    "LSTM cell": (
        lambda m, x: sum(
            torch.lstm_cell(x[0], (x[1], x[1].exp()), *[m.W.repeat(4, 1)] * 2, *[m.w.repeat(4)] * 2)
        ),
        "lstm",
    ),
    "GRU cell": (
        lambda m, x: torch.gru_cell(
            x[0], x[1], *[m.W.repeat(3, 1)] * 2, m.C[:3].flatten(), m.T.flatten()
        ),
        "gru",
    ),
    "RNN cell without bias": (
        lambda m, x: torch.rnn_tanh_cell(x[0], x[1], m.W, m.W.mT),
        "rnn_tanh",
    ),
    "convolution padded on one side": (
        lambda m, x: F.conv1d(F.pad(x, (2, 0)), m.C[None, :, :3]),
        "slice",
    ),
    "convolution": (
        lambda m, x: torch.convolution(
            x, m.C[:2, :4, None].mT.reshape(2, 4, 1), m.w[:2], [2], [3], [2], False, [0], 1
        ),
        "conv1d",
    ),
    "convolution in groups": (
        lambda m, x: torch.convolution(x, m.C[:, None, :3], None, [1], [0], [2], False, [0], 4),
        "conv1d",
    ),
    "transposed convolution": (
        lambda m, x: torch.convolution(x, m.C[:, None, :3], m.C[:, 0], [3], [1], [2], True, [2], 4),
        "conv_transpose1d",
    ),
    "instance norm": (
        lambda m, x: torch.instance_norm(
            x,
            m.w[1:],
            m.C[:, 0],
            m.single[:4].double(),
            m.single[:4].double().exp(),
            False,
            0.1,
            0.2,
            False,
        ),
        "batch_norm",
    ),
    "instance norm by its input": (
        lambda m, x: torch.instance_norm(x, None, None, None, None, True, 0.1, 0.2, False),
        "instance_norm",
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_calls_of_layers(name: str) -> None:
    function, operation = LAYERS[name]
    torch.manual_seed(0)
    held, x = Held(function), numbers(*ROWS)
    graph = canonical(held, x)
    assert operation in operations(graph)
    torch.testing.assert_close(graph.module(x)[0], held(x))


def test_values_that_are_asked_for_stay() -> None:
    """What follows a layer is not folded into it, if the layer's own value is asked for."""
    torch.manual_seed(0)
    held, x = Held(lambda m, x: m.linear(x) * m.w), numbers(*LINE)
    arguments = Arguments.of((x,))
    captured = read(held, arguments, "symbolic", run_model(held, arguments))

    def layer(graph: Captured) -> list[fx.Node]:
        return [node for node in graph.module.graph.nodes if name_of(node) == "linear"]

    assert operations(canonize(captured, asked=layer))[-1] == "mul"
    assert operations(canonize(captured))[-1] == "linear"


def test_bits_are_no_view() -> None:
    held, x = Held(lambda m, x: x.float().view(torch.int32).double()), numbers(*LINE)
    graph = canonical(held, x, "export")
    torch.testing.assert_close(graph.module(x)[0], held(x))
