"""The two engines: how ``Jᵀ q`` of an operation that is linear in its input is computed.

``direct`` uses the operation's analytic adjoint and needs no autograd. ``gradient`` differentiates the
operation (``torch.func.vjp``), the trick of the blog post of 2021. Every formula in this package is
written once in terms of :func:`linearize`, so each engine checks the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

Engine = Literal["direct", "gradient"]
ENGINES: tuple[Engine, ...] = ("direct", "gradient")

Map = Callable[[Tensor], Tensor]


def vjp(
    function: Callable[..., Any], *operands: Tensor
) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """``torch.func.vjp`` with one type: the value, and the map from a cotangent to one each."""
    value, pullback = torch.func.vjp(function, *operands)[:2]
    return value, pullback


def linearize(
    engine: Engine, forward: Map, adjoint: Map, x: Tensor, output: Tensor | None = None
) -> tuple[Tensor, Map]:
    """``forward(x)`` and the map ``q ↦ Jᵀ q``.

    Args:
        engine: who computes the adjoint.
        forward: the operation as a function of its data operand, linear or affine in it.
        adjoint: its analytic adjoint.
        x: the operand.
        output: ``forward(x)`` where it is known already.
    """
    if engine == "gradient":
        z, pullback = vjp(forward, x)
        return z, lambda q: pullback(q)[0]
    return forward(x) if output is None else output, adjoint


def pull(engine: Engine, forward: Map, adjoint: Map, shape: torch.Size, q: Tensor) -> Tensor:
    """``Jᵀ q`` of a linear operation, whose Jacobian does not depend on the operand's values."""
    if engine == "gradient":
        return vjp(forward, q.new_zeros(shape))[1](q)[0]
    return adjoint(q)


def sum_to(value: Tensor, shape: torch.Size) -> Tensor:
    """Undo broadcasting: ``value`` summed down to ``shape``."""
    return value if value.shape == shape else value.sum_to_size(shape)
