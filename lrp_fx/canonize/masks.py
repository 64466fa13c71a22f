"""Masks: values that are true or false at each position, of any dtype."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import CASTS, Constants, arguments, before_expansion, literal, name_of, shapes_of
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
    name = name_of(weight)
    if name in CASTS or name == "expand":
        return selects(weight.args[0], summed, shapes)
    if name == "unsqueeze":
        place, made = arguments(weight)["dim"], shapes(weight)
        if made is None:
            return False
        place -= made.dim() if place >= 0 else 0
        moved = {dim + 1 if dim < place else dim for dim in summed if dim != place}
        return selects(weight.args[0], moved, shapes)
    if name == "reshape":
        made, source = shapes(weight), shapes(weight.args[0])
        if made is None or source is None:
            return False
        new, old = (
            [dim for dim in range(-v.dim(), 0) if v.shape[dim] != 1] for v in (made, source)
        )
        if [made.shape[dim] for dim in new] != [source.shape[dim] for dim in old]:
            return False
        moved = {other for dim, other in zip(new, old, strict=True) if dim in summed}
        return selects(weight.args[0], moved, shapes)
    if name not in ("mul", "div") or weight.kwargs:
        return False
    first, second = weight.args

    def varies(value: Any) -> bool:
        made = shapes(before_expansion(value))
        if made is None:
            return literal(value) is None
        return any(made.shape[dim] != 1 for dim in summed if -dim <= made.dim())

    if not varies(second):
        return selects(first, summed, shapes)
    return name == "mul" and not varies(first) and selects(second, summed, shapes)


def _is_given(value: fx.Node) -> bool:
    """Whether a value is an input of integers."""
    known = shapes_of(value.graph.owning_module)(value)
    is_integer = known is not None and not (known.is_floating_point() or known.is_complex())
    return value.op == "placeholder" and is_integer
