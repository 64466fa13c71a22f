"""One meaning, one map: what a value is decides its relevance, not how it is spelled.

A table of meanings and spellings, each spelling against the map of the meaning: input times the gradient
of the same model with its gates and statistics held, which is what LRP-0 without biases comes to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from models import numbers
from torch import Tensor, nn

from lrp_fx import LRPFx, composites, rules
from lrp_fx.composites import Composite, operation

EXACT = 1e-9
"""Of max |R| in float64: the same sums in another order, ε = 0 everywhere."""
Function = Callable[[Tensor], Tensor]


class Model(nn.Module):
    """``out(function(self, x))`` with three linear maps without biases to choose from."""

    def __init__(self, function: Callable[..., Tensor], outputs: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name in ("a", "b", "c"):
            setattr(self, name, nn.Linear(4, 5, bias=False))
        self.out = nn.Linear(outputs, 2, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.function(self, x))


def relevance(function: Callable[..., Tensor], x: Tensor, outputs: int = 5, **options) -> Tensor:
    composite = options.pop("composite", "zero")
    model = Model(function, outputs).double()
    return LRPFx(model, composite, **options).attribute(x, target=1)


def held(function: Callable[..., Tensor], x: Tensor, outputs: int = 5) -> Tensor:
    """Input times gradient; the function holds what gets nothing with ``detach``."""
    leaf = x.clone().requires_grad_()
    output = Model(function, outputs).double()(leaf)[:, 1].sum()
    return leaf.detach() * torch.autograd.grad(output, leaf)[0]


def assert_same(mine: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    difference = (mine - expected).abs().max()
    assert difference <= tolerance * expected.abs().max(), float(difference)


X = numbers(3, 4)

# Gates


def expanded(z: Tensor) -> Tensor:
    positive = torch.exp(z)
    return positive / (positive + 1)


def of_two(z: Tensor) -> Tensor:
    return torch.stack([z, torch.zeros_like(z)], -1).softmax(-1)[..., 0]


def share(z: Tensor) -> Tensor:
    positive = (z - z.amax(1, keepdim=True)).exp()
    return positive / positive.sum(1, keepdim=True)


def safe_share(z: Tensor) -> Tensor:
    positive = z.exp()
    return positive / (positive.sum(-1, keepdim=True) + 1e-3)


def positive_share(z: Tensor) -> Tensor:
    positive = F.elu(z) + 1
    return positive / positive.sum(1, keepdim=True)


def chosen_experts(z: Tensor) -> Tensor:
    gates = z.softmax(-1).sort(-1)[0]
    return gates / gates.sum(-1, keepdim=True)


MASK = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
PRIOR = torch.arange(1.0, 6.0, dtype=torch.float64)


def normalized(positive: Tensor) -> Tensor:
    return positive / positive.sum(-1, keepdim=True)


def log1p_exp(z: Tensor) -> Tensor:
    return torch.log1p(torch.exp(z))


def stacked_logs(z: Tensor) -> Tensor:
    return torch.stack([F.logsigmoid(z), F.logsigmoid(-2 * z)]).sum(0)


GATES: dict[str, Function] = {
    "sigmoid": torch.sigmoid,
    "special.expit": torch.special.expit,
    "1 - sigmoid": lambda z: 1 - torch.sigmoid(z),
    "ones - sigmoid": lambda z: torch.ones_like(z) - torch.sigmoid(z),
    "-sigmoid": lambda z: -torch.sigmoid(z),
    "2 sigmoid": lambda z: 2 * torch.sigmoid(z),
    "sigmoid of a relu": lambda z: torch.sigmoid(z.relu()),
    "hardsigmoid": F.hardsigmoid,
    "relu6(z + 3) / 6": lambda z: F.relu6(z + 3) / 6,
    "relu6(z + 3) * 0.1667": lambda z: F.relu6(z + 3) * 0.16666667,
    "clamp(0.2 z + 0.5, 0, 1)": lambda z: torch.clamp(0.2 * z + 0.5, 0, 1),
    "two clamps": lambda z: (0.2 * z + 0.5).clamp_min(0).clamp_max(1),
    "min of a relu": lambda z: F.relu(z + 3).clamp(max=6),
    "hardtanh with an end at zero": lambda z: F.hardtanh(z + 1, 0.0, 2.0),
    "hardtanh + 1": lambda z: F.hardtanh(z) + 1,
    "clamped for safety": lambda z: torch.sigmoid(z).clamp(1e-4, 1 - 1e-4),
    "stretched and clamped": lambda z: (1.2 * torch.sigmoid(z) - 0.1).clamp(0, 1),
    "stretched and clipped in two calls": lambda z: F.relu(1.2 * z.sigmoid() - 0.1).clamp(max=1),
    "clamped from above": lambda z: torch.sigmoid(z).clamp(max=0.5),
    "(tanh + 1) / 2": lambda z: (torch.tanh(z) + 1) / 2,
    "0.5 - 0.5 tanh": lambda z: 0.5 - 0.5 * torch.tanh(z),
    "1 + erf": lambda z: 1 + torch.erf(z),
    "1 + softsign": lambda z: 1 + F.softsign(z),
    "1 / (1 + exp(-z))": lambda z: 1 / (1 + torch.exp(-z)),
    "reciprocal": lambda z: torch.reciprocal(torch.exp(z) + 1),
    "exp / (exp + 1)": expanded,
    "1 / (1 + softplus)": lambda z: 1 / (1 + F.softplus(z)),
    "exp(logsigmoid)": lambda z: F.logsigmoid(z).exp(),
    "exp(-softplus)": lambda z: torch.exp(-F.softplus(z)),
    "softmax": lambda z: z.softmax(-1),
    "softmax of two": of_two,
    "exp / sum": share,
    "exp / (sum + ε)": safe_share,
    "exp normalized": lambda z: F.normalize(z.exp(), p=1, dim=-1),
    "exp / |exp|": lambda z: z.exp() / z.exp().norm(p=1, dim=-1, keepdim=True),
    "exp / sum of |exp|": lambda z: z.exp() / z.exp().abs().sum(-1, keepdim=True),
    "exp · 1 / sum": lambda z: z.exp() * (1 / z.exp().sum(-1, keepdim=True)),
    "reciprocal of the sum · exp": lambda z: z.exp().sum(-1, True).reciprocal() * z.exp(),
    "sum, and its dimension again": lambda z: z.exp() / z.exp().sum(-1)[:, None],
    "share of softplus": lambda z: F.normalize(F.softplus(z), p=1, dim=-1),
    "1 - exp(-softplus)": lambda z: 1 - torch.exp(-F.softplus(z)),
    "share of elu + 1": positive_share,
    "exp(log_softmax)": lambda z: F.log_softmax(z, -1).exp(),
    "exp(z - logsumexp)": lambda z: (z - z.logsumexp(-1, keepdim=True)).exp(),
    "share of its sum": chosen_experts,
    "product of gates": lambda z: torch.sigmoid(z) * torch.sigmoid(-2 * z),
    "sum of gates": lambda z: torch.sigmoid(z) + torch.sigmoid(-2 * z),
    "square": lambda z: torch.sigmoid(z) ** 2,
    "root": lambda z: torch.sigmoid(z).sqrt(),
    "by a constant tensor": lambda z: torch.sigmoid(z) * torch.arange(1.0, 6.0, dtype=z.dtype),
    "cast": lambda z: torch.sigmoid(z.float()).double(),
    "views": lambda z: torch.sigmoid(z.reshape(-1, 5, 1)).transpose(1, 2).squeeze(1),
    "parts": lambda z: torch.cat(torch.sigmoid(z).split([2, 3], 1)[::-1], 1),
    "averaged": lambda z: F.avg_pool1d(torch.sigmoid(z).unsqueeze(1), 3, 1, 1).squeeze(1),
    "summed": lambda z: torch.sigmoid(z).sum(1, keepdim=True) / 5,
    "masked and summed": lambda z: (torch.arange(5.0).to(z) * z.sigmoid()).sum(1, keepdim=True),
    "the largest": lambda z: torch.sigmoid(z).amax(1, keepdim=True),
    "masked": lambda z: torch.sigmoid(z).masked_fill(torch.arange(5) == 1, 0.0),
    "exp · mask, normalized": lambda z: normalized(z.exp() * MASK),
    "exp · prior, normalized": lambda z: normalized(z.exp() * PRIOR),
    "exp · mask / (sum + ε)": lambda z: z.exp() * MASK / ((z.exp() * MASK).sum(-1, True) + 1e-6),
    "softmax · mask, normalized": lambda z: normalized(z.softmax(-1) * MASK),
    "exp, masked and normalized": lambda z: normalized(z.exp().masked_fill(MASK == 0, 0.0)),
    "where(mask, exp, 0), normalized": lambda z: normalized(torch.where(MASK > 0, z.exp(), 0.0)),
    "product in logs": lambda z: torch.exp(F.logsigmoid(z) + F.logsigmoid(-2 * z)),
    "product by softplus": lambda z: torch.exp(-F.softplus(z) - F.softplus(-2 * z)),
    "product of stacked logs": lambda z: torch.exp(stacked_logs(z)),
    "running product in logs": lambda z: F.logsigmoid(z).cumsum(-1).exp(),
    "exp(-log1p(exp))": lambda z: torch.exp(-log1p_exp(-z)),
    "exp(-log(1 + exp))": lambda z: torch.exp(-torch.log(1 + torch.exp(-z))),
    "decay by log1p": lambda z: torch.exp(-torch.exp(PRIOR / 9) * log1p_exp(z)),
    "power of a gate": lambda z: torch.sigmoid(-z) ** torch.exp(PRIOR / 9),
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("capture", ["auto", "export"])
def test_a_gate_gets_nothing(name: str, capture: str) -> None:
    if capture == "export" and name not in list(GATES)[::4]:
        pytest.skip("a quarter of the spellings suffices for the second way in")
    gate = GATES[name]
    mine = relevance(lambda m, x: gate(m.b(x)) * m.a(x), X, capture=capture)
    tolerance = 1e-6 if name == "cast" else EXACT  # it is computed in float32
    assert_same(mine, held(lambda m, x: gate(m.b(x)).detach() * m.a(x), X), tolerance)


def test_a_gate_in_a_denominator_gets_nothing() -> None:
    """``v · sigmoid(z)`` as ``v / (1 + exp(-z))``."""
    mine = relevance(lambda m, x: m.a(x) / (1 + torch.exp(-m.b(x))), X)
    assert_same(mine, held(lambda m, x: m.a(x) * torch.sigmoid(m.b(x)).detach(), X))


DEFERRED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "einsum": lambda e, h: torch.einsum("nt,ntd->nd", e[..., 0], h) / e[..., 0].sum(1, True),
    "einsum of a squeezed": lambda e, h: (
        torch.einsum("nt,ntd->nd", e.squeeze(-1), h) / e.squeeze(-1).sum(1)[:, None]
    ),
}


@pytest.mark.parametrize("name", DEFERRED)
def test_a_softmax_divided_behind_its_sum(name: str) -> None:
    x = numbers(2, 3, 4)
    deferred = DEFERRED[name]
    mine = relevance(lambda m, x: deferred(m.b(x)[..., :1].exp(), m.a(x)), x)
    expected = held(lambda m, x: (m.b(x)[..., :1].softmax(1).detach() * m.a(x)).sum(1), x)
    assert_same(mine, expected)


def test_attention_by_a_quotient() -> None:
    """``Σ h / (1 + exp(-s))`` with scores of two activations is that of ``sigmoid(s) h``."""
    x = numbers(2, 3, 4)

    def scores(m: Model, x: Tensor) -> Tensor:
        return (m.b(x) * m.b(x)[:, :1]).sum(-1, keepdim=True)

    mine = relevance(lambda m, x: (m.a(x) / (1 + torch.exp(-scores(m, x)))).sum(1), x)
    expected = relevance(lambda m, x: (torch.sigmoid(scores(m, x)) * m.a(x)).sum(1), x)
    assert_same(mine, expected)


@pytest.mark.parametrize(
    "relu", [lambda z: z * (1 + torch.sign(z)) / 2, lambda z: (z + z * torch.sign(z)) / 2]
)
def test_a_sign_is_a_function_of_its_argument(relu: Function) -> None:
    assert_same(relevance(lambda m, x: relu(m.a(x)), X), relevance(lambda m, x: F.relu(m.a(x)), X))


NO_GATES: dict[str, Function] = {
    "clamped away from zero": lambda z: torch.sigmoid(z).clamp(0.25, 0.75),
    "1 + sigmoid": lambda z: 1 + torch.sigmoid(z),
    "relu6": F.relu6,
    "clamp to one": lambda z: z.clamp(0, 1),
    "relu": F.relu,
    "tanh": torch.tanh,
    "scaled tanh": lambda z: 1.5 * torch.tanh(0.5 * z),
    "2 sigmoid - 1": lambda z: 2 * torch.sigmoid(z) - 1,
    "hardtanh": F.hardtanh,
    "clamped tanh": lambda z: torch.tanh(z).clamp(0, 1),
    "sum of tanh": lambda z: torch.tanh(z).sum(1, keepdim=True),
    "exp": torch.exp,
    "softplus": F.softplus,
    "share of a positive part": lambda z: F.relu(z) / (F.relu(z).sum(1, keepdim=True) + 1),
    "1 / (1 + z²)": lambda z: 1 / (1 + z**2),
    "product with a tanh": lambda z: torch.sigmoid(z) * torch.tanh(z),
    "sigmoid by unknown constants": lambda z: torch.sigmoid(z) + torch.arange(5.0).to(z),
}


@pytest.mark.parametrize("name", NO_GATES)
def test_what_is_no_gate_is_a_signal(name: str) -> None:
    """Beside a gate it takes all, and beside another signal it takes a share."""
    signal = NO_GATES[name]
    x = numbers(3, 4, seed=2)
    gated = relevance(lambda m, x: torch.sigmoid(m.a(x)) * signal(m.b(x)), x)
    alone = relevance(lambda m, x: torch.sigmoid(m.a(x.detach())) * signal(m.b(x)), x)
    assert bool(gated.any())
    assert bool(alone.any())
    mine = two(lambda u, v: u * signal(v))
    assert bool(mine[1].any())
    assert bool(mine[0].any())


def two(function: Callable[[Tensor, Tensor], Tensor], **options) -> tuple[Tensor, ...]:
    """The relevance of two inputs of a function, (N, 5), that is summed up."""

    class Two(nn.Module):
        def forward(self, u: Tensor, v: Tensor) -> Tensor:
            return function(u * 1, v * 1)

    composite = options.pop("composite", "zero")
    lrp = LRPFx(Two(), composite, start=lambda output: torch.ones_like(output), **options)
    return lrp.attribute((numbers(2, 5, seed=3), numbers(2, 5, seed=4)))


def test_two_gates_alone_share() -> None:
    first, second = two(lambda u, v: torch.sigmoid(u) * torch.sigmoid(v) * 1)
    assert torch.equal(first, torch.full_like(first, 0.5))
    assert torch.equal(second, torch.full_like(second, 0.5))


def by_two_exponentials(z: Tensor) -> Tensor:
    return (torch.exp(2 * z) - 1) / (torch.exp(2 * z) + 1)


TANHS: dict[str, Function] = {
    "2 sigmoid(2 z) - 1": lambda z: 2 * torch.sigmoid(2 * z) - 1,
    "1 - 2 sigmoid(-2 z)": lambda z: 1 - 2 * torch.sigmoid(-2 * z),
    "2 (sigmoid(2 z) - 0.5)": lambda z: 2 * (torch.sigmoid(z * 2) - 0.5),
    "2 / (1 + exp(-2 z)) - 1": lambda z: 2 / (1 + torch.exp(-2 * z)) - 1,
    "1 - 2 / (exp(2 z) + 1)": lambda z: 1 - 2 / (torch.exp(2 * z) + 1),
    "(exp(2 z) - 1) / (exp(2 z) + 1)": by_two_exponentials,
    "(1 - exp(-2 z)) / (1 + exp(-2 z))": lambda z: -by_two_exponentials(-z),
}
WRITTEN_OUT: dict[str, tuple[Function, Function]] = {
    **{name: (write, torch.tanh) for name, write in TANHS.items()},
    "3 sigmoid - 1.5": (lambda z: 3 * z.sigmoid() - 1.5, lambda z: 1.5 * torch.tanh(z / 2)),
    "2 hardsigmoid(3 z) - 1": (lambda z: 2 * F.hardsigmoid(3 * z) - 1, F.hardtanh),
    "relu6(z + 3) - 3": (lambda z: F.relu6(z + 3) - 3, lambda z: z.clamp(-3, 3)),
    "3 - relu6(z + 3)": (lambda z: 3 - F.relu6(z + 3), lambda z: -z.clamp(-3, 3)),
    "2 clamp((z + 1) / 2, 0, 1) - 1": (lambda z: 2 * ((z + 1) / 2).clamp(0, 1) - 1, F.hardtanh),
    "hardtanh(z + 1, 0, 2) - 1": (lambda z: F.hardtanh(z + 1, 0.0, 2.0) - 1, F.hardtanh),
    "exp(z) - 1": (lambda z: torch.exp(z) - 1, torch.expm1),
    "1 - exp(z)": (lambda z: 1 - torch.exp(z), lambda z: -torch.expm1(z)),
    "elu": (lambda z: torch.where(z > 0, z, z.exp() - 1), F.elu),
    "log(1 + |z|)": (lambda z: torch.log(1 + z.abs()), lambda z: torch.log1p(z.abs())),
    "softplus": (lambda z: torch.log(1 + torch.exp(z)), F.softplus),
    "logsigmoid": (lambda z: -torch.log(1 + torch.exp(-z)), F.logsigmoid),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_the_numbers_of_an_activation_take_nothing(name: str) -> None:
    """An activation passes everything, also where it is written with numbers added."""
    write, activation = WRITTEN_OUT[name]
    mine, expected = (relevance(lambda m, x, f=f: f(m.a(x)), X) for f in (write, activation))
    assert_same(mine, expected)
    assert_same(expected, held(lambda m, x: m.a(x) * (activation(m.a(x)) / m.a(x)).detach(), X))


KEPT_APART: dict[str, Function] = {
    "z + 1": lambda z: z + 1,
    "tanh + 1": lambda z: torch.tanh(z) + 1,
    "2 sigmoid - 0.9": lambda z: 2 * torch.sigmoid(z) - 0.9,
    "hardsigmoid - 0.9": lambda z: F.hardsigmoid(z) - 0.9,
    "exp - 2": lambda z: torch.exp(z) - 2,
    "relu6(z + 3) - 1": lambda z: F.relu6(z + 3) - 1,
    "clamp of one end": lambda z: (z + 1).clamp(min=0) - 1,
    "log(2 + |z|)": lambda z: torch.log(2 + z.abs()),
    "tanh + unknown numbers": lambda z: 2 * torch.sigmoid(z) - torch.ones(5).cumsum(0) / 5,
}


@pytest.mark.parametrize("name", KEPT_APART)
def test_other_numbers_that_are_added_take_their_share(name: str) -> None:
    """What does not bring the value at rest to zero is a bias."""
    function = KEPT_APART[name]
    mine = relevance(lambda m, x: function(m.a(x)), X)
    gain = function(Model(function).double().a(X))
    output = Model(function).double().out(gain)[:, 1]
    assert (mine.flatten(1).sum(1) - output).abs().max() > 0.01 * output.abs().max()


def test_a_share_that_is_a_softmax() -> None:
    """As a value of its own it gets what a softmax gets."""
    expected = relevance(lambda m, x: m.b(x).softmax(-1), X)
    for name in ("exp normalized", "exp / |exp|", "exp · 1 / sum", "reciprocal of the sum · exp"):
        assert_same(relevance(lambda m, x, f=GATES[name]: f(m.b(x)), X), expected)
    large = relevance(lambda m, x: m.b(x).exp() / m.b(x).exp().sum(-1, True).clamp_min(0.5), X)
    assert (large - expected).abs().max() > 0.01 * expected.abs().max()


# Hand-written cells


class ByHand(nn.Module):
    """A recurrent layer, or the same written out."""

    def __init__(self, layer: nn.RNNBase, written_out: bool) -> None:
        super().__init__()
        self.layer, self.written_out = layer, written_out
        self.out = nn.Linear(4, 2, bias=False)
        nn.init.constant_(self.out.weight, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        if not self.written_out:
            return self.out(self.layer(x)[0][:, -1])
        m = self.layer
        h = c = torch.zeros(2, 4, dtype=torch.float64)
        for t in range(3):
            i = F.linear(x[:, t], m.weight_ih_l0, m.bias_ih_l0)
            k = F.linear(h, m.weight_hh_l0, m.bias_hh_l0)
            if isinstance(m, nn.GRU):
                (i0, i1, i2), (k0, k1, k2) = i.chunk(3, 1), k.chunk(3, 1)
                r, z = torch.sigmoid(i0 + k0), 1 / (1 + torch.exp(-(i1 + k1)))
                h = (1 - z) * torch.tanh(i2 + r * k2) + z * h
            else:
                i0, i1, i2, i3 = (i + k).chunk(4, 1)
                c = torch.sigmoid(i1) * c + torch.sigmoid(i0) * torch.tanh(i2)
                h = torch.sigmoid(i3) * torch.tanh(c)
        return self.out(h)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_recurrent_layer_written_out(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(1)
    layer = kind(3, 4, batch_first=True, bias=True).double()
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
    x = numbers(2, 3, 3)
    composite = composites.Epsilon(1e-15)
    expected, mine = (
        LRPFx(ByHand(layer, out).double(), composite).attribute(x, target=1)
        for out in (False, True)
    )
    assert_same(mine, expected, 1e-8)  # ε / min |z| of the two ways of adding up


# Statistics


def einsum_norm(v: Tensor) -> Tensor:
    return v / torch.einsum("nd,nd->n", v, v).sqrt().unsqueeze(1)


def bmm_norm(v: Tensor) -> Tensor:
    return v / torch.bmm(v.unsqueeze(1), v.unsqueeze(2)).sqrt().squeeze(2)


def matmul_norm(v: Tensor) -> Tensor:
    return v / torch.matmul(v.unsqueeze(-2), v.unsqueeze(-1)).squeeze(-1).sqrt()


def reshaped_norm(v: Tensor) -> Tensor:
    square = torch.bmm(v.reshape(-1, 1, 5), v.reshape(-1, 1, 5).transpose(1, 2))
    return v * square.reshape(-1, 1).rsqrt()


NORMS: dict[str, Function] = {
    "normalize": lambda v: F.normalize(v, dim=1),
    "norm": lambda v: v / v.norm(dim=1, keepdim=True),
    "vector_norm": lambda v: v / torch.linalg.vector_norm(v, dim=-1, keepdim=True),
    "vecdot": lambda v: v / torch.linalg.vecdot(v, v).sqrt().unsqueeze(-1),
    "pow": lambda v: v / v.pow(2).sum(1, keepdim=True).sqrt(),
    "rsqrt": lambda v: (v * torch.rsqrt((v * v).mean(1, keepdim=True))) / math.sqrt(5),
    "scaled": lambda v: 3 * v / (3 * v).norm(dim=1, keepdim=True),
    "einsum": einsum_norm,
    "einsum by an ellipsis": lambda v: v / torch.einsum("...d,...d->...", v, v).sqrt().unsqueeze(1),
    "power": lambda v: v * (v**2).sum(-1, True).pow(-0.5),
    "bmm": bmm_norm,
    "matmul": matmul_norm,
    "bmm of reshaped": reshaped_norm,
    "bmm, indexed": lambda v: v / torch.bmm(v[:, None], v[..., None])[:, 0].sqrt(),
    "bmm, indexed twice": lambda v: v / torch.bmm(v[:, None], v[..., None])[:, 0, 0, None].sqrt(),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_held(name: str) -> None:
    norm = NORMS[name]
    mine = relevance(lambda m, x: norm(m.a(x)), X)
    expected = held(lambda m, x: m.a(x) / m.a(x).norm(dim=1, keepdim=True).detach(), X)
    assert_same(mine, expected)


def test_norms_of_two_towers() -> None:
    """Each norm is the statistic of its own factor, wherever the quotients are written."""
    sums = [
        two(lambda u, v: (F.normalize(u) * F.normalize(v)).sum(1)),
        two(lambda u, v: (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))),
        two(
            lambda u, v: ((u * v) / u.norm(dim=1, keepdim=True) / v.norm(dim=1, keepdim=True)).sum(
                1
            )
        ),
    ]
    for mine in sums[1:]:
        assert_same(mine[0], sums[0][0])
    assert_same(sums[0][0], sums[0][1])


STATISTICS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "variance": lambda v: (v - v.mean(1, keepdim=True), v.var(1, keepdim=True)),
    "mean of squares": lambda v: (
        v - v.mean(1, keepdim=True),
        (v - v.mean(1, keepdim=True)).square().mean(1, keepdim=True),
    ),
    "std": lambda v: (v, v.std(1, keepdim=True)),
    "largest": lambda v: (v, v.amax(1, keepdim=True)),
    "max of a dim": lambda v: (v, v.max(1, keepdim=True)[0]),
    "logsumexp": lambda v: (v, v.logsumexp(1, keepdim=True)),
    "product": lambda v: (v, v.prod(1, keepdim=True)),
    "running sum": lambda v: (v, v.abs().cumsum(1)),
    "window": lambda v: (v, F.avg_pool1d(v.abs().unsqueeze(1), 3, 1, 1).squeeze(1)),
    "window's maximum": lambda v: (v, F.max_pool1d(v.abs().unsqueeze(1), 3, 1, 1).squeeze(1)),
    "of a part of the value": lambda v: (v[:, :2], v.norm(dim=1, keepdim=True)),
    "of the same part": lambda v: (v[:, 1:3], v[:, 1:3].norm(dim=1, keepdim=True)),
    "of a function": lambda v: (v.relu(), v.tanh().norm(dim=1, keepdim=True)),
    "in parts side by side": lambda v: (v, torch.cat([v, v * 2], 1).norm(dim=1, keepdim=True)),
    "refined": lambda v: (v, v.mean(1, keepdim=True) * v.mean(1, keepdim=True).tanh()),
    "spread": lambda v: (v.unsqueeze(1), F.interpolate(v.amax(1)[:, None, None], size=5)),
}


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("divided", [False, True])
def test_a_statistic_gets_nothing(name: str, divided: bool) -> None:
    pair = STATISTICS[name]

    def model(detached: bool) -> Callable[..., Tensor]:
        def function(m: Model, x: Tensor) -> Tensor:
            value, statistic = pair(m.a(x))
            statistic = statistic.detach() if detached else statistic
            y = value / statistic if divided else value * statistic
            return F.pad(y.flatten(1), (0, 5 - y.flatten(1).shape[1]))

        return function

    x = numbers(3, 4, seed=5)
    assert_same(relevance(model(False), x), held(model(True), x), 1e-8)


NO_STATISTICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean of the other tower": lambda u, v: u.mean(1, keepdim=True) * v,
    "sum": lambda u, v: u.sum(1, keepdim=True) * v,
    "maximum": lambda u, v: u.max(1, keepdim=True)[0] * v,
    "window": lambda u, v: F.avg_pool1d(u.unsqueeze(1), 3, 1, 1).squeeze(1) * v,
    "of both": lambda u, v: (u + v).mean(1, keepdim=True) * v,
    "over the batch": lambda u, v: u.amax(0, keepdim=True) * u.tanh() * v,
    "over everything": lambda u, v: u.abs().sum() * u.tanh() * v,
    "of another part": lambda u, v: u[:, :2].mean(1, keepdim=True) * u[:, 2:],
    "two means": lambda u, v: u.mean(1, keepdim=True) * v.mean(1, keepdim=True),
}


@pytest.mark.parametrize("name", NO_STATISTICS)
def test_what_reduces_another_value_is_a_signal(name: str) -> None:
    """Each factor gets its share; over the batch each of three factors gets a third."""
    function = NO_STATISTICS[name]

    class Towers(nn.Module):
        def forward(self, u: Tensor, v: Tensor) -> Tensor:
            return function(u * 1, v * 1).flatten(1) + 0 * v[:, :1]

    inputs = numbers(2, 5, seed=3), numbers(2, 5, seed=4)
    plan = str(LRPFx(Towers()).plan(*inputs))
    assert "Gate()" not in plan
    assert "Half(" in plan


def test_a_statistic_of_a_gate_and_one_of_another_value() -> None:
    """A pooled value times a gate: the pooled value is the signal."""
    first, second = two(lambda u, v: u.mean(1, keepdim=True) * torch.sigmoid(v))
    assert bool(first.any())
    assert not second.any()


def test_local_response_norm() -> None:
    norm = nn.LocalResponseNorm(3, alpha=0.5, k=2.0)

    def model(m: Model, x: Tensor, hold: bool = False) -> Tensor:
        h = m.a(x).reshape(-1, 5, 1)
        y = norm(h)
        return (h * (y / h).detach() if hold else y).flatten(1)

    assert_same(relevance(model, X), held(lambda m, x: model(m, x, True), X))


# Dot products

DOTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "product": lambda u, v: (u * v).sum(-1),
    "einsum": lambda u, v: torch.einsum("nd,nd->n", u, v),
    "einsum, other order": lambda u, v: torch.einsum("nd,dn->n", u, v.t()),
    "einsum by an ellipsis": lambda u, v: torch.einsum("...d,...d->...", u, v),
    "einsum, order": lambda u, v: torch.einsum("...nd,...dn->...n", u[None], v.t()).flatten(),
    "bmm": lambda u, v: torch.bmm(u.unsqueeze(1), v.unsqueeze(2)).flatten(),
    "matmul": lambda u, v: (u.unsqueeze(-2) @ v.unsqueeze(-1)).flatten(),
    "matmul by indices": lambda u, v: (u[:, None] @ v[:, :, None]).flatten(),
    "transposed": lambda u, v: (u.unsqueeze(1) @ v.unsqueeze(1).mT).flatten(),
    "reshaped": lambda u, v: torch.bmm(u.reshape(2, 1, 5), v.reshape(2, 5, 1)).flatten(),
    "vecdot": lambda u, v: torch.linalg.vecdot(u, v),
    "dot": lambda u, v: torch.stack([torch.dot(u[n], v[n]) for n in range(2)]),
}


@pytest.mark.parametrize("name", DOTS)
def test_dot_products(name: str) -> None:
    expected = two(DOTS["product"])
    for mine, right in zip(two(DOTS[name]), expected, strict=True):
        assert torch.equal(mine, right)


def test_einsums_that_are_no_dot_product() -> None:
    """An outer product is a product of factors; a matrix product stays one."""
    outer = two(lambda u, v: torch.einsum("ni,nj->nij", u, v).flatten(1))
    right = two(lambda u, v: (u.unsqueeze(2) * v.unsqueeze(1)).flatten(1))
    assert all(torch.equal(a, b) for a, b in zip(outer, right, strict=True))

    class Attention(nn.Module):
        def forward(self, u: Tensor, v: Tensor) -> Tensor:
            return torch.einsum("nd,nde->ne", u, v.unsqueeze(2) * u.unsqueeze(1))

    plan = LRPFx(Attention()).plan(numbers(2, 5), numbers(2, 5))
    assert "bilinear" in [step.operation.kind for step in plan.steps if step.operation]


# Products of several activations

VIEWS: list[Function] = [
    lambda y: y,
    lambda y: y.reshape(-1, 1).reshape(2, 5),
    lambda y: y.unsqueeze(0).squeeze(0),
    lambda y: 2.5 * y,
    lambda y: -y,
    lambda y: y.t().t(),
    lambda y: y.float().double() if y.dtype == torch.float64 else y,
    lambda y: torch.cat([y.flip(0).flip(0)], 1)[:, :],
]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_product_gives_each_factor_the_same_share(data: st.DataObject) -> None:
    """Whatever the bracketing, with views, casts and constants between."""
    count = data.draw(st.integers(2, 6))
    steps = []
    for left in range(count, 1, -1):
        i = data.draw(st.integers(0, left - 2))
        steps.append((i, data.draw(st.integers(0, 6)), data.draw(st.booleans())))

    class Product(nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            factors = [x + 0 * x for x in inputs]
            for i, view, quotient in steps:
                a, b = factors[i], factors.pop(i + 1)
                factors[i] = VIEWS[view](a / b if quotient else a * b)
            return factors[0]

    inputs = tuple(numbers(2, 5, seed=seed) + 3 for seed in range(count))
    lrp = LRPFx(Product(), "zero", start=lambda output: torch.ones_like(output))
    for mine in lrp.attribute(inputs):
        assert_same(mine, torch.full_like(mine, 1 / count), 1e-6)  # a cast rounds to float32


MIXED_GATES: list[Function] = [
    torch.sigmoid,
    F.hardsigmoid,
    lambda z: (1 + torch.tanh(z)) / 2,
    lambda z: 1 / (1 + torch.exp(-z)),
    lambda z: F.normalize(z.exp(), p=1, dim=-1),
]
MIXED_STATISTICS: list[Function] = [
    lambda u: u.norm(dim=1, keepdim=True),
    lambda u: u.var(1, keepdim=True),
    lambda u: (u * u).sum(1, True).sqrt(),
    lambda u: torch.einsum("...d,...d->...", u, u)[:, None],
]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_gates_and_statistics_get_nothing_in_any_mixture(data: st.DataObject) -> None:
    """Of n signals each gets 1/n, whatever else is in the product and however it is bracketed."""
    count = data.draw(st.integers(1, 3))
    gates = data.draw(st.lists(st.sampled_from(MIXED_GATES), max_size=2))
    statistics = data.draw(
        st.lists(
            st.tuples(st.sampled_from(MIXED_STATISTICS), st.integers(0, count - 1)), max_size=2
        )
    )
    total = count + len(gates) + len(statistics)
    order = data.draw(st.permutations(range(total)))
    steps = [
        (
            data.draw(st.integers(0, left - 2)),
            data.draw(st.integers(0, 6)),
            data.draw(st.booleans()),
        )
        for left in range(total, 1, -1)
    ]

    class Mixture(nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            *values, z = (x + 0 * x for x in inputs)
            factors = [*values, *(gate(z + i) for i, gate in enumerate(gates))]
            factors += [statistic(values[i]).expand(2, 5) for statistic, i in statistics]
            factors = [factors[i] for i in order]
            for i, view, quotient in steps:
                a, b = factors[i], factors.pop(i + 1)
                factors[i] = VIEWS[view](a / b if quotient else a * b)
            return factors[0] + 0 * z

    inputs = tuple(numbers(2, 5, seed=seed) + 3 for seed in range(count + 1))
    lrp = LRPFx(Mixture(), "zero", start=lambda output: torch.ones_like(output))
    *mine, of_gates = lrp.attribute(inputs)
    for each in mine:
        assert_same(each, torch.full_like(each, 1 / count), 1e-6)  # a cast rounds to float32
    assert not of_gates.any()


def test_powers_count_as_factors() -> None:
    """``u² v`` is ``u u v``, and ``u² / v³`` has five factors."""
    for product in (
        lambda u, v: u**2 * v,
        lambda u, v: u * (u * v),
        lambda u, v: torch.square(u) / v,
        lambda u, v: (u * u) * v,
        lambda u, v: torch.reciprocal(v) * u.pow(2),
    ):
        first, second = two(product)
        assert_same(first, torch.full_like(first, 2 / 3))
        assert_same(second, torch.full_like(second, 1 / 3))
    first, _ = two(lambda u, v: u**2 / v**3)
    assert_same(first, torch.full_like(first, 2 / 5))
    first, _ = two(lambda u, v: (u * v) ** 2 * u)
    assert_same(first, torch.full_like(first, 3 / 5))


EQUAL_CALLS: dict[str, Callable[[Model, Tensor], Tensor]] = {
    "in a row": lambda m, x: m.a(x) * m.a(x) * m.b(x),
    "apart": lambda m, x: m.a(x) * (m.b(x) * m.a(x)),
    "behind an activation": lambda m, x: m.a(x).abs() * m.a(x).abs() * m.b(x),
    "one read elsewhere": lambda m, x: (lambda a: a * m.a(x) * m.b(x) + 0 * a)(m.a(x)),
    "divided": lambda m, x: m.b(x) / m.a(x) / m.a(x),
    "as views": lambda m, x: (m.a(x)[:, None] * m.a(x)[:, None] * m.b(x)[:, None])[:, 0],
}


@pytest.mark.parametrize("name", EQUAL_CALLS)
@pytest.mark.parametrize("capture", ["auto", "export"])
def test_equal_calls_are_one_factor_twice(name: str, capture: str) -> None:
    """A layer that is called twice on one value gives ``a² b``, whose relevance is known."""
    function = EQUAL_CALLS[name]
    mine = relevance(function, X, capture=capture)

    def shares(model: Model, x: Tensor) -> Tensor:
        whole = function(model, x).detach()
        a, b = (each / each.detach() for each in (model.a(x), model.b(x)))
        return whole * (2 * a + b) / 3

    assert_same(mine, held(shares, X))


def test_gates_and_statistics_do_not_count() -> None:
    """``σ(v) u v / |u|`` has two signals, in every bracketing."""
    for product in (
        lambda u, v: torch.sigmoid(v) * (u * v) / u.norm(dim=1, keepdim=True),
        lambda u, v: (v / u.norm(dim=1, keepdim=True)) * (torch.sigmoid(v) * u),
        lambda u, v: (torch.sigmoid(v) / u.norm(dim=1, keepdim=True)) * u * v,
    ):
        for mine in two(product):
            assert_same(mine, torch.full_like(mine, 0.5))


def test_a_value_that_is_read_twice_counts_all_its_factors() -> None:
    """``p = u v`` used twice gives what ``u v`` written twice gives."""

    def shared(u: Tensor, v: Tensor) -> Tensor:
        product = u * v
        return torch.cat([product * (u + 1), product * (v + 2)], 1)

    def twice(u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([(u * v) * (u + 1), u * (v * (v + 2))], 1)

    for mine, right in zip(two(shared), two(twice), strict=True):
        assert_same(mine, right)


@pytest.mark.parametrize("swap", [False, True])
def test_activations_written_out(swap: bool) -> None:
    """``u · g(u)`` is a function of ``u``: all to it, and one factor of a longer product."""

    def gelu(v: Tensor) -> Tensor:
        g = 1.5 + torch.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))
        return 0.5 * (g * v if swap else v * g)

    alone, _ = two(lambda u, v: gelu(u) + 0 * v)
    assert_same(alone, torch.ones_like(alone))
    for mine in two(lambda u, v: v * gelu(u)):
        assert_same(mine, torch.full_like(mine, 0.5))
    behind, _ = two(lambda u, v: (u.abs() * (u + 1) if swap else (u + 1) * u.abs()) + 0 * v)
    assert_same(behind, torch.ones_like(behind))


def test_half_by_a_composite_counts_gates_too() -> None:
    half = Composite([(operation("product"), rules.Half())])
    first, second = two(lambda u, v: (torch.sigmoid(v) * u) * (v * 2.0) * u, composite=half)
    assert_same(first, torch.full_like(first, 0.5))
    assert_same(second, torch.full_like(second, 0.5))


def test_the_published_rule_depends_on_the_bracketing() -> None:
    """AttnLRP's rule as published: half each at each product of two; gates get nothing."""
    composite = composites.compat.attnlrp()
    first, _ = two(lambda u, v: (u * v) * (v + 0 * u), composite=composite)
    assert_same(first, torch.full_like(first, 0.25))
    first, _ = two(lambda u, v: u * (v * torch.tanh(v + 0 * u)), composite=composite)
    assert_same(first, torch.full_like(first, 0.5))
    first, second = two(lambda u, v: u * torch.sigmoid(v), composite=composite)
    assert_same(first, torch.ones_like(first))
    assert not second.any()


class Chain(nn.Module):
    """A layer, and so many steps in a row."""

    def __init__(self, step: Callable[..., Tensor], length: int) -> None:
        super().__init__()
        self.fc, self.scale = nn.Linear(4, 4), nn.Parameter(torch.rand(4) + 0.5)
        self.step, self.length = step, length

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        for place in range(self.length):
            y = self.step(self, y, x, place)
        return y


STEPS: dict[str, Callable[..., Tensor]] = {
    "products": lambda m, y, x, i: y * x.tanh(),
    "squares": lambda m, y, x, i: y * y,
    "gates": lambda m, y, x, i: y * torch.sigmoid(x + i),
    "numbers": lambda m, y, x, i: y * 1.001 + 0.001,
    "parameters": lambda m, y, x, i: y * m.scale / m.scale + m.scale - m.scale,
    "statistics": lambda m, y, x, i: y / (1 + y.mean(1, keepdim=True) ** 2),
}


def planning_time(step: Callable[..., Tensor], length: int) -> float:
    lrp = LRPFx(Chain(step, length).double())
    began = time.perf_counter()
    lrp.plan(numbers(2, 4))
    return time.perf_counter() - began


def test_a_long_row_of_views_is_explained() -> None:
    model = Chain(lambda m, y, x, i: y.view(-1, 4, 1).squeeze(-1), 600).double()
    x = numbers(2, 4)
    mine = LRPFx(model, "zero").attribute(x, target=1)
    assert_same(mine, x * model.fc.weight[1].detach())


@pytest.mark.parametrize("name", STEPS)
def test_long_chains_are_planned_in_about_linear_time(name: str) -> None:
    """Neither recursion nor a time that explodes."""
    step = STEPS[name]
    planning_time(step, 10)
    assert planning_time(step, 300) < 20 * planning_time(step, 30) + 0.5


# Final probabilities

PROBABILITIES: dict[str, tuple[Function, Function]] = {
    "softmax": (lambda z: z.softmax(1), lambda z: z),
    "cast": (lambda z: z.softmax(1).float(), lambda z: z.float()),
    "clamp": (lambda z: z.softmax(1).clamp(1e-7, 1 - 1e-7), lambda z: z),
    "log": (lambda z: z.softmax(1).log(), lambda z: z),
    "safe log": (lambda z: torch.log(z.softmax(1) + 1e-9), lambda z: z),
    "log_softmax, scaled": (lambda z: 0.5 * F.log_softmax(z, 1), lambda z: z),
    "scaled": (lambda z: 100 * z.softmax(1), lambda z: z),
    "exp / sum": (share, lambda z: z),
    "exp(log_softmax)": (lambda z: F.log_softmax(z, 1).exp(), lambda z: z),
    "z - logsumexp": (lambda z: z - z.logsumexp(1, keepdim=True), lambda z: z),
    "1 / (1 + exp(-z))": (lambda z: 1 / (1 + torch.exp(-z)), lambda z: z),
    "(1 + tanh(z / 2)) / 2": (lambda z: (1 + torch.tanh(z / 2)) / 2, lambda z: z),
    "select": (lambda z: torch.sigmoid(z)[:, 0], lambda z: z[:, 0]),
    "slice": (lambda z: torch.sigmoid(z)[:, -3:], lambda z: z[:, -3:]),
    "transpose": (lambda z: z.softmax(1).unsqueeze(1).transpose(1, 2), lambda z: z.unsqueeze(2)),
    "flip": (lambda z: torch.sigmoid(z).flip(1), lambda z: z.flip(1)),
    "unbind": (lambda z: torch.sigmoid(z).unbind(1)[1], lambda z: z[:, 1]),
    "chunks again": (lambda z: torch.cat(torch.sigmoid(z).chunk(2, 1), 1), lambda z: z),
    "complement": (lambda z: 1 - torch.sigmoid(z), lambda z: -z),
    "complement of a view": (lambda z: 1 - torch.sigmoid(z).flip(1), lambda z: -z.flip(1)),
    "twice the complement": (lambda z: 1 - (1 - torch.sigmoid(z)), lambda z: z),
    "surprisal": (lambda z: -torch.log(torch.sigmoid(z)), lambda z: -z),
    "log of the complement": (lambda z: torch.log(1 - torch.sigmoid(z)), lambda z: -z),
    "both": (
        lambda z: torch.stack([1 - torch.sigmoid(z[:, 0]), torch.sigmoid(z[:, 0])], 1),
        lambda z: torch.stack([-z[:, 0], z[:, 0]], 1),
    ),
    "log-odds": (lambda z: z.sigmoid().log() - (1 - z.sigmoid()).log(), lambda z: z),
    "log-odds of logsigmoids": (lambda z: F.logsigmoid(z) - F.logsigmoid(-z), lambda z: z),
    "log of the odds": (lambda z: torch.log(z.sigmoid() / (1 - z.sigmoid() + 1e-9)), lambda z: z),
    "odds": (lambda z: z.sigmoid() / (1 - z.sigmoid()), lambda z: z),
    "odds by the other": (lambda z: z.sigmoid() / torch.sigmoid(-z), lambda z: z),
    "logit": (lambda z: torch.logit(z.sigmoid()), lambda z: z),
    "safe logit": (lambda z: torch.logit(z.sigmoid().clamp(1e-6, 1 - 1e-6)), lambda z: z),
    "log(1 / p - 1)": (lambda z: -torch.log(1 / z.sigmoid() - 1), lambda z: z),
    "squeezed odds": (
        lambda z: z.sigmoid()[:, :1].squeeze(1) / (1 - z.sigmoid())[:, :1].squeeze(1),
        lambda z: z[:, 0],
    ),
    "surprisal of the complement": (lambda z: -torch.log1p(-z.sigmoid()), lambda z: z),
    "cloglog": (lambda z: torch.log(-torch.log(1 - z.sigmoid())), lambda z: z),
    "difference of logarithms": (
        lambda z: F.log_softmax(z, 1)[:, 1] - F.log_softmax(z, 1)[:, 0],
        lambda z: z[:, 1] - z[:, 0],
    ),
    "negative difference": (
        lambda z: -z.softmax(1)[:, 1].log() + z.softmax(1)[:, 0].log(),
        lambda z: z[:, 0] - z[:, 1],
    ),
    "log of a ratio": (
        lambda z: 2 * torch.log(z.softmax(1)[:, 1:] / (z.softmax(1)[:, :1] + 1e-9))[:, 0],
        lambda z: z[:, 1] - z[:, 0],
    ),
    "unbound ratio": (
        lambda z: torch.div(*z.softmax(1).unbind(1)),
        lambda z: z[:, 0] - z[:, 1],
    ),
    "shares again": (lambda z: z.softmax(1) / z.softmax(1).sum(1, keepdim=True), lambda z: z),
    "masked_fill": (
        lambda z: z.softmax(1).masked_fill(torch.tensor([False, True]), 0.0),
        lambda z: z * torch.tensor([1.0, 0.0]),
    ),
    "where": (
        lambda z: torch.where(torch.tensor([True, False]), z.sigmoid(), 0.0),
        lambda z: z * torch.tensor([1.0, 0.0]),
    ),
    "masked shares": (
        lambda z: F.normalize(z.softmax(1) * 1.0, p=1, dim=1),
        lambda z: z,
    ),
    "temperature": (lambda z: (z / 2.5).softmax(1), lambda z: z / 2.5),
    "z and 0": (
        lambda z: torch.stack([z[:, 1], torch.zeros_like(z[:, 1])], 1).softmax(1),
        lambda z: torch.stack([z[:, 1], -z[:, 1]], 1),
    ),
    "log(exp / sum)": (lambda z: z - z.exp().sum(1, keepdim=True).log(), lambda z: z),
    "log of the sum, shifted": (
        lambda z: z - z.amax(1, True) - (z - z.amax(1, True)).exp().sum(1, keepdim=True).log(),
        lambda z: z,
    ),
    "logsumexp written out": (
        lambda z: z - (z.amax(1, True) + (z - z.amax(1, True)).exp().sum(1, True).log()),
        lambda z: z,
    ),
    "several heads": (
        lambda z: torch.cat([z.softmax(1), torch.sigmoid(z)], 1),
        lambda z: torch.cat([z, z], 1),
    ),
    "left: 2 sigmoid - 1": (lambda z: 2 * torch.sigmoid(z) - 1, lambda z: 2 * torch.sigmoid(z) - 1),
    "left: tanh": (torch.tanh, torch.tanh),
    "left: mean": (lambda z: z.softmax(1).mean(1), lambda z: z.softmax(1).mean(1)),
    "left: product": (lambda z: z.softmax(1) * z, lambda z: z.softmax(1) * z),
    "left: a wide clamp": (
        lambda z: z.sigmoid().clamp(0, 0.5),
        lambda z: z.sigmoid().clamp(0, 0.5),
    ),
    **{
        f"left: {name}": (end, end)
        for name, end in {
            "log of a shifted one": lambda z: (1 + z.sigmoid()).log(),
            "padded": lambda z: F.pad(z.sigmoid(), (1, 0)),
            "variance": lambda z: z.sigmoid() * (1 - z.sigmoid()),
            "shares of sigmoids": lambda z: z.sigmoid() / z.sigmoid().sum(1, keepdim=True),
            "p - (1 - p)": lambda z: z.sigmoid() - (1 - z.sigmoid()),
            "log of two sigmoids": lambda z: F.logsigmoid(z)[:, 0] - F.logsigmoid(z)[:, 1],
            "log of another softmax": lambda z: (
                z.softmax(1)[:, 0].log() - (2 * z).softmax(1)[:, 1].log()
            ),
            "other weights": lambda z: 2 * z.softmax(1)[:, 0].log() - z.softmax(1)[:, 1].log(),
            "beside another": lambda z: torch.cat([z.sigmoid(), z], 1),
        }.items()
    },
}


class Ending(nn.Module):
    def __init__(self, end: Function, several: bool = False) -> None:
        super().__init__()
        self.fc, self.end, self.several = nn.Linear(3, 2), end, several
        nn.init.normal_(self.fc.weight, generator=torch.Generator().manual_seed(2))

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        z = self.fc(x)
        return {"features": z, "p": self.end(z)} if self.several else self.end(z)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_final_probabilities_are_explained_at_their_logits(name: str) -> None:
    end, logits = PROBABILITIES[name]
    x = numbers(3, 3)
    model = Ending(end).double()
    lrp, right = LRPFx(model, "zero"), logits(model.fc(x)).detach()
    for _ in range(2):  # the nodes of the first call are those of the second
        assert_same(lrp.explained_output(x), right)
    target = None if right.dim() == 1 else (1,) + (0,) * (right.dim() - 2)
    bare = LRPFx(Ending(logits).double(), "zero")
    if not name.startswith("left"):  # else the logits of the right answer would be left out too
        bare_model = Ending(logits).double()
        bare_model.load_state_dict(model.state_dict())
        bare = LRPFx(bare_model, "zero")
        assert_same(lrp.attribute(x, target=target), bare.attribute(x, target=target))
    assert ("behind the model's" in str(lrp.plan(x))) == (
        not name.startswith("left") and "last operation (" not in str(lrp.plan(x))
    )


def test_one_of_several_outputs_is_explained_at_its_logits() -> None:
    x, model = numbers(3, 3), Ending(lambda z: torch.sigmoid(z)[:, :1].squeeze(1), True).double()
    lrp = LRPFx(model, "zero", output="p")
    assert_same(lrp.explained_output(x), model.fc(x)[:, 0].detach())
    text = str(lrp.plan(x))
    assert "the logits behind the model's last operations (squeeze, slice, sigmoid)" in text
    falling = LRPFx(Ending(lambda z: -torch.sigmoid(z)).double(), "zero").plan(x)
    assert "the logits, negated, behind" in str(falling)
