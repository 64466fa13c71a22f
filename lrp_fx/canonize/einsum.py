"""Takes einsum apart: diagonals, sums, products with a constant, contractions of two tensors.

An index that only one operand has becomes a sum. A product with a constant in which nothing else is
summed becomes an elementwise product; any other product with a constant becomes a linear layer.
Constants that are summed with each other are merged first. More than two activations are contracted
from left to right.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from lrp_fx.canonize.call_writer import CallWriter
from lrp_fx.canonize.masks import selects
from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.graph import ELLIPSIS, PRODUCT, aten, shapes_of, where


@dataclass(frozen=True)
class Indexed:
    """A tensor and the names of its dimensions. An ellipsis stands for any number of them."""

    value: fx.Node
    names: tuple[str, ...]

    def dim(self, position: int) -> int:
        """The dimension at a position of ``names``, counted from the end after an ellipsis."""
        return _dim(self.names, position)


def take_apart(write: CallWriter, node: fx.Node) -> fx.Node | None:
    """Write ``einsum(equation, operands)`` as a sequence of simple operations.

    Raises:
        UnsupportedOperationError: for a single operand whose ellipsis is summed over.
    """
    equation, values = node.args[0], node.args[1]
    assert isinstance(equation, str) and isinstance(values, (list, tuple))
    inputs, output = _parsed(equation)
    operands = [
        _diagonal(write, Indexed(value, names)) for value, names in zip(values, inputs, strict=True)
    ]
    moving = [operand for operand in operands if write.is_dynamic(operand.value)]
    outside = {name for operand in moving for name in operand.names} | set(output)
    constants = _merged(write, [o for o in operands if not write.is_dynamic(o.value)], outside)
    if len(moving) == 1 and not constants:
        if ELLIPSIS in moving[0].names and ELLIPSIS not in output:
            raise UnsupportedOperationError(
                f"'einsum' {where(node)} sums over the dimensions of an ellipsis: name them instead "
                f"of writing '{equation}'"
            )
        return _arranged(write, _reduced(write, moving[0], output), output).value
    while constants:
        constant = constants.pop(0)
        meets = [
            (len(set(constant.names) & set(operand.names)), -len(operand.names))
            for operand in moving
        ]
        place = meets.index(max(meets))
        rest = [*moving[:place], *moving[place + 1 :], *constants]
        needed = _needed(moving[place], constant, rest, output)
        moving[place] = contract(write, moving[place], constant, needed)
    while len(moving) > 1:
        first, second, *more = moving
        moving = [contract(write, first, second, _needed(first, second, more, output)), *more]
    return moving[0].value


def contract(write: CallWriter, a: Indexed, b: Indexed, output: tuple[str, ...]) -> Indexed:
    """``Σ a b`` over the names that are not in ``output``; one or both operands are dynamic."""
    if write.is_dynamic(a.value) == write.is_dynamic(b.value):
        equation = _equation(a, b, output)
        return Indexed(write(aten.einsum, equation, [a.value, b.value]), output)
    data, constant = (a, b) if write.is_dynamic(a.value) else (b, a)
    data = _reduced(write, data, {*constant.names, *output, ELLIPSIS})
    constant = _reduced(write, constant, {*data.names, *output, ELLIPSIS})
    if set(data.names) <= set(output):
        scaled = _scaled(write, data, constant, output)
        if scaled is not None:
            return Indexed(scaled, output)
    summed = {place - len(constant.names) for place in _places_outside(constant.names, output)}
    if set(constant.names) <= set(data.names) and selects(
        constant.value, summed, shapes_of(write.module)
    ):
        chosen = _scaled(write, data, constant, data.names)
        if chosen is not None:
            return _arranged(write, _reduced(write, Indexed(chosen, data.names), output), output)
    weight = _matrix(write, data, constant, output)
    if weight is not None:
        return Indexed(write(aten.linear, data.value, weight), output)
    equation = _equation(data, constant, output)
    return Indexed(write(PRODUCT, data.value, constant.value, None, equation), output)


def _places_outside(names: tuple[str, ...], kept: tuple[str, ...]) -> list[int]:
    return [place for place, name in enumerate(names) if name not in kept]


def _parsed(equation: str) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The names of each operand and of the output.

    An implicit output consists of the ellipsis, then the names that occur once, in alphabetical
    order.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    operands = [_names(operand) for operand in inputs.split(",")]
    if arrow:
        return operands, _names(output)
    every = [name for operand in operands for name in operand]
    once = sorted(name for name in set(every) - {ELLIPSIS} if every.count(name) == 1)
    return operands, ((ELLIPSIS,) if ELLIPSIS in every else ()) + tuple(once)


def _names(text: str) -> tuple[str, ...]:
    before, dots, after = text.partition(ELLIPSIS)
    return (*before, *((dots,) if dots else ()), *after)


def _equation(a: Indexed, b: Indexed, output: Sequence[str]) -> str:
    return f"{''.join(a.names)},{''.join(b.names)}->{''.join(output)}"


def _dim(names: Sequence[str], position: int) -> int:
    behind = ELLIPSIS in names[:position]
    return position - len(names) if behind else position


def _needed(
    a: Indexed, b: Indexed, rest: Sequence[Indexed], output: tuple[str, ...]
) -> tuple[str, ...]:
    """The names of two operands that later steps need; in the last step those of the output."""
    if not rest:
        return output
    others = {name for operand in rest for name in operand.names} | set(output)
    return tuple(name for name in dict.fromkeys((*a.names, *b.names)) if name in others)


def _diagonal(write: CallWriter, operand: Indexed) -> Indexed:
    """The operand with each name once: repeated names are replaced by their diagonal."""
    names = list(operand.names)
    for second, name in enumerate(names):
        first = names.index(name)
        if first != second:
            dims = operand.dim(first), operand.dim(second)
            rest = [other for place, other in enumerate(names) if place not in (first, second)]
            value = write(aten.diagonal, operand.value, 0, *dims)
            return _diagonal(write, Indexed(value, (*rest, name)))
    return operand


def _reduced(write: CallWriter, operand: Indexed, kept: Collection[str]) -> Indexed:
    """The operand, summed over the names that are not in ``kept``."""
    gone = [place for place, name in enumerate(operand.names) if name not in kept]
    if not gone:
        return operand
    value = write(aten.sum, operand.value, [operand.dim(place) for place in gone])
    return Indexed(value, tuple(name for name in operand.names if name in kept))


def _arranged(write: CallWriter, operand: Indexed, names: tuple[str, ...]) -> Indexed:
    """The operand with its dimensions in the order of ``names``."""
    if operand.names == names:
        return operand
    named = [name for name in names if name != ELLIPSIS]
    source = [operand.dim(operand.names.index(name)) for name in named]
    destination = [_dim(names, names.index(name)) for name in named]
    return Indexed(write(aten.movedim, operand.value, source, destination), names)


def _merged(write: CallWriter, constants: list[Indexed], outside: set[str]) -> list[Indexed]:
    """Merge constants that are summed with each other."""
    merged: list[Indexed] = []
    for place, constant in enumerate(constants):
        for other in [o for o in merged if set(o.names) & set(constant.names) - outside]:
            merged.remove(other)
            rest = [*merged, *constants[place + 1 :]]
            known = outside | {name for each in rest for name in each.names}
            names = tuple(n for n in dict.fromkeys((*other.names, *constant.names)) if n in known)
            equation = _equation(other, constant, names)
            constant = Indexed(write(aten.einsum, equation, [other.value, constant.value]), names)
        merged.append(constant)
    return merged


def _scaled(
    write: CallWriter, data: Indexed, constant: Indexed, output: tuple[str, ...]
) -> fx.Node | None:
    """The elementwise product, without sums; None where an ellipsis hides the shape."""
    left = output[: output.index(ELLIPSIS)] if ELLIPSIS in output else ()
    if {ELLIPSIS, *left} & set(constant.names):
        return None
    for name in constant.names:
        if name not in data.names:
            data = Indexed(write(aten.unsqueeze, data.value, -1), (*data.names, name))
    constant = _arranged(write, constant, tuple(n for n in output if n in constant.names))
    factor, remaining = constant.value, len(constant.names)
    for count, name in enumerate(reversed(output)):
        if not remaining:
            break
        if name in constant.names:
            remaining -= 1
        else:
            factor = write(aten.unsqueeze, factor, -1 - count)
    return write(aten.mul, _arranged(write, data, output).value, factor)


def _matrix(write: CallWriter, data: Indexed, constant: Indexed, output: tuple[str, ...]) -> Any:
    """The weight of ``aten.linear``, if the contraction is over the last dimension; else None."""
    summed, unit = data.names[-1], output[-1] if output else ""
    if unit in data.names or output[:-1] != data.names[:-1] or ELLIPSIS in (summed, unit):
        return None
    if constant.names == (unit, summed):
        return constant.value
    return write(aten.t, constant.value) if constant.names == (summed, unit) else None
