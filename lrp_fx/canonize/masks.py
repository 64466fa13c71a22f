"""Masks: values that are true or false at each position, of any dtype."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import Constants, before_expansion, literal, name_of, row_of, shapes_of
from lrp_fx.meaning import CHOICES, are_all, holds_truths


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


def selects(weight: Any, summed: set[int], shapes: Constants) -> bool:
    """Whether weights are a mask, also times or divided by numbers that do not vary along a sum.

    Args:
        weight: the weights.
        summed: the dimensions of the sum, counted from the end: the last one is -1.
        shapes: what is known of values.
    """
    if is_mask(weight, given=True) or (isinstance(weight, fx.Node) and weight.meta.get(CHOICES)):
        return True
    row, name = row_of(weight), name_of(weight)
    if name == "expand":
        return selects(weight.args[0], summed, shapes)
    if row.keeps_order or row.permutes:
        new, old = _sizes(weight, shapes), _sizes(weight.args[0], shapes)
        moved = set(old)
        if row.keeps_order and list(new.values()) == list(old.values()):
            moved = {dim for dim, now in zip(old, new, strict=True) if now in summed}
        return selects(weight.args[0], moved, shapes)
    if name not in ("mul", "div") or weight.kwargs:
        return False
    first, second = weight.args

    def varies(value: Any) -> bool:
        return not summed.isdisjoint(_sizes(before_expansion(value), shapes))

    if not varies(second):
        return selects(first, summed, shapes)
    return name == "mul" and not varies(first) and selects(second, summed, shapes)


def _sizes(value: Any, shapes: Constants) -> dict[int, int]:
    """The sizes of a value by dimension, counted from the end, without those of one entry."""
    known = shapes(value)
    sizes = () if known is None else known.shape
    return {dim - len(sizes): size for dim, size in enumerate(sizes) if size != 1}


def _is_given(value: fx.Node) -> bool:
    """Whether a value is an input of integers."""
    known = shapes_of(value.graph.owning_module)(value)
    is_integer = known is not None and not (known.is_floating_point() or known.is_complex())
    return value.op == "placeholder" and is_integer
