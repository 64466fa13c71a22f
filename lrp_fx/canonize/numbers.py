"""Numbers around a value: it scaled and shifted in several steps, read as one."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import (
    affine,
    aten,
    call_like,
)

_ROUNDING = 1e-12


MOST_STEPS = 4
"""Nobody scales and shifts a tanh in more steps than these; long chains of numbers are not searched."""


def unwound(value: Any) -> tuple[float, float, Any]:
    """A value as ``scale · inner + shift`` with numbers."""
    scale, shift = 1.0, 0.0
    for _ in range(MOST_STEPS):
        form = affine(value)
        if form is None:
            break
        scale, shift, value = scale * form.scale, scale * form.shift + shift, form.operand
    return scale, shift, value


def are_equal(first: float, second: float) -> bool:
    """Whether two numbers that were computed differ by their rounding alone."""
    return abs(first - second) <= _ROUNDING * max(abs(first), abs(second))


def scaled_by(graph: fx.Graph, node: fx.Node, value: Any, factor: float) -> fx.Node:
    """``factor · value``, of which the value may be a multiple of what is there already."""
    scale, shift, inner = unwound(value)
    if shift == 0 and scale * factor == 1:
        assert isinstance(inner, fx.Node)
        return inner
    if shift == 0 and factor < 0 and scale < 0:
        value, factor = inner, scale * factor
    if factor == -1:
        return call_like(graph, node, aten.neg, value)
    same: fx.Node = value
    return same if factor == 1 else call_like(graph, node, aten.mul, value, factor)
