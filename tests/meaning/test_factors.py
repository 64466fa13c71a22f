"""Products of several activations: what counts as a factor, and how many share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from lrp_fx import LRPFx, composites, rules
from lrp_fx.composites import Composite, operation
from tests.helpers.closeness import QUOTIENTS, SAME_SUMS, assert_close
from tests.helpers.meanings import Function, Model, X, held, relevance, two
from tests.helpers.numbers import numbers

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
        assert_close(mine, right, SAME_SUMS)


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
        assert_close(mine, torch.full_like(mine, 1 / count), 1e-6)  # a cast rounds to float32


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
        assert_close(each, torch.full_like(each, 1 / count), 1e-6)  # a cast rounds to float32
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
        assert_close(first, torch.full_like(first, 2 / 3), QUOTIENTS)
        assert_close(second, torch.full_like(second, 1 / 3), QUOTIENTS)
    first, _ = two(lambda u, v: u**2 / v**3)
    assert_close(first, torch.full_like(first, 2 / 5), QUOTIENTS)
    first, _ = two(lambda u, v: (u * v) ** 2 * u)
    assert_close(first, torch.full_like(first, 3 / 5), QUOTIENTS)


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

    assert_close(mine, held(shares, X), QUOTIENTS)


def test_gates_and_statistics_do_not_count() -> None:
    """``σ(v) u v / |u|`` has two signals, in every bracketing."""
    for product in (
        lambda u, v: torch.sigmoid(v) * (u * v) / u.norm(dim=1, keepdim=True),
        lambda u, v: (v / u.norm(dim=1, keepdim=True)) * (torch.sigmoid(v) * u),
        lambda u, v: (torch.sigmoid(v) / u.norm(dim=1, keepdim=True)) * u * v,
    ):
        for mine in two(product):
            assert_close(mine, torch.full_like(mine, 0.5), QUOTIENTS)


def test_a_value_that_is_read_twice_counts_all_its_factors() -> None:
    """``p = u v`` used twice gives what ``u v`` written twice gives."""

    def shared(u: Tensor, v: Tensor) -> Tensor:
        product = u * v
        return torch.cat([product * (u + 1), product * (v + 2)], 1)

    def twice(u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([(u * v) * (u + 1), u * (v * (v + 2))], 1)

    for mine, right in zip(two(shared), two(twice), strict=True):
        assert_close(mine, right, QUOTIENTS)


@pytest.mark.parametrize("swap", [False, True])
def test_activations_written_out(swap: bool) -> None:
    """``u · g(u)`` is a function of ``u``: all to it, and one factor of a longer product."""

    def gelu(v: Tensor) -> Tensor:
        g = 1.5 + torch.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))
        return 0.5 * (g * v if swap else v * g)

    alone, _ = two(lambda u, v: gelu(u) + 0 * v)
    assert_close(alone, torch.ones_like(alone), QUOTIENTS)
    for mine in two(lambda u, v: v * gelu(u)):
        assert_close(mine, torch.full_like(mine, 0.5), QUOTIENTS)
    behind, _ = two(lambda u, v: (u.abs() * (u + 1) if swap else (u + 1) * u.abs()) + 0 * v)
    assert_close(behind, torch.ones_like(behind), QUOTIENTS)


def test_half_by_a_composite_counts_gates_too() -> None:
    half = Composite([(operation("product"), rules.Half())])
    first, second = two(lambda u, v: (torch.sigmoid(v) * u) * (v * 2.0) * u, composite=half)
    assert_close(first, torch.full_like(first, 0.5), QUOTIENTS)
    assert_close(second, torch.full_like(second, 0.5), QUOTIENTS)


def test_the_published_rule_depends_on_the_bracketing() -> None:
    """AttnLRP's rule as published: half each at each product of two; gates get nothing."""
    composite = composites.compat.attnlrp()
    first, _ = two(lambda u, v: (u * v) * (v + 0 * u), composite=composite)
    assert_close(first, torch.full_like(first, 0.25), QUOTIENTS)
    first, _ = two(lambda u, v: u * (v * torch.tanh(v + 0 * u)), composite=composite)
    assert_close(first, torch.full_like(first, 0.5), QUOTIENTS)
    first, second = two(lambda u, v: u * torch.sigmoid(v), composite=composite)
    assert_close(first, torch.ones_like(first), QUOTIENTS)
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
    began = time.process_time()
    lrp.plan(numbers(2, 4))
    return time.process_time() - began


def test_a_long_row_of_views_is_explained() -> None:
    model = Chain(lambda m, y, x, i: y.view(-1, 4, 1).squeeze(-1), 600).double()
    x = numbers(2, 4)
    mine = LRPFx(model, "zero").attribute(x, target=1)
    assert_close(mine, x * model.fc.weight[1].detach(), QUOTIENTS)


@pytest.mark.parametrize("name", STEPS)
def test_long_chains_are_planned_in_about_linear_time(name: str) -> None:
    """Neither recursion nor a time that explodes."""
    step = STEPS[name]
    planning_time(step, 10)
    assert planning_time(step, 300) < 20 * planning_time(step, 30) + 0.5
