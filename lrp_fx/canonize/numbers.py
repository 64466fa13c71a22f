"""Scales and shifts by numbers around a value: several steps read as one."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import MAX_STEPS as MAX_STEPS, aten, call_like, unwound as unwound

_ROUNDING = 1e-12


def are_equal(first: float, second: float) -> bool:
    """Whether two computed numbers differ only by rounding."""
    return abs(first - second) <= _ROUNDING * max(abs(first), abs(second))


def scaled_by(graph: fx.Graph, node: fx.Node, value: Any, factor: float) -> fx.Node:
    """The node of ``factor · value``, without a new node if the graph has that multiple already."""
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
