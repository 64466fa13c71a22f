"""Pairs of spellings that public code uses: one function, one map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.composites import PRESETS
from tests.helpers.closeness import QUOTIENTS, ROUNDING, STABILIZED, assert_close

SIZE, TOKENS = 8, 4
ROW, SENTENCE, IMAGE = (2, SIZE), (2, TOKENS, SIZE), (2, 2, 6, 6)
WORDS = (2, 5)
"""The shape of words, which are integers; 0 pads."""
Written = Callable[["Parts", Tensor], Tensor]


class Parts(nn.Module):
    """Layers that a function may call, and a linear output of what it yields."""

    def __init__(self, function: Written, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.function = function
        for name in ("a", "h", "z", "q", "k", "v"):
            self.add_module(name, nn.Linear(SIZE, SIZE))
        self.first, self.second = (nn.Conv2d(2, 3, 3, padding=1) for _ in range(2))
        self.point, self.joint = nn.Conv2d(3, 3, 1), nn.Conv2d(6, 4, 3)
        self.norm, self.norm_of_both = nn.BatchNorm2d(3), nn.BatchNorm2d(6)
        for norm in (self.norm, self.norm_of_both):
            for tensor in (norm.weight.data, norm.running_var):
                tensor.uniform_(0.4, 1.6)
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.normal_()
        self.table = nn.Embedding(11, SIZE)
        self.state = nn.Parameter(torch.randn(SIZE))
        self.shift = nn.Parameter(torch.randn(SIZE))
        self.weight = nn.Parameter(torch.randn(3, 500) / 10)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self, x).flatten(1)
        return F.linear(y, self.weight[:, : y.shape[1]])


def _share(e: Tensor) -> Tensor:
    return e / e.sum(-1, keepdim=True)


def _weigh(m: Parts, y: Tensor) -> Tensor:
    """A gate for each token, of a layer's scores."""
    return m.q(y)[..., :1].sigmoid()


def _rms(y: Tensor) -> Tensor:
    return y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)


def _turned(m: Parts, c: Tensor, before: bool) -> Tensor:
    size = c.norm(dim=-1, keepdim=True)
    return F.linear(c / size, m.h.weight) if before else F.linear(c, m.h.weight) / size


def _normed_and_gated(m: Parts, x: Tensor) -> list[Tensor]:
    value = m.a(x) * m.z(x).sigmoid()
    normed = value / value.norm(dim=-1, keepdim=True)
    return [normed * m.h(x).sigmoid(), normed, value]


def _local_response(y: Tensor) -> Tensor:
    squares = y.square()
    padded = F.pad(squares, (0, 0, 0, 0, 1, 1))
    sums = padded[:, :-2] + squares + padded[:, 2:]
    return y / (1 + 0.1 * sums / 3) ** 0.75


def _hardswish(y: Tensor) -> Tensor:
    return y * F.relu6(y + 3) / 6


def _attending(weights: Callable[[Tensor], Tensor]) -> Written:
    return lambda m, x: weights(m.q(x) @ m.k(x).mT / math.sqrt(SIZE)) @ m.v(x)


def _statistic(of: Callable[[Tensor], Tensor]) -> Written:
    def write(m: Parts, x: Tensor) -> Tensor:
        c = m.a(x)
        return c / of(c)

    return write


def _gated(gate: Callable[[Tensor, Tensor], Tensor]) -> Written:
    return lambda m, x: gate(m.a(x), m.z(x))


def _with_gate(blend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Written:
    """A gate, a value and a state."""
    return lambda m, x: blend(m.z(x).sigmoid(), m.a(x), m.state)


def _with_values(blend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Written:
    """A gate and two values."""
    return lambda m, x: blend(m.z(x).sigmoid(), m.a(x).tanh(), m.h(x).tanh())


def _late(m: Parts, x: Tensor) -> Tensor:
    e = (m.q(x) @ m.k(x).mT / math.sqrt(SIZE)).exp()
    return (e @ m.v(x)) / (e @ torch.ones(TOKENS, 1, dtype=x.dtype))


def _appended(m: Parts, x: Tensor) -> Tensor:
    y = (m.q(x) @ m.k(x).mT / math.sqrt(SIZE)).exp() @ F.pad(m.v(x), (0, 1), value=1.0)
    return y[..., :-1] / y[..., -1:]


def _linear_attention(m: Parts, x: Tensor) -> Tensor:
    q, k = m.q(x).relu(), m.k(x).relu()
    return (q @ (k.mT @ m.v(x))) / (q @ k.sum(1)[:, :, None] + 1e-15)


def _linear_attention_at_once(m: Parts, x: Tensor) -> Tensor:
    y = m.q(x).relu() @ (m.k(x).relu().mT @ F.pad(m.v(x), (0, 1), value=1.0))
    return y[..., :-1] / (y[..., -1:] + 1e-15)


def _cosines(norms: Callable[[Tensor, Tensor], Tensor]) -> Written:
    def write(m: Parts, x: Tensor) -> Tensor:
        q, k = m.q(x), m.k(x)
        sizes = norms(q.square().sum(-1, keepdim=True), k.square().sum(-1)[:, None])
        return (q @ k.mT / sizes).softmax(-1) @ m.v(x)

    return write


def _normed(m: Parts, part: slice, value: Tensor) -> Tensor:
    norm = m.norm_of_both
    assert norm.running_mean is not None
    assert norm.running_var is not None
    statistics = norm.running_mean[part], norm.running_var[part]
    return F.batch_norm(value, *statistics, norm.weight[part], norm.bias[part])


def _normed_apart(m: Parts, x: Tensor) -> Tensor:
    first, second = m.first(x), m.second(x)
    return torch.cat([_normed(m, slice(3), first), _normed(m, slice(3, 6), second)], 1)


def _normed_together(m: Parts, x: Tensor) -> Tensor:
    return m.norm_of_both(torch.cat([m.first(x), m.second(x)], 1))


def _two_causes(q: Tensor, k: Tensor) -> Tensor:
    return q.sqrt() * k.sqrt()


def _lower() -> Tensor:
    return torch.ones(TOKENS, TOKENS, dtype=torch.float64).tril()


def _chosen(m: Parts, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The weights and the numbers of two of three experts, and what the experts yield."""
    weights, numbers = m.z(x)[:, :3].softmax(-1).topk(2, -1)
    return weights, numbers, [m.a(x).relu(), m.h(x).relu(), m.v(x).relu()]


def _combined(combine: Callable[[Tensor, Tensor], Tensor]) -> Written:
    """Experts weighted by a matrix of samples and experts."""

    def write(m: Parts, x: Tensor) -> Tensor:
        weights, numbers, experts = _chosen(m, x)
        return (combine(weights, numbers)[..., None] * torch.stack(experts, 1)).sum(1)

    return write


def _picked(m: Parts, x: Tensor) -> Tensor:
    """The experts' values first, the places that the gate chose in the middle."""
    weights, numbers, experts = _chosen(m, x)
    places = F.one_hot(numbers, 3).double()
    return torch.einsum("ned,nke,nk->nd", torch.stack(experts, 1), places, weights)


def _gated_by_sum(total: Callable[[Tensor], Tensor]) -> Written:
    """A value times a sum of three gates."""
    return lambda m, x: m.a(x) * total(m.z(x)[:, :3].sigmoid())


def _recurrent(gates: Callable[[Tensor], Sequence[Tensor]]) -> Written:
    """Three steps of an LSTM cell with two units."""

    def write(m: Parts, x: Tensor) -> Tensor:
        hidden = cell = torch.zeros_like(x[:, :2])
        for _ in range(3):
            write, keep, new, read = gates(m.z(x) + F.linear(hidden, m.h.weight[:, :2]))
            cell = keep * cell + write * new
            hidden = read * cell.tanh()
        return hidden

    return write


def _one_by_one(z: Tensor) -> Sequence[Tensor]:
    write, keep, new, read = z.chunk(4, 1)
    return write.sigmoid(), keep.sigmoid(), new.tanh(), read.sigmoid()


def _activated(z: Tensor) -> Tensor:
    return torch.cat([z[:, :4].sigmoid(), z[:, 4:6].tanh(), z[:, 6:].sigmoid()], 1)


def _stacked(z: Tensor) -> Tensor:
    return torch.stack(list(_one_by_one(z)), 2)


def _row_by_row(places: Callable[[Tensor], tuple[Tensor, ...]]) -> Written:
    """Each expert reads the rows that chose it."""

    def write(m: Parts, x: Tensor) -> Tensor:
        weights, numbers, _ = _chosen(m, x)
        total = torch.zeros_like(x)
        for expert, layer in enumerate((m.a, m.h, m.v)):
            row, place = places(numbers == expert)
            total.index_add_(0, row, layer(x[row]).relu() * weights[row, place, None])
        return total

    return write


def _of_two(share: Callable[[Tensor, Tensor], Tensor]) -> Written:
    """A value times the share of one of two exponentials."""
    return lambda m, x: m.a(x) * share(m.z(x), m.h(x))


def _expanded(share: Callable[[Tensor, Tensor], Tensor]) -> Written:
    """A value times one gate for all its entries."""
    return lambda m, x: share(m.z(x)[..., :1], m.a(x))


def _mixed(mixture: Callable[[Tensor, list[Tensor]], Tensor]) -> Written:
    """Three values weighted by a softmax over scores."""
    return lambda m, x: mixture(m.z(x)[..., :3], [m.a(x), m.h(x), m.v(x)])


def _tempered(weights: Callable[[Tensor], Tensor]) -> Written:
    return lambda m, x: m.a(x) * weights(m.z(x))


OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "less logaddexp": lambda a, b: torch.exp(a - torch.logaddexp(a, b)),
    "less logaddexp, turned": lambda a, b: torch.exp(a - torch.logaddexp(b, a)),
    "by the exponential of logaddexp": lambda a, b: a.exp() / torch.logaddexp(a, b).exp(),
    "complement of the other, in log space": lambda a, b: (
        1 - torch.exp(b - torch.logsumexp(torch.stack([a, b]), 0))
    ),
    "by a sum of a stack": lambda a, b: a.exp() / torch.stack([a, b], -1).exp().sum(-1),
    "of a stack": lambda a, b: (lambda e: e[0] / e.sum(0))(torch.stack([a, b]).exp()),
    "less the maximum": lambda a, b: (
        lambda top: (a - top).exp() / ((a - top).exp() + (b - top).exp())
    )(torch.maximum(a, b)),
    "less the maximum, in log space": lambda a, b: (
        lambda top: torch.exp(a - top - ((a - top).exp() + (b - top).exp()).log())
    )(torch.maximum(a, b)),
    "by a quotient": lambda a, b: (1 + b.exp() / a.exp()) ** -1,
    "softplus of the difference": lambda a, b: torch.exp(-F.softplus(b - a)),
    "log-softmax, selected": lambda a, b: torch.stack([a, b], -1).log_softmax(-1)[..., 0].exp(),
}
"""Spellings of ``sigmoid(a - b)``."""
EXPANDED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the exponential": lambda z, a: a * z.exp() / (1 + z.exp().expand_as(a)),
    "both exponentials": lambda z, a: a * z.exp().expand_as(a) / (1 + z.exp().expand_as(a)),
    "the sum": lambda z, a: a * z.exp() / (1 + z.exp()).expand_as(a),
    "the falling exponential": lambda z, a: a / (1 + (-z).exp().expand_as(a)),
}
"""What is expanded in ``a sigmoid(z)``."""
MIXTURES: dict[str, Callable[[Tensor, list[Tensor]], Tensor]] = {
    "a sum of parts by their sum": lambda z, y: (
        lambda e: (e[..., :1] * y[0] + e[..., 1:2] * y[1] + e[..., 2:] * y[2]) / e.sum(-1, True)
    )(z.exp()),
    "parts by their sum": lambda z, y: (
        lambda e: sum(
            w / e.sum(-1, keepdim=True) * v for w, v in zip(e.split(1, -1), y, strict=True)
        )
    )(z.exp()),
    "selected parts": lambda z, y: (
        lambda e: sum((e[..., i] / e.sum(-1))[..., None] * v for i, v in enumerate(y))
    )(z.exp()),
}
"""Spellings of ``Σ softmax(z)_i y_i``."""
HYPERBOLIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sinh by cosh": lambda a, z: a * (z.sinh() / z.cosh()),
    "a product by cosh": lambda a, z: a * z.sinh() / z.cosh(),
    "sinh by exponentials": lambda a, z: a * (z.sinh() / ((z.exp() + (-z).exp()) / 2)),
    "exponentials by cosh": lambda a, z: (z.exp() - (-z).exp()) / 2 / z.cosh() * a,
    "exponentials with their double": lambda a, z: a * (1 - 2 / ((2 * z).exp() + 1)),
}
"""Spellings of ``a tanh(z)``."""
TEMPERED: dict[str, Callable[[Tensor], Tensor]] = {
    "powers of a softmax": lambda z: _share(z.softmax(-1) ** 2),
    "powers of exponentials": lambda z: _share(z.exp().square()),
    "multiples of a log-softmax": lambda z: (2 * z.log_softmax(-1)).softmax(-1),
    "multiples of logarithms": lambda z: (2 * z.softmax(-1).log()).softmax(-1),
}
"""Spellings of ``softmax(2 z)``."""
CHOSEN = torch.tensor([1.0, 0, 1, 1], dtype=torch.float64)
SUMS_OF_CHOSEN: dict[str, Callable[[Tensor], Tensor]] = {
    "a batch of products": lambda y: torch.bmm(CHOSEN.expand(2, 1, 4), y)[:, 0],
    "an einsum": lambda y: torch.einsum("t,ntd->nd", CHOSEN, y),
    "a product": lambda y: CHOSEN @ y,
    "tensordot": lambda y: torch.tensordot(CHOSEN, y, ([0], [1])),
    "a column": lambda y: (y.mT @ CHOSEN[:, None])[..., 0],
    "weights": lambda y: 3 * torch.einsum("t,ntd->nd", CHOSEN / 3, y),
    "a softmax of infinite scores": lambda y: (
        3 * (torch.tensor([0, -math.inf, 0, 0], dtype=y.dtype).softmax(0) @ y)
    ),
}
"""Spellings of the sum over the tokens that a mask chooses."""


SOFTMAX = _attending(lambda z: z.softmax(-1))
COMBINED = _combined(lambda w, i: torch.zeros(len(w), 3).double().scatter(1, i, w))
SUM_OF_GATES = _gated_by_sum(lambda g: g[:, :1] + 0.5 * g[:, 1:2] + 2 * g[:, 2:])
LOW = _attending(lambda z: torch.sigmoid(z - math.log(3)))
HIDDEN = _attending(lambda z: z.masked_fill(_lower() == 0, -math.inf).softmax(-1))
GATE = _gated(lambda a, z: a * z.sigmoid())
BLEND = _with_gate(lambda g, a, k: g * a + (1 - g) * k)
DEVIATION = _statistic(lambda c: c.square().mean(1, keepdim=True).sqrt())
NORM = _statistic(lambda c: c.norm(dim=1, keepdim=True))


def _tanh_written_out(m: Parts, x: Tensor) -> Tensor:
    e = torch.exp(-2 * m.a(x))
    return (1 - e) / (1 + e)


def _each_embedded(m: Parts, x: Tensor) -> Tensor:
    """A linear layer of its own for each number, as in the tokenizer of the FT-Transformer."""
    layers = zip(x.split(1, 1), m.h.weight, m.k.weight, strict=True)
    return torch.stack([F.linear(number, w[:, None], b) for number, w, b in layers], 1)


EMBEDDED: dict[str, Written] = {
    "by a product": lambda m, x: x[:, :, None] * m.h.weight + m.k.weight,
    "by a product of copies": lambda m, x: (
        x.unsqueeze(2).expand(-1, -1, SIZE) * m.h.weight + m.k.weight
    ),
    "by a quotient": lambda m, x: x[..., None] / (1 / m.h.weight) + m.k.weight,
    "by addcmul": lambda m, x: torch.addcmul(m.k.weight, x[:, :, None], m.h.weight),
    "by einsum": lambda m, x: torch.einsum("nf,fd->nfd", x, m.h.weight) + m.k.weight,
    "by matrices": lambda m, x: (x[:, :, None, None] @ m.h.weight[:, None])[:, :, 0] + m.k.weight,
    "by a batch of matrices": lambda m, x: (
        torch.bmm(x.T[:, :, None], m.h.weight[:, None]).transpose(0, 1) + m.k.weight
    ),
    "by a convolution": lambda m, x: (
        F.conv1d(x[:, :, None], m.h.weight.reshape(-1, 1, 1), groups=SIZE).view(-1, SIZE, SIZE)
        + m.k.weight
    ),
}
"""What it is also written as."""


def _one_hot(words: Tensor) -> Tensor:
    return F.one_hot(words, 11).double()


def _convolved(m: Parts, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, m.first.weight, m.first.bias, stride=stride, padding=padding)


PADDED: dict[str, tuple[Written, Written]] = {
    "at one side": (
        lambda m, x: _convolved(m, F.pad(x, (2, 0))).relu(),
        lambda m, x: _convolved(m, x, padding=2)[:, :, 2:-2, :-2].relu(),
    ),
    "at the other side, in steps": (
        lambda m, x: _convolved(m, F.pad(F.pad(x, (0, 1)), (0, 0, 0, 1)), 2).relu(),
        lambda m, x: _convolved(m, x, padding=1)[:, :, 1::2, 1::2].relu(),
    ),
    "before a batch norm": (
        lambda m, x: m.norm(_convolved(m, nn.ZeroPad2d((2, 1, 0, 1))(x))).relu(),
        lambda m, x: m.norm(_convolved(m, x, padding=2)[:, :, 2:-1, :-1]).relu(),
    ),
    "at both sides, unevenly, in steps of three": (
        lambda m, x: _convolved(m, F.pad(x, (0, 3, 1, 2)), 3).relu(),
        lambda m, x: _convolved(m, x, padding=3)[:, :, 2::3, 3::3][:, :, :3, :3].relu(),
    ),
}

LOOKED_UP: dict[str, Written] = {
    "by a product": lambda m, x: m.v(_one_hot(x) @ m.table.weight).relu(),
    "by einsum": lambda m, x: m.v(
        torch.einsum("vd,ntv->ntd", m.table.weight, F.one_hot(x, 11).double())
    ).relu(),
    "by a layer": lambda m, x: m.v(F.linear(_one_hot(x).clone(), m.table.weight.mT)).relu(),
    "by a batch of products": lambda m, x: m.v(
        torch.bmm(_one_hot(x), m.table.weight.expand(2, -1, -1))
    ).relu(),
}
BAGS: dict[str, Written] = {
    "by counts": lambda m, x: F.one_hot(x, 11).sum(-2).to(m.table.weight.dtype) @ m.table.weight,
    "by frequencies": lambda m, x: 5 * (_one_hot(x).mean(1) @ m.table.weight),
    "by a product": lambda m, x: (_one_hot(x) @ m.table.weight).sum(1),
}


def _masked(m: Parts, words: Tensor, total: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The mean over the words that are no padding."""
    is_word = words != 0
    return total(m.a(m.table(words)).tanh(), is_word) / is_word.sum(1, keepdim=True)


def _weighted(m: Parts, words: Tensor, mean: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The same by weights, which are zero or one by the number of words."""
    return mean(m.a(m.table(words)).tanh(), words != 0)


MASKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "by a product": lambda h, w: (h * w[..., None]).sum(1),
    "by a product with numbers": lambda h, w: (w.unsqueeze(2).double() * h).sum(dim=-2),
    "by a product with copies": lambda h, w: (h * w[:, :, None].expand(h.shape).to(h)).sum(1),
    "by a product with integers": lambda h, w: (w.long()[..., None] * h).sum(1),
    "by a batch of products": lambda h, w: torch.bmm(w[:, None].to(h), h)[:, 0],
    "by an einsum": lambda h, w: torch.einsum("nt,ntd->nd", w.to(h), h),
    "by columns": lambda h, w: (h.mT @ w[..., None].to(h))[..., 0],
    "by a choice": lambda h, w: torch.where(w[..., None], h, 0.0).sum(1),
}
MEANS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "by weights": lambda h, w: (h * (w.to(h) / w.sum(1, keepdim=True))[..., None]).sum(1),
    "by weights with numbers": lambda h, w: (
        (w.double().unsqueeze(2) / w.sum(1)[:, None, None].clamp(min=1)) * h
    ).sum(-2),
    "by a normalized mask": lambda h, w: torch.einsum(
        "nt,ntd->nd", F.normalize(w.to(h), p=1, dim=1), h
    ),
    "by a batch of products": lambda h, w: torch.bmm(
        (w.to(h) / w.sum(1, keepdim=True))[:, None], h
    )[:, 0],
    "by weights in another shape": lambda h, w: (
        h * (w.to(h) / w.sum(1, keepdim=True)).view(len(w), -1, 1)
    ).sum(1),
    "by multiplied weights": lambda h, w: (
        (w.to(h).sum(1).reciprocal()[:, None] * w)[:, :, None].expand(h.shape) * h
    ).sum(1),
}
"""Means of values ``(N, T, D)`` over the places of a mask ``(N, T)``."""


Pairs = dict[str, tuple[tuple[int, ...], Written, Written]]
PAIRS: Pairs = {
    "statistic selected": (
        ROW,
        DEVIATION,
        _statistic(lambda c: c.square().mean(1, keepdim=True)[:, 0][:, None].sqrt()),
    ),
    "statistic of a row": (
        ROW,
        DEVIATION,
        _statistic(lambda c: c[:, None].square().mean(-1, keepdim=True)[:, 0].sqrt()),
    ),
    "statistic unbound": (
        ROW,
        DEVIATION,
        _statistic(lambda c: c[:, None].square().mean(-1, keepdim=True).unbind(1)[0].sqrt()),
    ),
    "statistic of a row by a column": (
        ROW,
        DEVIATION,
        _statistic(lambda c: ((c[:, None] @ c[:, :, None])[:, 0] / SIZE).sqrt()),
    ),
    "statistic of a window": (
        ROW,
        DEVIATION,
        _statistic(lambda c: F.avg_pool1d((c * c)[:, None], SIZE)[:, 0].sqrt()),
    ),
    "norm selected": (
        ROW,
        NORM,
        _statistic(lambda c: c.norm(dim=1, keepdim=True)[:, 0].unsqueeze(1)),
    ),
    "torch.linalg.norm": (
        ROW,
        NORM,
        _statistic(lambda c: torch.linalg.norm(c, dim=1, keepdim=True)),
    ),
    "softmax by logsumexp": (
        SENTENCE,
        SOFTMAX,
        _attending(lambda z: z.exp() / z.logsumexp(-1, True).exp()),
    ),
    "softmax by its reciprocal": (
        SENTENCE,
        SOFTMAX,
        _attending(lambda z: z.exp() * torch.exp(-z.logsumexp(-1, True))),
    ),
    "softmax by powers of two": (
        SENTENCE,
        SOFTMAX,
        _attending(lambda z: _share(torch.exp2(z * math.log2(math.e)))),
    ),
    "softmax by a product with ones": (SENTENCE, SOFTMAX, _late),
    "softmax with its sum appended": (SENTENCE, SOFTMAX, _appended),
    "softmax without NaN": (SENTENCE, SOFTMAX, _attending(lambda z: z.softmax(-1).nan_to_num())),
    "softmax over one more": (
        SENTENCE,
        _attending(lambda z: F.pad(z, (0, 1)).softmax(-1)[..., :-1]),
        _attending(lambda z: z.exp() / (1 + z.exp().sum(-1, keepdim=True))),
    ),
    "softmax of another type without NaN": (
        SENTENCE,
        _attending(lambda z: z.float().softmax(-1, dtype=torch.float64)),
        _attending(lambda z: z.float().softmax(-1, dtype=torch.float64).nan_to_num(0.0)),
    ),
    "special softmax": (SENTENCE, SOFTMAX, _attending(lambda z: torch.special.softmax(z, -1))),
    "mask in numbers": (SENTENCE, HIDDEN, _attending(lambda z: _share(z.exp() * _lower()))),
    "mask cast to truths": (
        SENTENCE,
        HIDDEN,
        _attending(lambda z: _share(z.exp() * _lower().bool())),
    ),
    **{
        f"sigmoid of lowered scores, {name}": (SENTENCE, LOW, _attending(gate))
        for name, gate in {
            "a number below": lambda z: z.exp() / (3 + z.exp()),
            "a number above and below": lambda z: 2 * z.exp() / (6 + 2 * z.exp()),
            "a factor of the other end": lambda z: (1 + torch.exp(-z) * 3) ** -1,
            "a complement": lambda z: 1 - 3 / (3 + z.exp()),
            "a product": lambda z: (z + 1).exp() * (math.e * (3 + z.exp())).reciprocal(),
        }.items()
    },
    "linear attention": (SENTENCE, _linear_attention, _linear_attention_at_once),
    "cosines by one root": (
        SENTENCE,
        _cosines(_two_causes),
        _cosines(lambda q, k: torch.sqrt(q * k)),
    ),
    "cosines by one reciprocal root": (
        SENTENCE,
        _cosines(_two_causes),
        _cosines(lambda q, k: 1 / torch.rsqrt(q * k)),
    ),
    "decay as a power": (
        SENTENCE,
        _attending(lambda z: (z + _lower() * 0.3).softmax(-1)),
        _attending(lambda z: _share(z.exp() * torch.tensor(0.3, dtype=z.dtype).exp() ** _lower())),
    ),
    "sigmoid in another bracket": (ROW, GATE, _gated(lambda a, z: a * z.exp() / (1 + z.exp()))),
    "sigmoid by softplus": (ROW, GATE, _gated(lambda a, z: a * torch.exp(z - F.softplus(z)))),
    "sigmoid by log-sigmoid": (
        ROW,
        _gated(lambda a, z: a * torch.sigmoid(-z)),
        _gated(lambda a, z: a * torch.exp(F.logsigmoid(z) - z)),
    ),
    "divided by a number and an exponential": (
        ROW,
        _gated(lambda a, z: a * torch.sigmoid(math.log(3) - z) / 3),
        _gated(lambda a, z: a / (3 + z.exp())),
    ),
    "gate on a diagonal": (
        ROW,
        GATE,
        _gated(lambda a, z: (torch.diag_embed(z.sigmoid()) @ a[:, :, None])[:, :, 0]),
    ),
    "gate on a diagonal, at the right": (
        ROW,
        GATE,
        _gated(lambda a, z: (a[:, None] @ torch.diag_embed(z.sigmoid()))[:, 0]),
    ),
    "gate without NaN": (ROW, GATE, _gated(lambda a, z: a * z.sigmoid().nan_to_num(0.0))),
    "root of a gate": (
        ROW,
        _gated(lambda a, z: a * z.sigmoid().sqrt()),
        _gated(lambda a, z: a * z.sigmoid() ** 0.5),
    ),
    "gate padded by reflection": (
        ROW,
        _gated(lambda a, z: a[:, 1:7] * F.pad(z[:, None, 1:5].sigmoid(), (1, 1), "reflect")[:, 0]),
        _gated(
            lambda a, z: (
                a[:, 1:7] * (F.pad(1 + z[:, None, 1:5].sigmoid(), (1, 1), "reflect") - 1)[:, 0]
            )
        ),
    ),
    "state less what closes": (
        ROW,
        lambda m, x: m.shift + m.state * m.z(x).sigmoid(),
        lambda m, x: m.shift + m.state - m.state * torch.sigmoid(-m.z(x)),
    ),
    "blend with a state": (ROW, BLEND, _with_gate(lambda g, a, k: g * a + k - g * k)),
    "blend away from a state": (ROW, BLEND, _with_gate(lambda g, a, k: k - g * (k - a))),
    "blend away from a value": (
        ROW,
        _with_values(lambda g, a, h: torch.lerp(a, h, g)),
        _with_values(lambda g, a, h: a - g * (a - h)),
    ),
    "batch norm of joined channels": (IMAGE, _normed_apart, _normed_together),
    "batch norm of joined channels, convolved": (
        IMAGE,
        lambda m, x: m.joint(_normed_apart(m, x)),
        lambda m, x: m.joint(_normed_together(m, x)),
    ),
    "batch norm before a flip": (
        IMAGE,
        lambda m, x: m.norm(m.first(x)).relu(),
        lambda m, x: m.norm(m.first(x).flip(3)).flip(3).relu(),
    ),
    "batch norm before upsampling": (
        IMAGE,
        lambda m, x: F.interpolate(m.norm(m.first(x)), scale_factor=2).relu(),
        lambda m, x: m.norm(F.interpolate(m.first(x), scale_factor=2)).relu(),
    ),
    **{
        f"batch norm, {name}, convolution": (
            IMAGE,
            lambda m, x: m.point(m.norm(m.first(x).relu())),
            lambda m, x, move=move: m.point(move(m.norm(m.first(x).relu()))),
        )
        for name, move in {
            "flips": lambda y: y.flip(3).flip(3),
            "rolls": lambda y: y.roll(1, 2).roll(-1, 2),
            "a pad narrowed": lambda y: F.pad(y, (1, 1)).narrow(3, 1, 6),
            "channels apart": lambda y: torch.cat(y.chunk(2, 1), 1),
        }.items()
    },
    **{
        f"a layer subtracted behind {name}": (
            IMAGE,
            lambda m, x: (m.second(x) - m.first(x)).relu(),
            lambda m, x, move=move: (m.second(x) - move(m.first(x))).relu(),
        )
        for name, move in {
            "flips": lambda y: y.flip(3).flip(3),
            "rolls": lambda y: y.roll(1, 2).roll(-1, 2),
            "a pad cut off": lambda y: F.pad(y, (1, 1))[..., 1:-1],
        }.items()
    },
    "a layer subtracted behind a row": (
        ROW,
        lambda m, x: m.a(x) - m.h(x),
        lambda m, x: m.a(x) - m.h(x[:, None])[:, 0],
    ),
    "the largest as the least": (
        IMAGE,
        lambda m, x: m.first(x).amax((2, 3)),
        lambda m, x: -torch.amin(-m.first(x), (2, 3)),
    ),
    "tanh behind views": (
        ROW,
        lambda m, x: m.a(x).relu() - m.h(x).tanh(),
        lambda m, x: m.a(x).relu() - m.h(x).view(-1, 2, 4).tanh().view(-1, SIZE),
    ),
    "tanh by exponentials": (ROW, lambda m, x: m.a(x).tanh(), _tanh_written_out),
    "a number between a product and scores": (
        SENTENCE,
        lambda m, x: (_weigh(m, m.a(x) * m.z(x)) * m.v(x)).sum(1),
        lambda m, x: (_weigh(m, m.a(x) * m.z(x) + 0) * m.v(x)).sum(1),
    ),
    "scores of a normed product": (
        SENTENCE,
        lambda m, x: (_weigh(m, F.rms_norm(m.a(x) * m.z(x), (SIZE,), eps=1e-6)) * m.v(x)).sum(1),
        lambda m, x: (_weigh(m, _rms(m.a(x) * m.z(x))) * m.v(x)).sum(1),
    ),
    "normed scores": (
        SENTENCE,
        lambda m, x: F.rms_norm(m.q(x) @ m.k(x).mT, (TOKENS,), eps=1e-6).softmax(-1) @ m.v(x),
        lambda m, x: _rms(m.q(x) @ m.k(x).mT).softmax(-1) @ m.v(x),
    ),
    "an activation of a product, summed up": (
        SENTENCE,
        lambda m, x: F.hardswish(m.a(x) * m.z(x)).mean(1),
        lambda m, x: _hardswish(m.a(x) * m.z(x)).mean(1),
    ),
    "local response norm by slices, the middle one not padded": (
        IMAGE,
        lambda m, x: F.local_response_norm(m.first(x), 3, alpha=0.1),
        lambda m, x: _local_response(m.first(x)),
    ),
    "two maps, each divided by the norm of what it reads": (
        ROW,
        lambda m, x: _turned(m, _turned(m, m.a(x), True), True),
        lambda m, x: _turned(m, _turned(m, m.a(x), False), False),
    ),
    "a normed value, gated and not, and the value": (
        ROW,
        lambda m, x: sum(_normed_and_gated(m, x)),  # type: ignore[arg-type, return-value]
        lambda m, x: torch.stack(_normed_and_gated(m, x), -1).mean(-1) * 3,
    ),
    **{
        f"chosen weights by {name}": (ROW, COMBINED, _combined(combine))
        for name, combine in {
            "masks": lambda w, i: torch.stack([(w * (i == k)).sum(-1) for k in range(3)], 1),
            "a comparison": lambda w, i: (w[..., None] * (i[..., None] == torch.arange(3))).sum(1),
            "a product with ones and zeros": lambda w, i: (
                w[:, None] @ F.one_hot(i, 3).double()
            ).squeeze(1),
            "an einsum": lambda w, i: torch.einsum("nk,nke->ne", w, F.one_hot(i, 3).to(w)),
            "added entries": lambda w, i: torch.zeros(len(w), 3).double().scatter_add(1, i, w),
            "accumulated entries": lambda w, i: w.new_zeros(len(w), 3).index_put(
                (torch.arange(len(w))[:, None], i), w, True
            ),
        }.items()
    },
    "chosen weights in the middle of an einsum": (ROW, COMBINED, _picked),
    **{
        f"gates summed by {name}": (ROW, SUM_OF_GATES, _gated_by_sum(total))
        for name, total in {
            "a weighted sum": lambda g: (g * torch.tensor([1, 0.5, 2]).double()).sum(1, True),
            "a matrix": lambda g: g @ torch.tensor([[1], [0.5], [2]]).double(),
            "a layer": lambda g: F.linear(g, torch.tensor([[1, 0.5, 2]]).double()),
            "an einsum": lambda g: torch.einsum(
                "nk,k->n", g, torch.tensor([1, 0.5, 2]).double()
            ).unsqueeze(1),
        }.items()
    },
    "a weight of a softmax, picked by a product": (
        ROW,
        lambda m, x: m.a(x) * m.z(x).softmax(1)[:, 2:3],
        lambda m, x: m.a(x) * (m.z(x).softmax(1) @ torch.eye(SIZE)[:, 2:3].double()),
    ),
    "attention with keys turned around by a product": (
        SENTENCE,
        _attending(lambda z: z.softmax(-1).flip(-1)),
        _attending(lambda z: z.softmax(-1) @ torch.eye(TOKENS).flip(0).double()),
    ),
    **{
        f"an LSTM whose gates are {name}": (
            ROW,
            _recurrent(_one_by_one),
            _recurrent(gates),
        )
        for name, gates in {
            "joined and split": lambda z: _activated(z).split([2, 2, 2, 2], 1),
            "joined and sliced": lambda z: [_activated(z)[:, k : k + 2] for k in (0, 2, 4, 6)],
            "stacked": lambda z: _stacked(z).unbind(2),
            "stacked and turned": lambda z: _stacked(z).permute(2, 0, 1).unbind(0),
        }.items()
    },
    **{
        f"a gate {name}": (ROW, GATE, _gated(gated))
        for name, gated in {
            "stacked": lambda a, z: a * torch.stack([a, z.sigmoid()], 1)[:, 1],
            "unbound": lambda a, z: a * torch.stack([z.sigmoid(), a.tanh()]).unbind(0)[0],
            "joined": lambda a, z: a * torch.cat([a.tanh(), z.sigmoid()], 1).chunk(2, 1)[1],
            "joined twice": lambda a, z: (
                a * torch.cat([torch.cat([a, z.sigmoid()], 1), a], 1)[:, SIZE : 2 * SIZE]
            ),
            "joined and scaled": lambda a, z: (
                a * (torch.cat([z.sigmoid(), a], 1) * 2).narrow(1, 0, SIZE) / 2
            ),
        }.items()
    },
    **{
        f"a number beside a bounded factor, {name}": (
            ROW,
            lambda m, x: m.a(x) * (0.5 + (2 * m.z(x)).sigmoid()),
            other,
        )
        for name, other in {
            "tanh": lambda m, x: m.a(x) * (1 + 0.5 * m.z(x).tanh()),
            "turned": lambda m, x: m.a(x) * (1 - 0.5 * (-m.z(x)).tanh()),
            "scaled": lambda m, x: (2 + m.z(x).tanh()) / 2 * m.a(x),
        }.items()
    },
    "a rating between one and five": (
        ROW,
        lambda m, x: 1 + 4 * m.z(x).sigmoid(),
        lambda m, x: 3 + 2 * (m.z(x) / 2).tanh(),
    ),
    **{
        f"tanh by {name}": (ROW, lambda m, x: m.a(x) * m.z(x).tanh(), other)
        for name, other in {
            "exponentials": lambda m, x: (
                m.a(x) * (m.z(x).exp() - (-m.z(x)).exp()) / (m.z(x).exp() + (-m.z(x)).exp())
            ),
            "reciprocals": lambda m, x: (
                (m.z(x).exp() - 1 / m.z(x).exp()) / (m.z(x).exp() + 1 / m.z(x).exp()) * m.a(x)
            ),
        }.items()
    },
    "rows that chose an expert": (
        ROW,
        _row_by_row(lambda chosen: chosen.nonzero(as_tuple=True)),
        _row_by_row(lambda chosen: torch.where(chosen)),
    ),
    **{
        f"numbers embedded {name}": (ROW, lambda m, x: _each_embedded(m, x), embedded)
        for name, embedded in EMBEDDED.items()
    },
    "hidden numbers embedded": (
        ROW,
        lambda m, x: _each_embedded(m, m.a(x)),
        lambda m, x: m.a(x)[:, :, None] * m.h.weight + m.k.weight,
    ),
    "standardized numbers embedded": (
        ROW,
        lambda m, x: _each_embedded(m, (x - m.state) / 2),
        lambda m, x: m.k.weight + m.h.weight * ((x - m.state) / 2).unsqueeze(-1),
    ),
    **{
        f"a convolution padded {name}": (IMAGE, padded, once)
        for name, (padded, once) in PADDED.items()
    },
    **{
        f"words {name}": (WORDS, lambda m, x: m.v(m.table(x)).relu(), written)
        for name, written in LOOKED_UP.items()
    },
    **{
        f"a bag of words {name}": (
            WORDS,
            lambda m, x: F.embedding_bag(x, m.table.weight, mode="sum"),
            written,
        )
        for name, written in BAGS.items()
    },
    "a layer of classes": (
        WORDS,
        lambda m, x: (F.embedding(x, m.table.weight) + m.state).tanh(),
        lambda m, x: F.linear(_one_hot(x), m.table.weight.T, m.state).tanh(),
    ),
    **{
        f"a mean of words {name}": (
            WORDS,
            lambda m, x: _masked(m, x, lambda h, w: h.masked_fill(~w[..., None], 0).sum(1)),
            lambda m, x, total=total: _masked(m, x, total),
        )
        for name, total in MASKED.items()
    },
    **{
        f"a mean of words {name}": (
            WORDS,
            lambda m, x: _masked(m, x, lambda h, w: h.masked_fill(~w[..., None], 0).sum(1)),
            lambda m, x, mean=mean: _weighted(m, x, mean),
        )
        for name, mean in MEANS.items()
    },
    "positions added to words": (
        WORDS,
        lambda m, x: (m.table(x) + m.h.weight[:5]).tanh(),
        lambda m, x: (_one_hot(x) @ m.table.weight + m.h.weight[:5]).tanh(),
    ),
    "positions added to scaled words": (
        WORDS,
        lambda m, x: m.a(m.table(x) * 2.5 + m.h.weight[3:]).relu(),
        lambda m, x: m.a(torch.add(m.h.weight[3:], _one_hot(x) @ m.table.weight, alpha=2.5)).relu(),
    ),
    **{
        f"share of two exponentials, {name}": (
            ROW,
            _of_two(lambda a, b: (a - b).sigmoid()),
            _of_two(share),
        )
        for name, share in OF_TWO.items()
    },
    **{
        f"a gate in which {name} is expanded": (
            ROW,
            _expanded(lambda z, a: a * z.sigmoid()),
            _expanded(share),
        )
        for name, share in EXPANDED.items()
    },
    **{
        f"a mixture by {name}": (
            ROW,
            _mixed(lambda z, y: (z.softmax(-1)[..., None] * torch.stack(y, -2)).sum(-2)),
            _mixed(mixture),
        )
        for name, mixture in MIXTURES.items()
    },
    **{
        f"hyperbolic functions: {name}": (ROW, _gated(lambda a, z: a * z.tanh()), _gated(written))
        for name, written in HYPERBOLIC.items()
    },
    **{
        f"tempered weights: {name}": (
            ROW,
            _tempered(lambda z: (2 * z).softmax(-1)),
            _tempered(weights),
        )
        for name, weights in TEMPERED.items()
    },
    **{
        f"a sum of chosen tokens by {name}": (
            SENTENCE,
            lambda m, x: (m.a(x) * CHOSEN[:, None]).sum(1),
            lambda m, x, total=total: total(m.a(x)),
        )
        for name, total in SUMS_OF_CHOSEN.items()
    },
    "blend from a value with a state": (
        ROW,
        _with_gate(lambda g, a, k: (1 - g) * a + g * k),
        _with_gate(lambda g, a, k: k * g + a - a * g),
    ),
    "a gate before and behind a bracket": (
        ROW,
        _with_gate(lambda g, a, k: g * (k + a)),
        _with_gate(lambda g, a, k: g * k + g * a),
    ),
    "a complement of a share": (
        ROW,
        GATE,
        _gated(lambda a, z: a - a / (1 + z.exp())),
    ),
    "logsumexp less the maximum": (
        SENTENCE,
        lambda m, x: m.a(x).logsumexp(1),
        lambda m, x: (lambda y, top: (top + (y - top).exp().sum(1, keepdim=True).log()).squeeze(1))(
            m.a(x), m.a(x).amax(1, keepdim=True)
        ),
    ),
    "an exponential of a sum of logarithms": (
        ROW,
        _gated(lambda a, z: a.sigmoid() * z.sigmoid()),
        _gated(lambda a, z: torch.exp(F.logsigmoid(a) + z.sigmoid().log())),
    ),
    "addcdiv": (
        ROW,
        lambda m, x: m.a(x) + 0.5 * m.h(x) / m.z(x).exp(),
        lambda m, x: torch.addcdiv(m.a(x), m.h(x), m.z(x).exp(), value=0.5),
    ),
}


def _operand(shape: tuple[int, ...]) -> Tensor:
    if shape == WORDS:
        return torch.tensor([[3, 9, 0, 10, 0], [1, 1, 7, 5, 2]])
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@lru_cache(maxsize=1)
def _attributions(name: str) -> list[LRPFx]:
    """One for each spelling of a pair, which has read its model."""
    shape, *functions = PAIRS[name]
    x = _operand(shape)
    models = [Parts(function) for function in functions]
    torch.testing.assert_close(models[0](x), models[1](x))
    found = [LRPFx(model, "zero") for model in models]
    for lrp in found:
        lrp.attribute(x, target=1)
    return found


@pytest.mark.parametrize("preset", ["zero", "z_plus", "epsilon_plus_flat", "cp_lrp"])
@pytest.mark.parametrize("name", PAIRS)
def test_two_spellings_have_one_map(name: str, preset: str) -> None:
    x = _operand(PAIRS[name][0])
    maps = [
        lrp.with_composite(PRESETS[preset]()).attribute(x, target=1) for lrp in _attributions(name)
    ]
    largest = maps[0].abs().max()
    bound = QUOTIENTS if preset == "zero" else STABILIZED
    assert (maps[0] - maps[1]).abs().max() <= bound * largest


@pytest.mark.parametrize("copies", [True, False])
def test_infinite_masks_in_a_batched_sum(copies: bool) -> None:
    mask = torch.full((TOKENS, TOKENS), -math.inf, dtype=torch.float64).triu(1)

    def at_once(m: Parts, x: Tensor) -> Tensor:
        spread = mask.repeat(2, 1, 1) if copies else mask.expand(2, -1, -1)
        return torch.baddbmm(spread, m.q(x), m.k(x).mT).softmax(-1) @ m.v(x)

    def apart(m: Parts, x: Tensor) -> Tensor:
        return (mask + m.q(x) @ m.k(x).mT).softmax(-1) @ m.v(x)

    x = _operand(SENTENCE)
    maps = [LRPFx(Parts(function)).attribute(x, target=1) for function in (at_once, apart)]
    assert_close(maps[0], maps[1], STABILIZED)


class Pairing(nn.Module):
    """A user and an item, looked up and multiplied."""

    def __init__(self, look_up: Callable[[Tensor, Tensor], Tensor], summed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.look_up, self.summed = look_up, summed
        self.users, self.items = (nn.Parameter(torch.randn(5, 3).double()) for _ in range(2))
        self.layer = nn.Linear(3, 2).double()

    def forward(self, ids: Tensor) -> Tensor:
        user, item = self.look_up(self.users, ids[:, 0]), self.look_up(self.items, ids[:, 1])
        if self.summed:
            return (user * item).sum(-1, keepdim=True)
        return self.layer(user * item.sigmoid() / user.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize(
    "look_up",
    [
        lambda table, ids: table[ids],
        lambda table, ids: table.index_select(0, ids),
        lambda table, ids: table.gather(0, ids[:, None].expand(-1, 3)),
        lambda table, ids: torch.take_along_dim(table, ids[:, None], 0),
        lambda table, ids: table.take(ids[:, None] * 3 + torch.arange(3)),
    ],
    ids=["index", "index_select", "gather", "take_along_dim", "take"],
)
def test_a_product_of_values_looked_up(
    look_up: Callable[[Tensor, Tensor], Tensor], summed: bool
) -> None:
    ids = torch.tensor([[1, 2], [4, 0]])
    models = [Pairing(each, summed) for each in (lambda t, i: F.embedding(i, t), look_up)]
    maps = [LRPFx(model, "zero").attribute(ids, target=0) for model in models]
    assert (maps[0] - maps[1]).abs().max() <= ROUNDING * maps[0].abs().max()


@pytest.mark.parametrize("preset", ["zero", "z_plus"])
def test_final_odds_of_a_head_that_is_called_twice(preset: str) -> None:
    """The complement is folded into the weights of the second call."""

    class Odds(nn.Module):
        def __init__(self, calls: int) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.calls, self.first, self.head = calls, nn.Linear(SIZE, SIZE), nn.Linear(SIZE, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x).relu()
            p = self.head(h).sigmoid()
            q = p if self.calls == 1 else torch.sigmoid(self.head(h))
            return torch.log(p) - torch.log(1 - q)

    x = _operand(ROW)
    composite = PRESETS[preset]()
    maps = [LRPFx(Odds(calls).double(), composite).attribute(x, target=1) for calls in (1, 2)]
    assert (maps[0] - maps[1]).abs().max() <= STABILIZED * maps[0].abs().max()


POSITIONS: dict[str, Written] = {
    "rows": lambda m, e: e + m.h.weight[:5],
    "copies": lambda m, e: e + m.h.weight[:5].expand_as(e),
}


@pytest.mark.parametrize("preset", ["attn_lrp", "cp_lrp", "z_plus"])
@pytest.mark.parametrize("name", POSITIONS)
def test_words_and_their_embeddings_get_the_same_relevance(name: str, preset: str) -> None:
    """Positions are learned, so they keep their share, also where embeddings are explained."""

    def embedded(m: Parts, e: Tensor) -> Tensor:
        h = POSITIONS[name](m, e)
        return m.v(h + (m.q(h) @ m.k(h).mT).softmax(-1) @ m.h(h)).relu()

    words = _operand(WORDS)
    of_words, of_embeddings = Parts(lambda m, x: embedded(m, m.table(x))), Parts(embedded)
    found = LRPFx(of_words, PRESETS[preset]()).attribute(words, target=1)
    values = of_embeddings.table(words).detach()
    expected = LRPFx(of_embeddings, PRESETS[preset]()).attribute(values, target=1).sum(-1)
    assert (found - expected).abs().max() <= ROUNDING * expected.abs().max()
