"""Nested sums read as one flat sum, with any bracketing and order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from torch import fx

from lrp_fx.graph import (
    ADDITIONS,
    affine,
    arguments,
    as_tuple,
    as_whole_number,
    aten,
    call_like,
    is_call,
    name_of,
)

_STACKED = 12
"""Longer stacks are sequences. They stay, because each of their sums would be written again."""
_STEPS = 4
"""How many scales and shifts by numbers are looked through around one term."""


@dataclass(frozen=True)
class Term:
    """``scale · value`` in a sum.

    Args:
        scale: the number.
        value: the value.
        is_turned: whether a minus sign stands before the value somewhere in the sum.
    """

    scale: float
    value: fx.Node
    is_turned: bool = False

    def times(self, scale: float, value: fx.Node) -> Term:
        """The term in which ``scale · value`` takes the place of the value."""
        return Term(self.scale * scale, value, self.is_turned or scale < 0)


@dataclass(frozen=True)
class Sum:
    """``Σ terms + number``."""

    terms: tuple[Term, ...]
    number: float


def is_whole(node: fx.Node) -> bool:
    """Whether a node is a sum, possibly scaled or shifted by a number, that is not part of another."""
    if not _continues(node):
        return False
    return len(node.users) != 1 or not _continues(next(iter(node.users)))


def _continues(node: fx.Node) -> bool:
    """Whether a node adds values, or scales or shifts one by a number."""
    return _is_sum(node) or affine(node) is not None


def _is_sum(node: fx.Node) -> bool:
    return name_of(node) in ADDITIONS or _stacked(node) is not None


def _stacked(node: fx.Node) -> list[fx.Node] | None:
    """The values of a stack that a node sums or averages along the stacked dimension; else None."""
    if name_of(node) not in ("sum", "mean"):
        return None
    stack = arguments(node)["self"]
    return stacked(node, stack) if isinstance(stack, fx.Node) and len(stack.users) == 1 else None


def stacked(reduction: fx.Node, stack: Any) -> list[fx.Node] | None:
    """The values of a short stack; None if a reduction keeps the stacked dimension or takes others.

    Args:
        reduction: a reduction of the stack, or of what is computed of it entry by entry.
        stack: a value.
    """
    b = arguments(reduction)
    dims = as_tuple(b.get("dim"), 1)
    if b.get("keepdim") or b.get("dtype") is not None or len(dims) != 1:
        return None
    if not is_call(stack, "stack"):
        return None
    values, dim = list(arguments(stack)["tensors"]), arguments(stack).get("dim", 0)
    return values if dims[0] == dim and len(values) <= _STACKED else None


def sum_of(root: fx.Node) -> Sum:
    """The flat sum that ends in ``root``, through inner sums that nothing else reads."""
    found: list[Term] = []
    number, waiting = 0.0, [(Term(1.0, root), 0)]
    while waiting:
        term, steps = waiting.pop()
        node = term.value
        inside = node is root or len(node.users) == 1
        form = affine(node) if inside else None
        pair = _terms(node) if inside and _is_sum(node) else None
        if form is not None and form.scale != 0 and steps < _STEPS:
            number += term.scale * form.shift
            waiting.append((term.times(form.scale, form.operand), steps + 1))
        elif pair is not None:
            waiting += [(term.times(t.scale, t.value), 0) for t in reversed(pair)]
        else:
            found.append(term)
    return Sum(tuple(found), number)


def _terms(node: fx.Node) -> tuple[Term, ...] | None:
    """The terms of one addition, or None if one of them is not a node of the graph."""
    stacked = _stacked(node)
    if stacked is not None:
        scale = 1 / len(stacked) if name_of(node) == "mean" else 1.0
        return tuple(Term(scale, value) for value in stacked)
    b = arguments(node)
    alpha, first, second = b.get("alpha", 1), b["self"], b["other"]
    if not isinstance(second, fx.Node):
        return None
    scales = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[name_of(node)]
    return Term(scales[0], first), Term(scales[1], second)


def write_sum(graph: fx.Graph, origin: fx.Node, whole: Sum) -> fx.Node:
    """Write nodes that add up the terms from left to right, and the number last."""
    parts = [scaled(graph, origin, term.scale, term.value) for term in whole.terms]
    total = reduce(lambda a, b: call_like(graph, origin, aten.add, a, b), parts)
    if whole.number == 0:
        return total
    return call_like(graph, origin, aten.add, total, as_whole_number(whole.number))


def scaled(graph: fx.Graph, origin: fx.Node, scale: float, value: fx.Node) -> fx.Node:
    """The node of ``scale · value``; the value itself if the scale is one."""
    return (
        value if scale == 1 else call_like(graph, origin, aten.mul, value, as_whole_number(scale))
    )
