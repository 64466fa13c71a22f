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
from lrp_fx.canonize.products import has_given_factors
from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.reading import read
from lrp_fx.capture.running import run_model
from lrp_fx.graph import name_of
from tests.helpers.canonical import canonical, operations
from tests.helpers.numbers import numbers
from tests.helpers.versions import not_with_2_6

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


aten = torch.ops.aten
tensordot = torch.ops.aten.tensordot


def share(e: Tensor) -> Tensor:
    return e / e.sum(-1, keepdim=True)


def sinh_by_cosh(
    above: Callable[[Tensor, Tensor], Tensor],
    below: Callable[[Tensor, Tensor], Tensor],
    exponents: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda x: (x, -x),
) -> Function:
    """A quotient of two exponentials, by default of opposite values."""

    def function(m: Held, x: Tensor) -> Tensor:
        first, second = (each.exp() for each in exponents(x))
        return above(first, second) / below(first, second)

    return function


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
        "exp linear mul mul mul linear sigmoid mul",
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
    "twice exp less one": (lambda m, x: 2 * m.linear(x).exp() - 1, LINE, "linear exp mul sub"),
    "tensor of threes / (1 + exp)": (
        lambda m, x: torch.full_like(x, 3.0) / (1 + m.linear(x).exp()),
        LINE,
        "mul mul linear sigmoid mul",
    ),
    "exp of a log_sigmoid": (
        lambda m, x: (m.linear(x) - F.softplus(m.linear(x))).exp(),
        LINE,
        "linear sigmoid",
    ),
    "half less half a tanh, and a value": (
        lambda m, x: x - 0.5 * m.linear(x).tanh() + 0.5,
        LINE,
        "mul mul linear mul sigmoid add",
    ),
    "difference of gates": (
        lambda m, x: m.linear(x).sigmoid() - x.sigmoid(),
        LINE,
        "linear sigmoid sigmoid sub",
    ),
    "tanh and one": (lambda m, x: m.linear(x).tanh() + 1, LINE, "linear mul sigmoid mul"),
    "tanh and two": (lambda m, x: m.linear(x).tanh() + 2, LINE, "linear mul sigmoid mul add"),
    "twice a gate less two": (
        lambda m, x: 2 * m.linear(x).sigmoid() - 2,
        LINE,
        "mul mul linear sigmoid mul",
    ),
    "half a gate and two": (
        lambda m, x: 0.5 * m.linear(x).sigmoid() + 2,
        LINE,
        "linear sigmoid mul add",
    ),
    "a value less tanh, and three": (
        lambda m, x: x - m.linear(x).tanh() + 3,
        LINE,
        "mul mul linear tanh add add",
    ),
    "views of a half": (
        lambda m, x: 0.5 * m.linear(x).tanh().unsqueeze(1),
        LINE,
        "linear tanh unsqueeze mul",
    ),
    # softmaxes
    "share by signed weights": (
        lambda m, x: share(x.exp() * m.w),
        LINE,
        "exp mul reshape product unsqueeze div",
    ),
    "share of constants behind a mask": (
        lambda m, x: share((x > 0) * m.w.exp()),
        LINE,
        "gt eq masked_fill softmax",
    ),
    "share of shifted exponentials": (
        lambda m, x: share((x - x.amax(-1, True)).exp()),
        LINE,
        "softmax",
    ),
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
        "mul add softmax",
    ),
    "share with a prior": (lambda m, x: share(x.exp() * m.w.exp()), LINE, "add softmax"),
    "share divided by a prior": (lambda m, x: share(x.exp() / m.w.exp()), LINE, "sub softmax"),
    "share of rounded quotients": (
        lambda m, x: share(torch.div(x.exp(), m.w.exp(), rounding_mode="floor")),
        LINE,
        "exp exp div sum div",
    ),
    "share divided by a mask": (lambda m, x: share(x.exp() / m.mask), LINE, "exp to div sum div"),
    "share of a multiple": (lambda m, x: share(2 * x.exp()), LINE, "softmax"),
    "share of a negative multiple": (lambda m, x: share(-2 * x.exp()), LINE, "softmax"),
    "share of a shifted exponential": (
        lambda m, x: share(2 * x.exp() + 1),
        LINE,
        "exp mul add sum div",
    ),
    "share of a multiple behind a mask": (
        lambda m, x: share((2 * x.exp()) * m.mask),
        LINE,
        "to eq masked_fill softmax",
    ),
    "share of a negative multiple behind a mask": (
        lambda m, x: share((-2 * x.exp()) * m.mask),
        LINE,
        "exp mul to mul sum div",
    ),
    "share of half behind a mask": (
        lambda m, x: share((0.5 * x.exp()) * m.mask),
        LINE,
        "to eq masked_fill softmax",
    ),
    "share of a shifted exponential behind a mask": (
        lambda m, x: share((x.exp() + 1) * m.mask),
        LINE,
        "exp add to mul sum div",
    ),
    "slice of nothing of a pad": (lambda m, x: F.pad(x, (1, 1))[:, 0:].exp(), ROWS, "pad exp"),
    "exp by another multiple": (
        lambda m, x: -2 * x.exp() / (-3 * x.exp()).abs().sum(-1, True),
        LINE,
        "softmax mul",
    ),
    "exp by a multiple of its sum": (
        lambda m, x: x.exp() / (2 * x.exp().sum(-1, True)),
        LINE,
        "softmax mul",
    ),
    "exp by its sum and another": (
        lambda m, x: x.exp() / (2 * x.exp().sum(-1, True) - 1),
        LINE,
        "exp exp sum mul sub div",
    ),
    "exp by the sum of nothing": (
        lambda m, x: x.exp() / (0 * x.exp()).sum(-1, True),
        LINE,
        "exp exp mul sum div",
    ),
    "share of a multiple and one": (
        lambda m, x: 2 * x.exp() / (1 + (2 * x.exp()).sum(-1, True)),
        LINE,
        "pad softmax slice",
    ),
    "share of a negative multiple and one": (
        lambda m, x: -2 * x.exp() / (1 + (-2 * x.exp()).sum(-1, True)),
        LINE,
        "exp exp mul sum add mul div neg",
    ),
    "share of a masked one and one": (
        lambda m, x: x.exp() * m.mask / (1 + (x.exp() * m.mask).sum(-1, True)),
        LINE,
        "exp to mul exp to mul sum add div",
    ),
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
    # exponentials that are added one by one
    "share in the shape of an expanded sum": (
        lambda m, x: 1 / (1 + (-x[:, :1]).exp()).expand_as(x),
        LINE,
        "slice sigmoid expand_as",
    ),
    "share in the shape of a sum expanded twice": (
        lambda m, x: x[:, :1].exp() / (1 + x[:, :1].exp()).expand(x.shape).expand(-1, 5),
        LINE,
        "slice getattr getitem sigmoid expand expand",
    ),
    "share of an expanded exponential": (
        lambda m, x: x[:, :1].exp().expand(x.shape) / (1 + x[:, :1].exp()),
        LINE,
        "getattr getitem getattr getitem slice sigmoid expand",
    ),
    "share of one of two": (
        lambda m, x: (lambda e, f: e / (e + f))(x.exp(), m.linear(x).exp()),
        LINE,
        "mul mul linear add sigmoid",
    ),
    "share of two thirds": (
        lambda m, x: (lambda e, f: 2 * e / (2 * e + f / 3))(x.exp(), m.linear(x).exp()),
        LINE,
        "mul mul linear add add sigmoid",
    ),
    "share of opposite exponentials": (
        lambda m, x: x.exp() / ((-x).exp() + x.exp()),
        LINE,
        "mul sigmoid",
    ),
    "share of one of three": (
        lambda m, x: (lambda e: x.exp() / (e + x.exp() + x.cos().exp()))(m.linear(x).exp()),
        LINE,
        "linear cos stack softmax select",
    ),
    "share of two and one": (
        lambda m, x: 2 / (2 + x.exp() + m.linear(x).exp()),
        LINE,
        "linear zeros_like add stack softmax select mul mul",
    ),
    "share of parts": (
        lambda m, x: (lambda p: p[0] / (p[0] + p[1]))(m.linear(x).exp().chunk(2, 1)),
        ROWS,
        "linear chunk getitem chunk getitem sub sigmoid",
    ),
    "share of an entry of one shape and another": (
        lambda m, x: x.exp() / (x.exp() + x.cos().exp() + x[:, :1].sin().exp()),
        LINE,
        "exp exp cos exp add slice sin exp add div",
    ),
    "equal shares": (lambda m, x: x.exp() / (x.exp() + x.exp()), LINE, "exp exp exp add div"),
    "product by two exponentials": (
        lambda m, x: m.linear(x) / (x.exp() + x.cos().exp()),
        LINE,
        "linear exp cos exp add div",
    ),
    "difference of two exponentials": (
        lambda m, x: x.exp() / (x.exp() - x.cos().exp()),
        LINE,
        "exp exp cos exp sub div",
    ),
    "blend by exponentials": (
        lambda m, x: (lambda e, f: (e * x + m.w * f) / (e + f))(x.cos().exp(), m.linear(x).exp()),
        LINE,
        "cos linear sub sigmoid mul sub sigmoid mul add",
    ),
    "blend by one exponential and a number": (
        lambda m, x: (x.exp() * m.linear(x) + x.cos() + 3) / (1 + x.exp()),
        LINE,
        "linear cos sigmoid neg sigmoid add mul mul add",
    ),
    "zero by a number and an exponential": (
        lambda m, x: torch.zeros_like(x) / (2 + m.linear(x).exp()) + x,
        LINE,
        "mul mul add linear sigmoid mul add",
    ),
    "sum with another exponential": (
        lambda m, x: (m.linear(x).exp() + x.cos()) / (1 + x.exp()),
        LINE,
        "linear exp cos add neg sigmoid mul",
    ),
    "exp times the sigmoid of its opposite": (
        lambda m, x: x.exp() * (-x).sigmoid(),
        LINE,
        "sigmoid",
    ),
    "exp times one and the sigmoid of its opposite": (
        lambda m, x: x.exp() * (1 + (-x).sigmoid()),
        LINE,
        "exp neg sigmoid add mul",
    ),
    "product of three by one exponential": (
        lambda m, x: (x.exp() * m.linear(x)) * x.cos() / (1 + x.exp()),
        LINE,
        "linear cos sigmoid mul mul",
    ),
    "product with a product that is read twice": (
        lambda m, x: (lambda y: y * x.cos() / (1 + x.exp()) + y)(x.exp() * m.linear(x)),
        LINE,
        "exp linear cos neg sigmoid mul add mul mul",
    ),
    "share of one of two and one": (
        lambda m, x: (lambda e: e / (1 + e + x.cos().exp()))(m.linear(x).exp()),
        LINE,
        "linear cos zeros_like stack softmax select",
    ),
    "share of one of two and a number for safety": (
        lambda m, x: (lambda e: e / (e + x.cos().exp() + 1e-9))(m.linear(x).exp()),
        LINE,
        "linear cos sub sigmoid",
    ),
    "share of a small number": (
        lambda m, x: 1e-9 / (x.exp() + 1e-9),
        LINE,
        "neg add sigmoid mul mul",
    ),
    "share of one of two less a half": (
        lambda m, x: x.exp() / (x.exp() + x.cos().exp() - 0.5),
        LINE,
        "exp exp cos exp add sub div",
    ),
    "share beside an exponent": (
        lambda m, x: (lambda e: e.exp() / (e.flip(-1) + e.exp()))(x.exp()),
        LINE,
        "exp flip sub sigmoid",
    ),
    "share beside chosen exponentials": (
        lambda m, x: x.exp() / (x.cos().exp().index_select(1, torch.arange(5)) + x.exp()),
        LINE,
        "exp cos exp index_select exp add div",
    ),
    "share beside maxima": (
        lambda m, x: x.exp() / (x.exp().max(-1, True)[0] + x.exp()),
        LINE,
        "exp exp max getitem exp add div",
    ),
    "exp by zero times its sum": (
        lambda m, x: x.exp() / (0 * x.exp().sum(-1, True)),
        LINE,
        "exp exp sum mul div",
    ),
    "sum of shares by a sum": (
        lambda m, x: (x.exp() * m.C + x.exp() * m.linear(x)) / x.exp().sum(-1, True),
        LINE,
        "linear softmax add mul",
    ),
    # hyperbolic functions
    "tanh": (sinh_by_cosh(lambda e, f: e - f, lambda e, f: e + f), LINE, "tanh"),
    "tanh, turned below": (sinh_by_cosh(lambda e, f: e - f, lambda e, f: f + e), LINE, "tanh"),
    "tanh, turned above": (sinh_by_cosh(lambda e, f: f - e, lambda e, f: e + f), LINE, "neg tanh"),
    "tanh and a half above": (
        sinh_by_cosh(lambda e, f: e - f + 0.5, lambda e, f: e + f),
        LINE,
        "neg exp exp sub add add div",
    ),
    "tanh and one below": (
        sinh_by_cosh(lambda e, f: e - f, lambda e, f: e + f + 1),
        LINE,
        "neg zeros_like stack softmax select zeros_like stack softmax select neg add",
    ),
    "tanh with twice the second above": (
        sinh_by_cosh(lambda e, f: e - 2 * f, lambda e, f: e + f),
        LINE,
        "mul sigmoid mul sigmoid mul add",
    ),
    "tanh with thrice the second below": (
        sinh_by_cosh(lambda e, f: e - f, lambda e, f: e + 3 * f),
        LINE,
        "mul add sigmoid mul add sigmoid mul neg add",
    ),
    "tanh by three exponentials": (
        lambda m, x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp() + x.cos().exp()),
        LINE,
        "neg cos stack softmax select stack softmax select neg add",
    ),
    "tanh by another exponential": (
        lambda m, x: (x.exp() - (-x).exp()) / (x.exp() + x.cos().exp()),
        LINE,
        "exp neg exp sub exp cos exp add div",
    ),
    "tanh of shifted values": (
        sinh_by_cosh(lambda e, f: e - f, lambda e, f: e + f, lambda x: (x + 1, -x - 1)),
        LINE,
        "add tanh",
    ),
    "tanh of another shift": (
        sinh_by_cosh(lambda e, f: e - f, lambda e, f: e + f, lambda x: (x + 1, -x)),
        LINE,
        "add tanh",
    ),
    "tanh of another multiple": (
        sinh_by_cosh(lambda e, f: e - f, lambda e, f: e + f, lambda x: (x, -2 * x)),
        LINE,
        "mul tanh",
    ),
    "tanh of the difference of two values": (
        sinh_by_cosh(lambda e, f: e - f, lambda e, f: e + f, lambda x: (x, -x.cos())),
        LINE,
        "cos neg sub mul tanh",
    ),
    "expm1 by exp and one": (lambda m, x: torch.expm1(x) / (x.exp() + 1), LINE, "mul tanh"),
    "expm1 and two by exp and one": (
        lambda m, x: (torch.expm1(x) + 2) / (x.exp() + 1),
        LINE,
        "sigmoid neg sigmoid add",
    ),
    "expm1 by exp and two": (
        lambda m, x: torch.expm1(x) / (x.exp() + 2),
        LINE,
        "add sigmoid neg add sigmoid mul add",
    ),
    "expm1 by another exp": (
        lambda m, x: torch.expm1(x) / (x.cos().exp() + 1),
        LINE,
        "expm1 cos neg sigmoid mul",
    ),
    "expm1 by two exponentials": (
        lambda m, x: torch.expm1(x) / (x.exp() + x.cos().exp() + 1),
        LINE,
        "cos zeros_like stack softmax select zeros_like stack softmax select neg add",
    ),
    "one less two sigmoids": (
        lambda m, x: 1 - x.sigmoid() - m.linear(x).sigmoid(),
        LINE,
        "mul tanh mul mul mul linear mul tanh mul add",
    ),
    "one less a sum of two sigmoids": (
        lambda m, x: 1 - (x.sigmoid() + m.linear(x).sigmoid()),
        LINE,
        "mul tanh mul mul mul linear mul tanh mul add",
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
    # sums of products
    "product stack": (
        lambda m, x: torch.stack([x * m.linear(x), x * x.exp()]).sum(0),
        LINE,
        "linear exp add mul",
    ),
    "product stack along the last": (
        lambda m, x: torch.stack([x * m.linear(x), x * x.exp()], -1).sum(-1),
        LINE,
        "linear exp add mul",
    ),
    "mean of a product stack": (
        lambda m, x: torch.stack([x * m.linear(x), x * x.exp()], 1).mean(1),
        LINE,
        "exp mul mul linear mul add mul",
    ),
    "product stack summed in float32": (
        lambda m, x: torch.stack([x * m.linear(x), x * x.exp()]).sum(0, dtype=torch.float32),
        LINE,
        "linear mul exp mul stack sum",
    ),
    "product stack, kept": (
        lambda m, x: torch.stack([x * m.linear(x), x * x.exp()]).sum(0, True),
        LINE,
        "linear mul exp mul stack sum",
    ),
    "product stack along another": (
        lambda m, x: torch.stack([x * m.linear(x), x * x.exp()]).sum(1),
        LINE,
        "linear mul exp mul stack sum",
    ),
    "product stack along two": (
        lambda m, x: torch.stack([x * m.linear(x), x * x.exp()]).sum((0, 1)),
        LINE,
        "linear mul exp mul stack sum",
    ),
    "product stack, read twice": (
        lambda m, x: (lambda s: s.sum(0) * s[0])(torch.stack([x * m.linear(x), x * x.exp()])),
        LINE,
        "linear mul exp add mul mul",
    ),
    "twelve products": (lambda m, x: torch.stack([x * x.exp()] * 12).sum(0), LINE, "exp mul mul"),
    "thirteen products": (
        lambda m, x: torch.stack([x * x.exp()] * 13).sum(0),
        LINE,
        "exp mul stack sum",
    ),
    "a sum in a sum": (
        lambda m, x: 2 * (x * m.linear(x) + x * x.exp()) + x * x.tanh(),
        LINE,
        "exp tanh mul mul linear mul add add mul",
    ),
    "sums many steps inside": (
        lambda m, x: 1 + 2 * (1 + 2 * (1 + 2 * (x * m.linear(x) + x * x.exp()))),
        LINE,
        "linear mul exp mul add mul add mul add mul add",
    ),
    # scales behind layers
    "layer scaled behind a new dimension": (
        lambda m, x: m.linear(x).unsqueeze(-2) * m.w,
        LINE,
        "reshape mul reshape mul linear unsqueeze",
    ),
    "layer read twice": (
        lambda m, x: (lambda y: y * m.w + y.exp())(m.linear(x)),
        LINE,
        "linear mul exp add",
    ),
    "transposed convolution, scaled": (
        lambda m, x: F.conv_transpose1d(x, m.K.transpose(0, 1)) * m.T[:, :1],
        ROWS,
        "transpose slice reshape reshape expand reshape mul reshape conv_transpose1d",
    ),
    "einsum, scaled": (
        lambda m, x: torch.einsum("bij,kij->bk", x, m.K) * m.T[:, 0],
        ROWS,
        "select reshape squeeze einsum product",
    ),
    "einsum per head, scaled": (
        lambda m, x: torch.einsum("bhij,hkj->bhki", x, m.K) * m.C[:3, :4, None],
        CUBE,
        "slice slice unsqueeze reshape squeeze squeeze einsum product",
    ),
    # factors
    "powers of numbers": (lambda m, x: 2**x + 3 * 2**x, LINE, "mul exp mul exp mul add"),
    "powers of a half": (lambda m, x: 0.5**x, LINE, "mul exp"),
    "number to a tensor of minus ones": (
        lambda m, x: 2.0 ** torch.full_like(x, -1.0) * x,
        LINE,
        "full_like mul exp mul",
    ),
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
    "blend by a softmax": (
        lambda m, x: x + x.softmax(-1) * (m.linear(x) - x),
        LINE,
        "softmax linear mul add mul mul add",
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
    # shared factors
    "square and product": (lambda m, x: x.square() + x * m.linear(x), LINE, "linear add mul"),
    "cube and product": (lambda m, x: x**3 + x * m.linear(x), LINE, "linear mul add mul"),
    "fourth power and product": (
        lambda m, x: x**4 + x * m.linear(x),
        LINE,
        "linear mul mul add mul",
    ),
    "fifth power and product": (
        lambda m, x: x**5 + x * m.linear(x),
        LINE,
        "pow linear mul add",
    ),
    "product by its own sum": (
        lambda m, x: (lambda y: y / y.square().sum(-1, True))(x * m.linear(x)) + x * x.exp(),
        LINE,
        "linear mul square sum div exp mul add",
    ),
    "statistic of a factor": (
        lambda m, x: x * m.linear(x) * x.mean(-1, True) + x.exp() * x.mean(-1, True),
        LINE,
        "linear mul mean mul exp mean mul add",
    ),
    "value times its statistic": (
        lambda m, x: x * x.mean(-1, True) + x.exp() * x.mean(-1, True),
        LINE,
        "mean exp add mul",
    ),
    "product and nothing": (
        lambda m, x: x * m.linear(x) * 0.0 + x * x.exp(),
        LINE,
        "linear mul mul exp mul add",
    ),
    "divided by nothing": (
        lambda m, x: x / (x * m.linear(x) * 0.0) + x * x.exp(),
        LINE,
        "linear mul mul div exp mul add",
    ),
    "the same twice": (lambda m, x: x * m.linear(x) + x * m.linear(x), LINE, "linear mul mul"),
    "tensor of twos / value": (
        lambda m, x: torch.full_like(x, 2.0) / x.cosh() * x * m.linear(x) + x * x.exp(),
        LINE,
        "cosh linear exp div mul add mul",
    ),
    "value / (tensor of twos / value)": (
        lambda m, x: x / (torch.full_like(x, 2.0) / x.cosh()) + x * m.linear(x),
        LINE,
        "cosh linear mul add mul",
    ),
    "constant shared": (lambda m, x: x * m.w + x.exp() * m.w, LINE, "mul exp mul add"),
    "gate shared": (
        lambda m, x: (lambda g: g * x.exp() + g * m.linear(x))(x.sigmoid()),
        LINE,
        "sigmoid exp mul linear mul add",
    ),
    "gate beside": (
        lambda m, x: x * m.linear(x) + x * x.exp() + x * x.sigmoid(),
        LINE,
        "linear exp sigmoid add mul mul add",
    ),
    "product and gated": (
        lambda m, x: x * x.sigmoid() - 2 * x * m.linear(x),
        LINE,
        "sigmoid mul mul linear mul sub",
    ),
    "two products chained": (
        lambda m, x: (lambda y: y * y.exp() + y * y.cos())(x * m.linear(x) + x * x.exp()),
        LINE,
        "linear exp add mul exp cos add mul mul",
    ),
    "minus a layer in a difference": (
        lambda m, x: x - (m.linear(x) - x.exp()),
        LINE,
        "exp mul mul linear add add",
    ),
    "half a layer in a sum": (
        lambda m, x: 0.5 * (m.linear(x) + x.exp()) + x,
        LINE,
        "linear exp add mul add",
    ),
    # blends
    "blend with a product with the negative": (
        lambda m, x: x.tanh() * x.exp() + x.sigmoid() * (m.linear(x) + (-x).tanh()),
        LINE,
        "tanh exp mul sigmoid linear neg tanh add mul add",
    ),
    "blend with a tensor of ones / value": (
        lambda m, x: x.sigmoid() * (m.linear(x) + (-x).tanh()) + torch.ones_like(x) / x.tanh(),
        LINE,
        "sigmoid linear neg tanh add mul ones_like tanh div add",
    ),
    "blend with another product": (
        lambda m, x: x * m.linear(x) + x.sigmoid() * (x.exp() - x),
        LINE,
        "linear mul sigmoid exp sub mul add",
    ),
    "blend with a product": (
        lambda m, x: (lambda n: n + x.sigmoid() * (m.linear(x) - n))(x.cos() * x.erf()),
        LINE,
        "cos erf sigmoid linear neg sigmoid mul mul mul add",
    ),
    "blend with half a product": (
        lambda m, x: (lambda n: n + x.sigmoid() * (m.linear(x) - n / 2) * 2)(x.cos() * x.erf()),
        LINE,
        "cos erf sigmoid linear neg sigmoid mul mul mul mul add",
    ),
    "blend and more": (
        lambda m, x: (lambda n: n + x.sigmoid() * (m.linear(x) - n) + n * x.exp())(x.cos()),
        LINE,
        "cos sigmoid linear exp neg sigmoid mul mul mul add add",
    ),
    "blend by a constant and more": (
        lambda m, x: (lambda n: n + m.w.sigmoid() * (m.linear(x) - n) + n * x.exp())(x.cos()),
        LINE,
        "cos sigmoid exp neg sigmoid add mul reshape mul reshape mul linear add",
    ),
    "closed and more": (
        lambda m, x: m.w * x.exp() * x.cos() - m.w * x.sigmoid() + m.w + x.cos(),
        LINE,
        "exp cos neg sigmoid mul add mul mul add",
    ),
    "gate over a difference": (
        lambda m, x: x + x.sigmoid() / (m.linear(x) - x),
        LINE,
        "sigmoid linear sub div add",
    ),
    "difference that is read elsewhere": (
        lambda m, x: (lambda d: (x + d + x * x.exp()) * d)(m.linear(x) - x),
        LINE,
        "linear sub exp add mul add mul",
    ),
    "blend by its own mask": (
        lambda m, x: x + (x > 0).double() * (m.linear(x) - x),
        LINE,
        "gt to linear mul add mul mul add",
    ),
    "blend by its own mask, in blocks": (
        lambda m, x: x + torch.block_diag((x > 0).double()) * (m.linear(x) - x),
        LINE,
        "gt to block_diag linear mul add mul mul add",
    ),
    "blend by gates, in blocks": (
        lambda m, x: x + torch.block_diag(x.sigmoid()) * (m.linear(x) - x),
        LINE,
        "sigmoid block_diag linear sub mul add",
    ),
    # products
    "summed product": (lambda m, x: (x * m.w).sum(-1), LINE, "reshape product"),
    "summed product of two": (
        lambda m, x: (x[:, :2] * m.w[:2]).sum(-1),
        LINE,
        "slice slice reshape product",
    ),
    "sum of a product of two": (
        lambda m, x: (x.exp() * m.linear(x)).sum(-1),
        LINE,
        "exp linear mul sum",
    ),
    "sum by a mask and a number": (lambda m, x: (x * (m.mask / 3)).sum(-1), LINE, "div mul sum"),
    "sum by a constant and a mask": (
        lambda m, x: (x * (m.C[:, :1] * m.mask)).sum(-1),
        LINE,
        "slice mul mul sum",
    ),
    "sum by a mask and a constant": (
        lambda m, x: (x * (m.mask * m.C[:, :1])).sum(-1),
        LINE,
        "slice mul mul sum",
    ),
    "sum by a constant over a mask": (
        lambda m, x: (x * (m.C[:, :1] / m.mask)).sum(-1),
        LINE,
        "slice div reshape product",
    ),
    "sum by a mask and what varies": (
        lambda m, x: (x * (m.mask * m.w)).sum(-1),
        LINE,
        "mul reshape product",
    ),
    "sum by what varies and what does not": (
        lambda m, x: (x * (m.w * m.C[:, :1])).sum(-1),
        LINE,
        "slice mul reshape product",
    ),
    "sum by what does not vary": (
        lambda m, x: (x * (3 * m.C[:, :1])).sum(-1),
        LINE,
        "slice mul mul sum",
    ),
    "sum by a number over what does not vary": (
        lambda m, x: (x * (3 / m.C[:, :1])).sum(-1),
        LINE,
        "slice reciprocal mul mul sum",
    ),
    "sum by a mask with a last dimension": (
        lambda m, x: (x * (m.mask[:4] / 3).unsqueeze(-1)).sum(1),
        ROWS,
        "slice div unsqueeze mul sum",
    ),
    "sum by a mask with a second dimension": (
        lambda m, x: (x * (m.mask[:4] / 3).unsqueeze(1)).sum(1),
        ROWS,
        "slice div unsqueeze mul sum",
    ),
    "sum by a mask with a first dimension": (
        lambda m, x: (x * (m.C[:, :1] * m.mask).unsqueeze(0)).sum(-1),
        ROWS,
        "slice mul unsqueeze mul sum",
    ),
    "sum by a mask with a dimension between": (
        lambda m, x: (x * (m.C[:1] * m.mask[:4, None]).unsqueeze(1)).sum(0),
        (4, 3, 5),
        "slice slice unsqueeze mul unsqueeze mul sum",
    ),
    "sum by weights with a dimension between": (
        lambda m, x: (x * (m.C[:, :1] * m.mask).unsqueeze(1)).sum(0),
        (4, 3, 5),
        "slice mul unsqueeze reshape product",
    ),
    "sum by an expanded mask": (
        lambda m, x: (x * (m.mask[:4, None] / 3).expand(4, 5)).sum(0),
        LINE,
        "slice unsqueeze div mul sum",
    ),
    "sum by an expanded mask with a dimension": (
        lambda m, x: (x * (m.mask[:4, None] / 3).expand(4, 5).unsqueeze(0)).sum(1),
        ROWS,
        "slice unsqueeze div expand unsqueeze mul sum",
    ),
    "sum by a mask in another shape": (
        lambda m, x: (x * (m.C[:, :1] * m.mask).view(1, 4, 5)).sum(-1),
        ROWS,
        "slice mul reshape mul sum",
    ),
    "sum by weights in another shape": (
        lambda m, x: (x * (m.C[:, :1] * m.mask).view(1, 4, 5)).sum(1),
        ROWS,
        "slice mul reshape reshape product",
    ),
    "sum by a mask of other dimensions": (
        lambda m, x: (x * (m.mask[:4] / 3).view(2, 2, 1)).sum(1),
        (2, 2, 5),
        "slice div reshape mul sum",
    ),
    "sum by weights of other dimensions": (
        lambda m, x: (x * (m.C[:, :1] * m.mask[:1]).view(2, 2, 1)).sum(1),
        (2, 2, 5),
        "slice slice mul reshape reshape product",
    ),
    "sum by a transposed mask": (
        lambda m, x: (x * (m.mask[:4, None] / m.w[:1]).mT).sum(-1),
        (3, 4),
        "slice unsqueeze slice div mT mul sum",
    ),
    "sum by transposed weights": (
        lambda m, x: (x * (m.W[:, :1] * m.mask).mT).sum(-1),
        (5, 5),
        "slice mul mT reshape product",
    ),
    "sum by a mask in another type": (
        lambda m, x: (x * (m.mask / 3).double()).sum(-1),
        LINE,
        "div to mul sum",
    ),
    "sum by a rounded quotient of a mask": (
        lambda m, x: (x * torch.div(m.mask.double(), 0.4, rounding_mode="floor")).sum(-1),
        LINE,
        "to div reshape product",
    ),
    "sum by what varies and a mask": (
        lambda m, x: (x * (m.w * m.mask)).sum(-1),
        LINE,
        "mul reshape product",
    ),
    "sum by what does not vary and what does": (
        lambda m, x: (x * (m.C[:, :1] * m.w)).sum(-1),
        LINE,
        "slice mul reshape product",
    ),
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
    "whole products summed": (
        lambda m, x: (x.round().to(torch.int64) * (10 * m.w).to(torch.int64)).sum(-1).double(),
        LINE,
        "round to mul to mul sum to",
    ),
    "product summed over none named": (lambda m, x: (x * m.w).sum([]), LINE, "mul sum"),
    "product summed over a size": (
        lambda m, x: (x * m.w).sum(x.shape[0] - 3),
        LINE,
        "mul getattr getitem python.sub sum",
    ),
    "constant / spread": (lambda m, x: m.w / x[:, :, None], (4, 3), "unsqueeze div"),
    "spread by another value": (
        lambda m, x: x[:, :, None] * x[:, None],
        (4, 3),
        "unsqueeze unsqueeze mul",
    ),
    "spread to more dimensions at once": (lambda m, x: x[:, :1] * m.K, LINE, "slice mul"),
    "expanded and spread": (
        lambda m, x: x[:, None].expand(-1, 3, -1) * m.T,
        LINE,
        "unsqueeze reshape squeeze product",
    ),
    "expanded, and spread elsewhere": (
        lambda m, x: x[:, None, None].expand(-1, 6, -1, -1) * m.T,
        LINE,
        "unsqueeze unsqueeze expand mul",
    ),
    "spread of float64 by float32": (
        lambda m, x: x[:, :, None] * m.single,
        (4, 3),
        "unsqueeze mul",
    ),
    "scaled and spread": (
        lambda m, x: (x * 3)[:, :, None] * m.w,
        (4, 3),
        "mul unsqueeze reshape unsqueeze linear",
    ),
    "layer, spread": (
        lambda m, x: m.linear(x)[:, :, None] * m.w,
        LINE,
        "linear unsqueeze reshape unsqueeze linear",
    ),
    # matrices
    "x @ a column": (lambda m, x: x @ m.w[:, None], LINE, "unsqueeze t linear"),
    "x @ a new column": (lambda m, x: x @ x.new_full((5, 1), 0.5), LINE, "sum mul"),
    "bmm by what is expanded": (
        lambda m, x: torch.bmm(x, x.new_ones(5, 5).expand(2, -1, -1)),
        ROWS,
        "full product",
    ),
    "tensordot with what is new": (
        lambda m, x: tensordot(x, x.new_ones(3, 5), [1], [1]),
        LINE,
        "full linear",
    ),
    "x @ W": (lambda m, x: x @ m.W, LINE, "t linear"),
    "W @ x": (lambda m, x: m.C @ x.mT, ROWS, "mT product"),
    "x @ ones": (lambda m, x: x @ ones(5, 1), LINE, "sum mul"),
    "x @ two columns of ones": (lambda m, x: x @ ones(5, 2), LINE, "full product"),
    "x @ a vector of ones": (lambda m, x: x @ ones(5), LINE, "sum mul"),
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
    "bmm by ones": (lambda m, x: torch.bmm(x, ones(2, 5, 1)), ROWS, "sum mul"),
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
    "addmm, matrix added": (lambda m, x: torch.addmm(m.C, x, m.W), LINE, "t linear add"),
    "addmm of two": (lambda m, x: torch.addmm(m.w, x, x.mT @ x), LINE, "mT matmul mm add"),
    "addmm, the value added": (lambda m, x: torch.addmm(x, m.C, m.W), LINE, "mm add"),
    "baddbmm": (
        lambda m, x: torch.baddbmm(m.w, x, m.W.expand(2, -1, -1), alpha=2, beta=3),
        ROWS,
        "t mul mul reshape expand linear",
    ),
    "addmm, its product scaled": (
        lambda m, x: torch.addmm(m.w, x, m.W, alpha=2),
        LINE,
        "t mul reshape expand linear",
    ),
    "addmm, its sum scaled": (
        lambda m, x: torch.addmm(m.w, x, m.W, beta=3),
        LINE,
        "t mul reshape expand linear",
    ),
    "baddbmm without a sum": (
        lambda m, x: torch.baddbmm(m.w, x, m.W.expand(2, -1, -1), beta=0),
        ROWS,
        "t linear",
    ),
    "baddbmm, plain": (
        lambda m, x: torch.baddbmm(m.w, x, m.W.expand(2, -1, -1)),
        ROWS,
        "t reshape expand linear",
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
    "matrix by a vector": (lambda m, x: torch.mv(x, m.w), LINE, "product"),
    "constant matrix by a vector": (lambda m, x: torch.mv(m.C, x[0]), LINE, "select product"),
    "vector by a vector": (lambda m, x: torch.dot(x[0], m.w), LINE, "select product"),
    "constant by a vector": (lambda m, x: torch.vdot(m.w, x[0]), LINE, "select product"),
    "checked": (
        lambda m, x: (torch._assert_async((x == x).all(), "not a number"), x.exp())[1],
        LINE,
        "exp",
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
    # arithmetic and views
    "reciprocal by a power": (lambda m, x: m.linear(x) ** -1, LINE, "linear reciprocal"),
    "root by a power": (lambda m, x: m.linear(x).abs() ** 0.5, LINE, "linear abs sqrt"),
    "one over a root by a power": (lambda m, x: (x * x + 1) ** -0.5, LINE, "mul add rsqrt"),
    "power of a complex number": (
        lambda m, x: torch.view_as_real(torch.pow(2.0, torch.complex(x, x.exp()))),
        LINE,
        "exp mul mul exp cos mul sin mul stack",
    ),
    "larger of two": (lambda m, x: aten.max(x, m.linear(x)), LINE, "linear maximum"),
    "smaller of two": (lambda m, x: aten.min(x, m.linear(x)), LINE, "linear minimum"),
    "largest": (lambda m, x: x * aten.max(x), LINE, "max mul"),
    "largest of each": (lambda m, x: aten.max(x, 1)[0].tanh(), LINE, "max getitem tanh"),
    "choice": (lambda m, x: torch.where(m.mask, x.tanh(), x), LINE, "tanh where"),
    "differences": (lambda m, x: torch.diff(m.linear(x)), LINE, "linear slice slice sub"),
    "differences from a start": (
        lambda m, x: torch.diff(m.linear(x), prepend=x[:, :1]),
        LINE,
        "linear slice slice cat sub",
    ),
    "in the type of another": (lambda m, x: aten.type_as(m.single, x) * x, LINE, "getattr to mul"),
    "in the shape of another": (
        lambda m, x: x.exp().view_as(m.C) * x,
        LINE,
        "exp getattr reshape mul",
    ),
    "spread and mean": (
        lambda m, x: (lambda both: both[0] * both[1])(torch.var_mean(m.linear(x))),
        LINE,
        "linear var mean mul",
    ),
    "spread and mean of each": (
        lambda m, x: (lambda both: both[0] * both[1])(torch.std_mean(x, 1, keepdim=True)),
        LINE,
        "std mean mul",
    ),
    "narrow": (lambda m, x: x.narrow(1, 1, 2).exp(), LINE, "slice exp"),
    "narrow from the start": (lambda m, x: x.narrow(1, 0, 2).exp(), LINE, "slice exp"),
    "narrow from the end": (lambda m, x: x.narrow(1, -2, 2).exp(), LINE, "narrow exp"),
    "narrow from a size": (
        lambda m, x: x.narrow(1, x.shape[0] - 3, 2).exp(),
        LINE,
        "getattr getitem python.sub narrow exp",
    ),
    "narrow by a size": (
        lambda m, x: x.narrow(1, 1, x.shape[0] - 2).exp(),
        LINE,
        "getattr getitem python.sub narrow exp",
    ),
    "norm": (lambda m, x: torch.linalg.norm(x.exp()), LINE, "exp linalg_vector_norm"),
    "norm of two dimensions": (
        lambda m, x: torch.linalg.norm(x.exp(), dim=(0, 1)),
        LINE,
        "exp linalg_vector_norm",
    ),
    "norm of an order": (
        lambda m, x: torch.linalg.norm(x.exp(), 1, 1),
        LINE,
        "exp linalg_vector_norm",
    ),
    "norm of a matrix": (lambda m, x: torch.linalg.norm(x.exp(), 1), LINE, "exp linalg_norm"),
    "norm of matrices": (
        lambda m, x: torch.linalg.norm(x.exp(), 1, (1, 2)),
        ROWS,
        "exp linalg_norm",
    ),
    "norm of the entries of a matrix": (
        lambda m, x: torch.linalg.norm(x.exp(), "fro"),
        LINE,
        "exp linalg_norm",
    ),
    "result that has no form": (
        lambda m, x: torch.native_layer_norm(x, [5], None, None, 1e-5)[1] * x,
        LINE,
        "native_layer_norm getitem mul",
    ),
    "result that has a form, and one that has none": (
        lambda m, x: (lambda three: three[0] * three[1])(
            torch.native_layer_norm(x, [5], None, None, 1e-5)
        ),
        LINE,
        "layer_norm native_layer_norm getitem mul",
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
    "one_hot, shifted": (
        lambda m, x: (F.one_hot(x.abs().to(torch.int64), 5) + 1).double() @ m.W,
        LINE,
        "abs to one_hot add to t linear",
    ),
    "one_hot, averaged": (
        lambda m, x: F.one_hot(x.abs().to(torch.int64), 5).double().mean(1, True) @ m.W,
        LINE,
        "abs to embedding mean",
    ),
    "one_hot, copied": (
        lambda m, x: (
            torch.ops.aten._to_copy(F.one_hot(x.abs().to(torch.int64), 5), dtype=torch.float64)
            @ m.W
        ),
        LINE,
        "abs to embedding",
    ),
    "one_hot, summed over a size": (
        lambda m, x: F.one_hot(x.abs().to(torch.int64), 5).double().sum(x.shape[0] - 3) @ m.W,
        LINE,
        "abs to one_hot to getattr getitem python.sub sum t linear",
    ),
    "column by row": (
        lambda m, x: torch.bmm(x[:, 0, :, None], x[:, 1, None]),
        ROWS,
        "select unsqueeze select unsqueeze mul",
    ),
    "column by row, of any batch": (
        lambda m, x: x.unsqueeze(-1) @ x.relu().unsqueeze(-2),
        ROWS,
        "unsqueeze relu unsqueeze mul",
    ),
    "rows by a matrix each": (
        lambda m, x: x.unsqueeze(2) @ x.relu().mT.unsqueeze(1),
        ROWS,
        "unsqueeze relu mT unsqueeze matmul",
    ),
    "one row this time": (
        lambda m, x: x[:, :1].mT @ x[:, 1:2],
        ROWS,
        "slice mT slice matmul",
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
    "power of a complex number": "exp complex mul exp view_as_real",
    "sum by weights in another shape": "slice mul reshape mul sum",
    "sum by weights of other dimensions": "slice slice mul reshape mul sum",
    "sum by transposed weights": "slice mul mT mul sum",
    "differences from a start": "linear slice cat slice slice sub",
    "share in the shape of an expanded sum": "slice neg exp add expand_as reciprocal mul",
    "share in the shape of a sum expanded twice": "slice exp slice exp add getattr expand expand div",
    "share of an expanded exponential": "slice exp getattr expand slice neg sigmoid mul",
    "share of one of three": "linear exp exp exp add cos exp add div",
    "share of two and one": "exp add linear exp add reciprocal mul",
    "share of one of two and one": "linear exp add cos exp add div",
    "tanh and one below": "neg exp exp sub add add div",
    "tanh by three exponentials": "exp neg exp sub exp neg exp add cos exp add div",
    "expm1 by two exponentials": "expm1 exp cos exp add add div",
    "sum by a mask and what varies": "mul mul sum",
    "sum by what varies and what does not": "slice mul mul sum",
    "sum by weights with a dimension between": "slice mul unsqueeze mul sum",
    "sum by a rounded quotient of a mask": "to div mul sum",
    "sum by a constant over a mask": "slice div mul sum",
    "sum by an expanded mask": "slice unsqueeze div expand mul sum",
    "sum by what varies and a mask": "mul mul sum",
    "sum by what does not vary and what does": "slice mul mul sum",
    "share divided by a mask": "exp div sum div",
    "share of a multiple behind a mask": "eq masked_fill softmax",
    "share of a negative multiple behind a mask": "exp mul mul sum div",
    "share of half behind a mask": "eq masked_fill softmax",
    "share of a shifted exponential behind a mask": "exp add mul sum div",
    "share of a multiple and one": "exp mul exp mul sum add div",
    "share of a masked one and one": "exp mul exp mul sum add div",
    "share by signed weights": "exp mul sum div",
    "summed product of two": "slice slice mul sum",
    "expanded and spread": "unsqueeze expand mul",
    "scaled and spread": "mul unsqueeze mul",
    "layer, spread": "linear unsqueeze mul",
    "x @ a new column": "new_full product",
    "bmm by what is expanded": "new_ones expand product",
    "tensordot with what is new": "new_ones tensordot",
    "one_hot, averaged": "abs to one_hot to mean t linear",
    "product stack, read twice": "linear mul exp mul stack sum select mul",
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
    "column by row, of any batch": "unsqueeze relu unsqueeze matmul",
}
"""What remains where no example input shows the shapes of values, if it is something else."""


READ_WITH_VALUES = ("whole powers", "checked")


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


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=not_with_2_6("takes only numbers for alpha"))
        if name in ("sum with a size", "shift times a size")
        else name
        for name in CASES
        if name not in READ_WITH_VALUES
    ],
)
def test_without_an_example(name: str) -> None:
    check(unshaped(model(name)), name, WITHOUT.get(name, CASES[name][2]))


def unshaped(held: Held) -> Captured:
    """The canonical graph, as read without an example."""
    form = Arguments.of((torch.empty(0),))
    return canonize(read(held, Arguments((), form.constants, form.spec), "symbolic"))


def test_places_of_a_condition() -> None:
    """They are no choice between two values, though both have one name."""
    graph = unshaped(Held(lambda m, x: x[torch.where(x.exp() > 2)]))
    assert operations(graph) == ["exp", "gt", "nonzero_numpy", "index"]


class Two(nn.Module):
    """A function of an input that is explained, and of one that is given."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        return self.function(x, given)


GIVEN: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]] = {
    "product": (lambda x, given: x @ given, True),
    "product of values": (lambda x, given: x.exp() @ given.tanh(), True),
    "product of sums": (lambda x, given: (x + given) @ x, False),
    "sum": (lambda x, given: x + given, False),
    "sum with a product": (lambda x, given: torch.addmm(given, x, x), True),
    "sum with products of batches": (
        lambda x, given: torch.baddbmm(given[None], x[None], x[None]),
        True,
    ),
    "products of each": (lambda x, given: given @ given + x @ x, False),
}


@pytest.mark.parametrize("name", GIVEN)
def test_whether_a_factor_is_given(name: str) -> None:
    function, expected = GIVEN[name]
    arguments = Arguments.of((numbers(4, 4), numbers(4, 4)))
    graph = read(Two(function), arguments, "symbolic").module.graph
    assert has_given_factors(graph, 1) is expected
    assert not has_given_factors(graph, 2)


def test_whole_numbers_are_no_entries_of_a_layer() -> None:
    """Indices have no weights."""
    held = Held(lambda m, x: x[:, :, None] * (10 * m.w).to(torch.int64))
    assert operations(canonical(held, torch.ones(4, 3, dtype=torch.int64)))[-1] == "mul"


DENSE: dict[str, tuple[Function, str, str]] = {
    "unit": (
        lambda m, x: m.linear(x) * m.w,
        "reshape mul reshape mul linear",
        "reshape mul reshape mul linear",
    ),
    "more dimensions": (
        lambda m, x: m.linear(x) * m.C[:1],
        "slice reshape reshape mul reshape mul linear",
        "linear slice mul",
    ),
    "view": (
        lambda m, x: m.linear(x).unsqueeze(-2) * m.w,
        "reshape mul reshape mul linear unsqueeze",
        "linear unsqueeze mul",
    ),
}


@pytest.mark.parametrize("name", DENSE)
def test_constants_of_more_dimensions_than_a_unit(name: str) -> None:
    """They are folded as long as the values may be expected to have a batch dimension."""
    function, batched, other = DENSE[name]
    held, arguments = Held(function), Arguments.of((numbers(*LINE),))
    captured = read(held, arguments, "symbolic", run_model(held, arguments))
    assert " ".join(operations(canonize(captured))) == batched
    assert " ".join(operations(canonize(captured, fold_dense=False))) == other


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
    "convolution of the same size": (
        lambda m, x: F.conv1d(x, m.C[None, :, :4], padding="same"),
        "slice",
    ),
    "convolution with padding": (
        lambda m, x: F.conv1d(x, m.C[None, :, :4], padding=1),
        "conv1d",
    ),
    "convolution without padding": (
        lambda m, x: F.conv1d(x, m.C[None, :, :4], padding="valid"),
        "conv1d",
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
