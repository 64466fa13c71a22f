"""Sums and products against slow twins in explicit matrix form (``helpers/twins.py``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import rules
from lrp_fx.composites import Composite, operation
from lrp_fx.relevance.product import ScaleRelevance
from lrp_fx.rules import Stabilizer
from tests.helpers import twins
from tests.helpers.closeness import STABILIZED, assert_close
from tests.helpers.models import seeded
from tests.helpers.numbers import numbers
from tests.helpers.twins import EPS, captures, explain, ways

A, B = numbers(2, 3, 4, seed=5), numbers(2, 3, 4, seed=6)
THIN = numbers(2, 1, 4, seed=7)
CONSTANT = numbers(3, 1, seed=8)


def proportional_shares(terms: list[Tensor], upper: Tensor, eps: float) -> list[Tensor]:
    """Of each summand, in its own shape: its part of the sum."""
    y = sum(term.expand(upper.shape) for term in terms)
    q = twins.quotient(upper, y, eps)
    return [unbroadcast(term.expand(upper.shape) * q, term.shape) for term in terms]


def unbroadcast(value: Tensor, shape: torch.Size) -> Tensor:
    """Summed over the dimensions in which ``shape`` is one."""
    for dim, size in enumerate(shape):
        if size == 1 and value.shape[dim] != 1:
            value = value.sum(dim, keepdim=True)
    return value


def added_in_place(a: Tensor, b: Tensor) -> Tensor:
    a = a * 1
    a += b
    return a


ADDITIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor, float, float]] = {
    # the function, the second operand, the factors with which both enter
    "add": (lambda a, b: a + b, B, 1, 1),
    "sub": (lambda a, b: a - b, B, 1, -1),
    "torch.add": (lambda a, b: torch.add(a, b, alpha=0.3), B, 1, 0.3),
    "torch.sub": (lambda a, b: torch.sub(a, b, alpha=3), B, 1, -3),
    "rsub": (lambda a, b: torch.rsub(a, b, alpha=0.5), B, -0.5, 1),
    "method": (lambda a, b: a.add(b), B, 1, 1),
    "in place": (added_in_place, B, 1, 1),
    "broadcast": (lambda a, b: a + b, THIN, 1, 1),
    "broadcast, other way": (lambda a, b: b - a, THIN, -1, 1),
}
ADDITION_RULES = {
    "proportional": rules.Proportional(Stabilizer(EPS)),
    "by magnitude": rules.ByMagnitude(Stabilizer(EPS)),
    "half": rules.Half(),
}


@pytest.mark.parametrize("rule", ADDITION_RULES)
@pytest.mark.parametrize("name", ADDITIONS)
def test_additions(name: str, rule: str) -> None:
    """Factors count as part of the summand; a broadcast summand gets the sum of its shares."""
    function, b, factor_a, factor_b = ADDITIONS[name]
    upper = numbers(*A.shape, seed=1)
    terms = [factor_a * A, factor_b * b]
    if rule == "proportional":
        expected = proportional_shares(terms, upper, EPS)
    elif rule == "by magnitude":
        expected = proportional_shares([term.abs() for term in terms], upper, EPS)
    else:
        expected = [unbroadcast(upper / 2, term.shape) for term in terms]
    composite = Composite([(operation("addition"), ADDITION_RULES[rule])])
    mine = explain(function, (A, b), upper, composite)
    for operand, share, relevance in zip("ab", expected, mine, strict=True):
        assert_close(relevance, share, case=operand)


WITH_CONSTANTS: dict[str, tuple[twins.Function, Any, Any]] = {
    # the function of a ReLU's output, the factor of that output, the constant summand
    "number": (lambda h: h + 0.7, 1, 0.7),
    "number first": (lambda h: 0.7 - h, -1, 0.7),
    "number and alpha": (lambda h: torch.sub(h, 2, alpha=0.25), 1, -0.5),
    "tensor": (lambda h: h - CONSTANT, 1, -CONSTANT),
    "tensor first": (lambda h: CONSTANT - h, -1, CONSTANT),
    "tensor and alpha": (lambda h: torch.add(CONSTANT, h, alpha=2), 2, CONSTANT),
    "in place": (lambda h: h.add_(0.7), 1, 0.7),
}


@pytest.mark.parametrize("rule", ADDITION_RULES)
@pytest.mark.parametrize("name", WITH_CONSTANTS)
def test_a_constant_summand_absorbs_its_share(name: str, rule: str) -> None:
    """As a bias does."""
    function, factor, constant = WITH_CONSTANTS[name]
    h, upper = A.relu(), numbers(*A.shape, seed=1)
    terms = [factor * h, torch.as_tensor(constant, dtype=h.dtype).expand(h.shape)]
    if rule == "proportional":
        expected = proportional_shares(terms, upper, EPS)[0]
    elif rule == "by magnitude":
        expected = proportional_shares([term.abs() for term in terms], upper, EPS)[0]
    else:
        expected = upper / 2
    composite = Composite([(operation("addition"), ADDITION_RULES[rule])])
    assert_close(explain(lambda x: function(x.relu()), A, upper, composite), expected)


@pytest.mark.parametrize("rule", ADDITION_RULES)
def test_a_summand_that_comes_twice_gets_both_shares(rule: str) -> None:
    """x + x passes the relevance on, whatever the rule (ε aside)."""
    upper = numbers(*A.shape, seed=1)
    composite = Composite([(operation("addition"), ADDITION_RULES[rule])])
    y = {"proportional": 2 * A, "by magnitude": 2 * A.abs(), "half": None}[rule]
    expected = upper if y is None else y * twins.quotient(upper, y, EPS)
    assert_close(explain(lambda x: x + x, A, upper, composite), expected)


PREPROCESSING: dict[str, tuple[twins.Function, tuple[int, ...]]] = {
    "subtract a tensor": (lambda x: x - CONSTANT, (2, 3, 4)),
    "subtract a number": (lambda x: x - 0.5, (2, 3, 4)),
    "add first": (lambda x: 0.5 + x, (2, 3, 4)),
    "normalize": (lambda x: (x - CONSTANT) / CONSTANT.abs(), (2, 3, 4)),
    "scale, then shift": (lambda x: x * 2 - 1, (2, 3, 4)),
    "after rearranging": (lambda x: x.flip(2) - CONSTANT, (2, 3, 4)),
    "batch norm": (seeded(lambda: nn.BatchNorm1d(3)), (2, 3, 4)),
    "one channel to three": (lambda x: x - CONSTANT, (2, 1, 4)),
    "batch of one to several": (lambda x: (x[:, None] - CONSTANT).flatten(1), (2, 4)),
}


@ways
@pytest.mark.parametrize("name", PREPROCESSING)
def test_normalization_of_the_input_passes_relevance(name: str, options: dict[str, Any]) -> None:
    """A constant added to the model's input is preprocessing: x / (x − mean) has a pole."""
    function, shape = PREPROCESSING[name]
    x = numbers(*shape)
    upper = numbers(*function(x).shape, seed=1)

    def moves(x: Tensor) -> Tensor:
        """The same moves and broadcasts, without factors and summands."""
        if name == "after rearranging":
            return x.flip(2)
        if name == "batch of one to several":
            return x[:, None].expand(-1, 3, -1).flatten(1)
        return x.expand(-1, 3, -1)

    assert_close(explain(function, x, upper, **options), twins.routed(moves, x, upper))


# Products

ZEROS = torch.tensor([[2.0], [0.0], [-1.0]], dtype=torch.float64)

SCALINGS: dict[str, tuple[twins.Function, Any]] = {
    "number": (lambda h: h * 3, 3),
    "number first": (lambda h: 0.5 * h, 0.5),
    "nothing": (lambda h: h * 0, 0),
    "tensor with a zero": (lambda h: h * ZEROS, ZEROS),
    "tensor first": (lambda h: ZEROS * h, ZEROS),
    "by a number": (lambda h: h / 4, 1),
    "by a tensor": (lambda h: h / CONSTANT, CONSTANT),
    "in place": (lambda h: h.mul_(3), 3),
    "negation": (lambda h: -h, -1),
}


@ways
@pytest.mark.parametrize("name", SCALINGS)
def test_products_with_constants(name: str, options: dict[str, Any]) -> None:
    """Pass, and zero where the constant is zero."""
    function, constant = SCALINGS[name]
    upper = numbers(*A.shape, seed=1)
    alive = (torch.as_tensor(constant) != 0).expand(A.shape)
    mine = explain(lambda x: function(x.relu()), A, upper, **options)
    assert_close(mine, torch.where(alive, upper, 0))


def test_a_product_that_broadcasts_its_input() -> None:
    """One channel times three constants, a layer: the input gets what the three units get, less ε."""
    upper = numbers(2, 3, 4, seed=1)
    mine = explain(lambda x: x * ZEROS, THIN, upper)
    assert_close(mine, upper[:, :1] + upper[:, 2:], STABILIZED)


def through_reshapes(a: Tensor, b: Tensor) -> Tensor:
    weights = b.flatten(1).softmax(-1).reshape(b.shape).transpose(1, 2)
    return a * weights.transpose(1, 2)


def selected(a: Tensor, b: Tensor) -> Tensor:
    """Two branches weighted by the two halves of one softmax (selective kernels)."""
    weights = torch.stack([b, -b], 1).softmax(1).chunk(2, 1)
    return a * weights[0].squeeze(1)


def unbound(a: Tensor, b: Tensor) -> Tensor:
    weights = torch.stack([b, -b], 1).softmax(1).unbind(1)
    return a * weights[1]


PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float, float | None]] = {
    # the function of a and b, the share of a, the share of b; None for some, not element by element
    "two signals": (lambda a, b: a * b, 0.5, 0.5),
    "tanh is a signal": (lambda a, b: a * b.tanh(), 0.5, 0.5),
    "sigmoid": (lambda a, b: a * b.sigmoid(), 1, 0),
    "sigmoid first": (lambda a, b: a.sigmoid() * b, 0, 1),
    "hardsigmoid": (lambda a, b: a * F.hardsigmoid(b), 1, 0),
    "softmax": (lambda a, b: a * b.softmax(1), 1, 0),
    "softmax through reshapes": (through_reshapes, 1, 0),
    "softmax in two pieces": (selected, 1, 0),
    "softmax unbound": (unbound, 1, 0),
    "tanh beside a sigmoid": (lambda a, b: a.tanh() * b.sigmoid(), 1, 0),
    "sigmoid beside a tanh": (lambda a, b: a.sigmoid() * b.tanh(), 0, 1),
    "two gates": (lambda a, b: a.sigmoid() * b.sigmoid(), 0.5, 0.5),
    "a sigmoid that is a signal's root": (lambda a, b: a * (b.sigmoid() + 1), 0.5, None),
    "mean": (lambda a, b: a * a.mean((1, 2), keepdim=True), 1, 0),
    "norm": (lambda a, b: a / a.square().sum(1, keepdim=True).sqrt(), 1, 0),
    "root mean square": (lambda a, b: a * torch.rsqrt(a.pow(2).mean(-1, True) + 1e-3), 1, 0),
    "standard deviation": (lambda a, b: a / (a.std(1, keepdim=True) + 1e-3), 1, 0),
    "variance": (lambda a, b: a / a.var(dim=-1, keepdim=True), 1, 0),
    "vector norm": (lambda a, b: a / torch.linalg.vector_norm(a, dim=1, keepdim=True), 1, 0),
    "largest": (lambda a, b: a * a.abs().amax(1, keepdim=True), 1, 0),
    "largest, with its place": (lambda a, b: a / a.abs().max(1, keepdim=True)[0], 1, 0),
    "largest of all": (lambda a, b: a * b.amax(), 0.5, None),
    "variance with the mean": (lambda a, b: a / torch.var_mean(a, 1, keepdim=True)[0], 1, 0),
    "expanded like a value": (lambda a, b: a / a.norm(dim=1, keepdim=True).expand_as(b), 1, 0),
    "mean of the other": (lambda a, b: a * b.mean((1, 2), keepdim=True), 0.5, None),
    "norm of the other": (lambda a, b: a / b.square().sum(1, keepdim=True).sqrt(), 0.5, None),
    "mean beside a gate": (lambda a, b: a.mean(1, True) * b.sigmoid(), None, 0),
    "quotient of signals": (lambda a, b: a / (b * b + 1), 0.5, None),
}


@captures
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, capture: str) -> None:
    """A statistic of the other factor gets nothing, a gate gets nothing, else half each."""
    function, *shares = PRODUCTS[name]
    upper = numbers(*A.shape, seed=1)
    mine = explain(function, (A, B), upper, capture=capture)
    for operand, relevance, share in zip("ab", mine, shares, strict=True):
        if share is None:
            assert float(relevance.abs().sum()) > 0, operand
        else:
            assert_close(relevance, share * upper, case=operand)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda a, gate: a * gate.sigmoid(), lambda upper: (upper, torch.zeros_like(THIN))),
        (lambda a, b: a.sigmoid() * b, lambda upper: (0 * A, upper.sum(1, keepdim=True))),
        (lambda a, b: a * b, lambda upper: (upper / 2, upper.sum(1, keepdim=True) / 2)),
    ],
    ids=["gate", "signal", "both"],
)
def test_products_that_broadcast(function: Any, expected: Any) -> None:
    """A gate of one channel for all (squeeze and excitation), and a signal of one channel."""
    upper = numbers(*A.shape, seed=1)
    mine = explain(function, (A, THIN), upper)
    for operand, relevance, share in zip("ab", mine, expected(upper), strict=True):
        assert relevance.shape == share.shape
        assert torch.equal(relevance, share), operand


def test_half_where_there_is_a_gate() -> None:
    """A composite may give a gate its half."""
    upper = numbers(*A.shape, seed=1)
    composite = Composite([(operation("product"), rules.Half())])
    a, b = explain(lambda a, b: a * b.sigmoid(), (A, B), upper, composite)
    assert torch.equal(a, upper / 2)
    assert torch.equal(b, upper / 2)


def test_a_value_over_its_norm_gets_everything() -> None:
    """``F.normalize`` expands the norm like the value itself, which makes it no less a statistic."""
    upper = numbers(*A.shape, seed=1)
    assert torch.equal(explain(lambda x: F.normalize(x, dim=2), A, upper), upper)


def test_a_square_gets_both_halves() -> None:
    upper = numbers(*A.shape, seed=1)
    assert torch.equal(explain(lambda x: x * x, A, upper), upper)


def test_pairs_of_three_factors() -> None:
    """Half for each operand, whatever it is a product of."""
    upper, c = numbers(*A.shape, seed=1), numbers(*A.shape, seed=9)
    composite = Composite([(operation("product"), rules.PairwiseHalf())])
    mine = explain(lambda a, b, c: (a * b) * c, (A, B, c), upper, composite)
    for relevance, share in zip(mine, (0.25, 0.25, 0.5), strict=True):
        assert_close(relevance, share * upper)
    for relevance in explain(lambda a, b, c: (a * b) * c, (A, B, c), upper):
        assert_close(relevance, upper / 3)


def attended(a: Tensor, b: Tensor) -> Tensor:
    weights = torch.softmax(a @ a.mT * 0.3, -1)
    return (weights[..., None] * b[:, None]).sum(2)


def test_values_that_are_attended_to() -> None:
    """Attention weights are signals, unless the rule names the path of the values."""
    upper = numbers(*A.shape, seed=1)
    of_weights, of_values = explain(attended, (A, B), upper)
    assert float(of_weights.abs().sum()) > 0
    rule = Composite([(operation("product"), rules.ValuePath())])
    nothing, everything = explain(attended, (A, B), upper, rule)
    assert not nothing.any()
    assert_close(everything, 2 * of_values)


def test_what_a_product_with_zeros_takes() -> None:
    relevance = numbers(3, 1, seed=1)
    taken = ScaleRelevance().taken(relevance, ZEROS, relevance.shape)
    assert_close(taken["constant"], relevance[1].sum())
