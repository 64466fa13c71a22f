"""Slow twins of the relevance rules, and what the tests of rules share.

A twin knows nothing of the library: it turns an operation into a dense matrix, by applying it to the
identity basis, and writes the published formula in terms of the *contributions* ``C_ji`` of input
``i`` to output ``j``. The library never forms them, so the two agree only if both are right.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.models import Apply

Function = Callable[..., Tensor]


def explain(
    model: nn.Module | Function,
    inputs: Tensor | tuple[Tensor, ...],
    relevance: Tensor | None = None,
    composite: Any = None,
    **options: Any,
) -> Any:
    """The library's relevance of the inputs, started with ``relevance`` at the output."""
    model = model if isinstance(model, nn.Module) else Apply(model)
    if relevance is not None:
        options["start"] = lambda output: relevance
    return LRPFx(model, composite, **options).attribute(inputs)


# Matrices


def matrix(function: Function, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """``(W, b)`` with ``function(x) = W x + b`` on one flattened sample of ``shape``, in float64."""
    size = shape.numel()
    with torch.no_grad():
        offset = function(torch.zeros(1, *shape, dtype=torch.float64))
        columns = function(torch.eye(size, dtype=torch.float64).reshape(size, *shape)) - offset
    return columns.reshape(size, -1).T.contiguous(), offset.flatten()


def without_bias(module: nn.Module) -> nn.Module:
    """A copy of a layer with its bias left out."""
    plain: Any = copy.deepcopy(module)
    plain.bias = None
    result: nn.Module = plain
    return result


def stabilized(z: Tensor, eps: float, signed: bool = True) -> Tensor:
    """``z + ε sgn(z)`` with ``sgn(0) = +1``, or ``z + ε``."""
    sign = 1 - 2 * (z < 0).to(z.dtype)
    return z + eps * (sign if signed else 1)


def quotient(relevance: Tensor, z: Tensor, eps: float, signed: bool = True) -> Tensor:
    """``R / S(z)``, zero where ``S(z)`` is exactly zero."""
    denominator = stabilized(z, eps, signed)
    return torch.where(denominator == 0, 0, relevance / denominator)


# The rules for linear operations


@dataclass(frozen=True)
class Units:
    """One denominator per output: ``z_j = Σ_i C_ji + b_j``, of the relevance that ``kept`` keeps."""

    contributions: Tensor
    bias: Tensor
    coefficient: float = 1.0
    kept: Tensor | None = None


LinearTwin = Callable[[Tensor, Tensor, Tensor, Tensor], list[Units]]
"""From ``W`` (out, in), the bias that takes part (out,), ``x`` (in,) and the true ``z`` (out,)."""


def plus(value: Tensor) -> Tensor:
    """The positive entries, else zero."""
    return torch.where(value > 0, value, 0)


def minus(value: Tensor) -> Tensor:
    """The negative entries, else zero."""
    return torch.where(value < 0, value, 0)


def epsilon(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
    return [Units(w * x, b)]


def z_plus(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
    return [Units(plus(w * x), plus(b))]


def alpha_beta(alpha: float, beta: float) -> LinearTwin:
    def twin(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
        return [Units(plus(w * x), plus(b), alpha), Units(minus(w * x), minus(b), -beta)]

    return twin


def gamma(value: float) -> LinearTwin:
    def twin(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
        return [Units((w + value * plus(w)) * x, b + value * plus(b))]

    return twin


def generalized_gamma(value: float) -> LinearTwin:
    def twin(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
        c = w * x
        return [
            Units(c + value * plus(c), b + value * plus(b), kept=z > 0),
            Units(c + value * minus(c), b + value * minus(b), kept=z < 0),
        ]

    return twin


def z_box(low: Tensor, high: Tensor) -> LinearTwin:
    """``low`` and ``high`` are flattened bounds of the operation's input, (in,)."""

    def twin(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
        return [Units(w * x - plus(w) * low - minus(w) * high, b - plus(b) - minus(b))]

    return twin


def w_square(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
    return [Units(w**2, b**2)]


def flat(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
    return [Units((w != 0).to(w.dtype), torch.zeros_like(b))]


def w_plus(w: Tensor, b: Tensor, x: Tensor, z: Tensor) -> list[Units]:
    return [Units(plus(w), torch.zeros_like(b))]


def linear_twin(
    twin: LinearTwin,
    w: Tensor,
    bias: Tensor,
    x: Tensor,
    relevance: Tensor,
    *,
    eps: float,
    signed: bool = True,
    policy: str = "absorb",
) -> Tensor:
    """Relevance of ``x`` (N, …), sample by sample, through ``y = W x + b``.

    Args:
        twin: the rule in terms of contributions.
        w: (out, in); an entry is zero exactly where the input is not in the output's window.
        bias: (out,).
        x: the input.
        relevance: of the output.
        eps: ε of the stabilizer.
        signed: whether ε takes the sign of its denominator.
        policy: what becomes of the bias' share.
    """
    used = torch.zeros_like(bias) if policy == "ignore" else bias
    window = (w != 0).to(w.dtype)
    rows = []
    for sample, upper in zip(x.flatten(1), relevance.flatten(1), strict=True):
        lower = torch.zeros_like(sample)
        for units in twin(w, used, sample, w @ sample + bias):
            kept = upper if units.kept is None else torch.where(units.kept, upper, 0)
            z = units.contributions.sum(1) + units.bias
            q = units.coefficient * quotient(kept, z, eps, signed)
            lower += (units.contributions * q[:, None]).sum(0)
            if policy == "distribute":
                real_inputs = window.sum(1).clamp(min=1)
                lower += (window * (units.bias * q / real_inputs)[:, None]).sum(0)
        rows.append(lower)
    return torch.stack(rows).reshape(x.shape)


# Operations without weights


def routed(function: Function, x: Tensor, relevance: Tensor) -> Tensor:
    """``Jᵀ R``: each input gets the relevance of the places to which it was moved."""
    w, _ = matrix(function, x.shape[1:])
    return (relevance.flatten(1) @ w).reshape(x.shape)


def averaged(function: Function, x: Tensor, relevance: Tensor, eps: float) -> Tensor:
    """Shares in proportion to the contributions to a weighted sum."""
    w, offset = matrix(function, x.shape[1:])
    return linear_twin(epsilon, w, offset, x, relevance, eps=eps)


def uniform(function: Function, x: Tensor, relevance: Tensor) -> Tensor:
    """Shares in proportion to the weights of a weighted sum."""
    w, _ = matrix(function, x.shape[1:])
    sums = w.sum(1)
    share = torch.where(sums[:, None] == 0, 0, w / sums[:, None])
    return (relevance.flatten(1) @ share).reshape(x.shape)


def windows(function: Function, shape: torch.Size) -> Tensor:
    """(out, in): whether an input can be the maximum of an output, found by making it huge."""
    size = shape.numel()
    with torch.no_grad():
        raised = function(1e6 * torch.eye(size, dtype=torch.float64).reshape(size, *shape))
    return raised.reshape(size, -1).T > 1


def won(function: Function, x: Tensor, relevance: Tensor, eps: float | None = None) -> Tensor:
    """Winner takes all; the first of equal entries. With ``eps`` the winner gets ``x R / S(x)``."""
    members = windows(function, x.shape[1:])
    result = torch.zeros_like(x).flatten(1)
    for n, (sample, upper) in enumerate(zip(x.flatten(1), relevance.flatten(1), strict=True)):
        for j, window in enumerate(members):
            places = window.nonzero().flatten().tolist()
            winner = min(places, key=(-sample).tolist().__getitem__)  # of equal ones the first
            share = upper[j]
            if eps is not None:
                share = sample[winner] * quotient(share, sample[winner], eps)
            result[n, winner] += share
    return result.reshape(x.shape)


EPS = 0.01
"""Large enough for a wrong stabilizer to show."""

exported = pytest.mark.slow  # half a second each
captures = pytest.mark.parametrize("capture", ["auto", pytest.param("export", marks=exported)])
ways = pytest.mark.parametrize(
    "options",
    [
        pytest.param({"propagation": "direct"}, id="direct"),
        pytest.param({"propagation": "gradient"}, id="gradient"),
        pytest.param({"capture": "export"}, id="export", marks=exported),
    ],
)
"""Both engines, and the other capture, which writes some operations in other ways."""
