"""Gates: each spelling has the map of its meaning, in which a gate gets nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx, composites
from tests.helpers.closeness import QUOTIENTS, assert_close
from tests.helpers.meanings import Function, Model, X, held, relevance, share, two
from tests.helpers.numbers import numbers


def expanded(z: Tensor) -> Tensor:
    positive = torch.exp(z)
    return positive / (positive + 1)


def of_two(z: Tensor) -> Tensor:
    return torch.stack([z, torch.zeros_like(z)], -1).softmax(-1)[..., 0]


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
RATES = PRIOR - 3.5


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
    "sign": torch.sign,
    "sgn": torch.sgn,
    "rectified sign": lambda z: z.sign().relu(),
    "clamped sign": lambda z: torch.clamp(z.sign(), 0),
    "sign that never closes": lambda z: z.sign() + 3,
    "function of a sign": lambda z: torch.tanh(z.sign()).abs(),
    "z / |z|": lambda z: z / z.abs(),
    "z (1 / |z|)": lambda z: z * (1 / z.abs()),
    "2 |z| / z": lambda z: 2 * z.abs() / z,
    "relu(z) / z": lambda z: z.relu() / z,
    "rounded sigmoid": lambda z: torch.sigmoid(z).round(),
    "floor of a shifted sigmoid": lambda z: torch.floor(torch.sigmoid(z) + 0.5),
    "heaviside": lambda z: torch.heaviside(z, torch.zeros_like(z)),
    "copysign": lambda z: torch.copysign(torch.ones_like(z), z),
    "signbit": lambda z: torch.signbit(z).to(z),
    "sum of signs": lambda z: z.sign().sum(1, keepdim=True),
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("capture", ["auto", "export"])
def test_a_gate_gets_nothing(name: str, capture: str) -> None:
    if capture == "export" and name not in list(GATES)[::4]:
        pytest.skip("a quarter of the spellings suffices for the second way in")
    gate = GATES[name]
    mine = relevance(lambda m, x: gate(m.b(x)) * m.a(x), X, capture=capture)
    tolerance = 1e-6 if name == "cast" else QUOTIENTS  # it is computed in float32
    assert_close(mine, held(lambda m, x: gate(m.b(x)).detach() * m.a(x), X), tolerance)


def test_a_gate_in_a_denominator_gets_nothing() -> None:
    """``v · sigmoid(z)`` as ``v / (1 + exp(-z))``."""
    mine = relevance(lambda m, x: m.a(x) / (1 + torch.exp(-m.b(x))), X)
    assert_close(mine, held(lambda m, x: m.a(x) * torch.sigmoid(m.b(x)).detach(), X), QUOTIENTS)


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
    assert_close(mine, expected, QUOTIENTS)


def test_attention_by_a_quotient() -> None:
    """``Σ h / (1 + exp(-s))`` with scores of two activations is that of ``sigmoid(s) h``."""
    x = numbers(2, 3, 4)

    def scores(m: Model, x: Tensor) -> Tensor:
        return (m.b(x) * m.b(x)[:, :1]).sum(-1, keepdim=True)

    mine = relevance(lambda m, x: (m.a(x) / (1 + torch.exp(-scores(m, x)))).sum(1), x)
    expected = relevance(lambda m, x: (torch.sigmoid(scores(m, x)) * m.a(x)).sum(1), x)
    assert_close(mine, expected, QUOTIENTS)


@pytest.mark.parametrize(
    "relu", [lambda z: z * (1 + torch.sign(z)) / 2, lambda z: (z + z * torch.sign(z)) / 2]
)
def test_a_sign_is_a_function_of_its_argument(relu: Function) -> None:
    assert_close(
        relevance(lambda m, x: relu(m.a(x)), X),
        relevance(lambda m, x: F.relu(m.a(x)), X),
        QUOTIENTS,
    )


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
    "stairs": lambda z: (3 * z.clamp(-1, 1)).round(),
    "sign times a value": lambda z: z.sign() * z.abs().sqrt(),
    "z / (1 + |z|)": lambda z: z / (1 + z.abs()),
    "sum of tanh": lambda z: torch.tanh(z).sum(1, keepdim=True),
    "exp": torch.exp,
    "softplus": F.softplus,
    "share of a positive part": lambda z: F.relu(z) / (F.relu(z).sum(1, keepdim=True) + 1),
    "1 / (1 + z²)": lambda z: 1 / (1 + z**2),
    "product with a tanh": lambda z: torch.sigmoid(z) * torch.tanh(z),
    "decay at rates of both signs": lambda z: torch.exp(-F.softplus(z) * RATES),
    "complement of a gate times constants": lambda z: 1 - torch.sigmoid(z) * RATES,
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
    assert_close(mine, expected, QUOTIENTS)
    assert_close(
        expected, held(lambda m, x: m.a(x) * (activation(m.a(x)) / m.a(x)).detach(), X), QUOTIENTS
    )


KEPT_APART: dict[str, Function] = {
    "z + 1": lambda z: z + 1,
    "tanh + 2": lambda z: torch.tanh(z) + 2,
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
        assert_close(relevance(lambda m, x, f=GATES[name]: f(m.b(x)), X), expected, QUOTIENTS)
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
    assert_close(mine, expected, 1e-8)  # ε / min |z| of the two ways of adding up
