"""Masks: values that are true or false at each position, of any dtype."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import literal, shapes_of
from lrp_fx.meaning import are_all, holds_truths


def is_mask(value: Any, *, given: bool = False) -> bool:
    """Whether a value is known to hold only zeros and ones, or true and false.

    Args:
        value: a node, or anything else that an operation reads.
        given: count integers that the model gets as an input, such as ``attention_mask``.
    """

    def holds(each: Any) -> bool:
        if literal(each) in (0, 1):
            return True
        return isinstance(each, fx.Node) and (holds_truths(each) or (given and _is_given(each)))

    return literal(value) is None and are_all(value, holds)


def _is_given(value: fx.Node) -> bool:
    """Whether a value is an input of integers."""
    known = shapes_of(value.graph.owning_module)(value)
    is_integer = known is not None and not (known.is_floating_point() or known.is_complex())
    return value.op == "placeholder" and is_integer
