"""Norms, softmax and products of activations against their formulas with explicit matrices.

One operation at a time: ``LayerLRPFx`` and ``start`` give it any relevance, loops and Jacobians in
matrix form say what has to come out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.closeness import assert_close
from tests.helpers.models import Function
from tests.helpers.numbers import numbers
from tests.helpers.twins import quotient

EPS = 1e-6
ENGINES = ("direct", "gradient")
CAPTURES = ("auto", "export")


def explained(
    model: nn.Module, inputs: Any, relevance: Tensor, composite: Any = None, **options: Any
) -> Any:
    """The relevance of the inputs for this relevance of the output."""
    lrp = LRPFx(model.double(), composite, start=lambda output: relevance, **options)
    return lrp.attribute(inputs)


def filled(module: nn.Module) -> nn.Module:
    """γ and β that are not one and zero."""
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.4)
    return module.double()


def standardized(
    x: Tensor, gamma: Tensor, beta: Tensor, r: Tensor, eps: float, centre: bool
) -> Tensor:
    """One normalized set of values: ``x ⊙ Jᵀ[R / S(y)]``, ``J = diag(γ/σ)(I − 11ᵀ/n)``, σ constant."""
    n = len(x)
    projection = torch.eye(n, dtype=x.dtype)
    if centre:
        projection = projection - torch.full((n, n), 1 / n, dtype=x.dtype)
    sigma = math.sqrt(float((projection @ x).square().mean()) + eps)
    jacobian = torch.diag(gamma / sigma) @ projection
    return x * (jacobian.T @ quotient(r, jacobian @ x + beta, EPS))


Sets = list[tuple[Any, Any]]


def norm_cases() -> dict[str, tuple[nn.Module, Tensor, Sets, float, bool]]:
    """A norm, an input, which entries are one set and the channel of each, ε, with the mean."""
    x3, x4 = numbers(2, 3, 5), numbers(2, 4, 3, 2)
    rows = [((i, j), slice(None)) for i in range(2) for j in range(3)]
    layers = [((i,), slice(None)) for i in range(2)]
    groups = [
        ((i, slice(2 * g, 2 * g + 2)), slice(2 * g, 2 * g + 2)) for i in range(2) for g in range(2)
    ]
    channels = [((i, slice(c, c + 1)), slice(c, c + 1)) for i in range(2) for c in range(4)]
    return {
        "layer": (filled(nn.LayerNorm(5)), x3, rows, 1e-5, True),
        "layer of two dims": (filled(nn.LayerNorm((3, 5))), x3, layers, 1e-5, True),
        "rms": (filled(nn.RMSNorm(5, eps=1e-3)), x3, rows, 1e-3, False),
        "group": (filled(nn.GroupNorm(2, 4)), x4, groups, 1e-5, True),
        "instance": (filled(nn.InstanceNorm2d(4, affine=True)), x4, channels, 1e-5, True),
    }


@pytest.mark.parametrize("name", norm_cases())
@pytest.mark.parametrize("propagation", ENGINES)
@pytest.mark.parametrize("capture", CAPTURES)
def test_norms(name: str, propagation: str, capture: str) -> None:
    norm, x, sets, eps, centre = norm_cases()[name]
    relevance = numbers(*x.shape, seed=1)
    mine = explained(
        Function(lambda m, x: m.norm(x.tanh()), norm=norm),
        x,
        relevance,
        propagation=propagation,
        capture=capture,
    )
    values, expected = x.tanh(), torch.zeros_like(x)
    for index, channels in sets:
        piece = values[index]
        gamma, beta = norm.weight.detach()[channels], getattr(norm, "bias", None)
        if gamma.dim() < piece.dim() or gamma.shape != piece.shape:
            gamma = gamma.reshape(-1, *[1] * (piece.dim() - 1)).expand_as(piece)
        shift = torch.zeros_like(piece)
        if beta is not None:
            b = beta.detach()[channels]
            shift = (
                b
                if b.shape == piece.shape
                else b.reshape(-1, *[1] * (piece.dim() - 1)).expand_as(piece)
            )
        found = standardized(
            *(each.flatten() for each in (piece, gamma, shift, relevance[index])), eps, centre
        )
        expected[index] = found.reshape(piece.shape)
    assert_close(mine, expected)


@pytest.mark.parametrize("capture", CAPTURES)
def test_an_rms_norm_of_small_operations(capture: str) -> None:
    """pow, mean, rsqrt, mul: the statistic gets nothing, so all goes through x · (1/σ): it passes."""

    def rms(m: Any, x: Tensor) -> Tensor:
        x = x.tanh()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    x, relevance = numbers(2, 3, 5), numbers(2, 3, 5, seed=1)
    assert_close(explained(Function(rms), x, relevance, capture=capture), relevance)


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_layer_norm_of_small_operations(capture: str) -> None:
    """x − mean(x) is a difference of two branches, by the ε rule; the spread below it gets nothing."""

    def norm(m: Any, x: Tensor) -> Tensor:
        x = x.tanh()
        mean = x.mean(-1, keepdim=True)
        spread = (x - mean).square().mean(-1, keepdim=True)
        return (x - mean) / (spread + 1e-6).sqrt()

    x, relevance = numbers(2, 5), numbers(2, 5, seed=1)
    values = x.tanh()
    mean = values.mean(-1, keepdim=True)
    q = quotient(relevance, values - mean, EPS)
    below = quotient(-(mean * q).sum(-1, keepdim=True), mean, EPS) / 5
    assert_close(explained(Function(norm), x, relevance, capture=capture), values * (q + below))


def test_an_l2_norm_and_gates() -> None:
    """A statistic gets nothing; nor does the gate of GLU; without a gate each factor has half."""
    x, relevance = numbers(2, 6), numbers(2, 6, seed=1)
    unit = Function(lambda m, x: F.normalize(x.tanh(), dim=-1))
    assert_close(explained(unit, x, relevance), relevance)
    pooled = Function(lambda m, x: F.normalize(x.tanh().mean(1), dim=-1))  # a mean by its norm
    y, r = numbers(2, 4, 6), numbers(2, 6, seed=1)
    mean = y.tanh().mean(1, keepdim=True)
    expected = y.tanh() / 4 * quotient(r.unsqueeze(1), mean, EPS)
    assert_close(explained(pooled, y, r), expected)
    glu = Function(lambda m, x: F.glu(x.tanh(), -1))
    half = relevance[:, :3]
    nothing = torch.zeros_like(half)
    assert torch.equal(explained(glu, x, half), torch.cat([half, nothing], 1))
    swiglu = Function(lambda m, x: F.silu(x[:, :3]) * x[:, 3:].tanh())
    assert torch.equal(explained(swiglu, x, half), torch.cat([half / 2, half / 2], 1))


@pytest.mark.parametrize("masked", [False, True])
def test_softmax(masked: bool) -> None:
    """Row by row: ``x_i (R_i − y_i Σ R)``; a masked logit gets nothing; CP-LRP gives nothing at all."""
    mask = torch.tensor([[False, True, False, False], [False, False, False, True]])

    def attention(m: Any, x: Tensor) -> Tensor:
        logits = x.tanh().masked_fill(mask, -math.inf) if masked else x.tanh()
        return logits.softmax(-1)

    # a padding behind the softmax, or the model would be explained at its logits
    model = Function(lambda m, x: F.pad(attention(m, x), (0, 0)))
    x, relevance = numbers(2, 4), numbers(2, 4, seed=1)
    logits, expected = x.tanh(), torch.zeros_like(x)
    for row in range(2):
        kept = [i for i in range(4) if not (masked and mask[row, i])]
        total = sum(math.exp(logits[row, i]) for i in kept)
        whole = sum(float(relevance[row, i]) for i in range(4))
        for i in kept:
            y = math.exp(logits[row, i]) / total
            expected[row, i] = logits[row, i] * (relevance[row, i] - y * whole)
    assert_close(explained(model, x, relevance, "attn_lrp"), expected)
    assert not explained(model, x, relevance, "cp_lrp").any()


PRODUCTS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...], tuple[int, ...], str]] = {
    "matmul": (torch.matmul, (2, 3, 4), (2, 4, 5), "nij,njk->nik"),
    "broadcast": (torch.matmul, (2, 3, 4), (1, 4, 5), "nij,mjk->nik"),
    "heads": (torch.matmul, (2, 2, 3, 4), (2, 2, 4, 2), "nhij,nhjk->nhik"),
    "bmm": (torch.bmm, (2, 3, 4), (2, 4, 5), "nij,njk->nik"),
    "einsum": (
        lambda a, b: torch.einsum("nij,nkj->nik", a, b),
        (2, 3, 4),
        (2, 5, 4),
        "nij,nkj->nik",
    ),
    "vector": (torch.matmul, (2, 3, 4), (4,), "nij,j->ni"),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("propagation", ENGINES)
def test_products_of_two_activations(name: str, propagation: str) -> None:
    """Entry by entry: of R_ik, a_ij b_jk / (2 S(y_ik)) to each factor."""
    product, left, right, equation = PRODUCTS[name]
    size, other = math.prod(left[1:]), math.prod(right[1:]) if right[0] == 2 else math.prod(right)

    def split(x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x[:, :size].reshape(left), x[:, size:]
        return a, (b.reshape(right) if right[0] == 2 else b[0].reshape(right))

    x = numbers(2, size + other)
    model = Function(lambda m, x: product(*split(x.tanh())))
    y = product(*split(x.tanh()))
    relevance = numbers(*y.shape, seed=1)
    inputs, result = equation.split("->")
    first, second = inputs.split(",")
    q = quotient(relevance, y, EPS) / 2
    leaf = x.tanh().requires_grad_()
    a, b = split(leaf)
    # the shares as sums over all index values, moved back to x by the autograd of split() alone
    terms = torch.einsum(f"{first},{second},{result}->{_union(first, second)}", a, b, q).detach()
    share_a = torch.einsum(f"{_union(first, second)}->{first}", terms)
    share_b = (
        torch.einsum(f"{_union(first, second)}->{second}", terms) if "m" not in second else None
    )
    if share_b is None:
        share_b = torch.einsum("nijk->jk", terms).unsqueeze(0)
    (expected,) = torch.autograd.grad([a, b], leaf, [share_a, share_b])
    mine = explained(model, x, relevance, propagation=propagation)
    assert_close(mine, expected)


def _union(first: str, second: str) -> str:
    return "".join(dict.fromkeys(first + second.replace("m", "")))
