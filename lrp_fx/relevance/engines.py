"""The two engines, which compute ``Jᵀ q`` of an operation that is linear in its input.

``direct`` uses the analytic adjoint of the operation and needs no autograd. ``gradient``
differentiates the operation by ``torch.func.vjp``, as the blog post of 2021 does. The formulas call
:func:`linearize` or :func:`pull` and so work with both engines, which the tests compare.
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
    """``torch.func.vjp`` with a precise type.

    Returns:
        The value, and the map from a cotangent of the value to one cotangent for each operand.
    """
    value, pullback = torch.func.vjp(function, *operands)[:2]
    return value, pullback


def linearize(
    engine: Engine, forward: Map, adjoint: Map, x: Tensor, output: Tensor | None = None
) -> tuple[Tensor, Map]:
    """Return ``forward(x)`` and the map ``q ↦ Jᵀ q``.

    Args:
        engine: the engine that computes the adjoint.
        forward: the operation as a function of its data operand, in which it is linear or affine.
        adjoint: its analytic adjoint.
        x: the operand.
        output: ``forward(x)`` if it is already known.
    """
    if engine == "gradient":
        z, pullback = vjp(forward, x)
        return z, lambda q: pullback(q)[0]
    return forward(x) if output is None else output, adjoint


def pull(engine: Engine, forward: Map, adjoint: Map, shape: torch.Size, q: Tensor) -> Tensor:
    """``Jᵀ q`` of a linear operation, whose Jacobian does not depend on the values of the operand.

    Args:
        engine: the engine that computes the adjoint.
        forward: the operation as a function of its data operand.
        adjoint: its analytic adjoint.
        shape: the shape of the operand.
        q: the cotangent, of the shape of the output.
    """
    if engine == "gradient":
        return vjp(forward, q.new_zeros(shape))[1](q)[0]
    return adjoint(q)


def sum_to(value: Tensor, shape: torch.Size) -> Tensor:
    """Undo broadcasting: sum ``value`` down to ``shape``."""
    return value if value.shape == shape else value.sum_to_size(shape)
