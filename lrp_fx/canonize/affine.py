"""Folds a constant scale and shift per unit into the linear operation before it.

``(W x + b) s + t`` becomes ``(s W) x + (s b + t)``. Examples are a frozen batch norm, a bias added
by hand, and a layer scale. The new weight and bias are nodes that compute from the parameters, so
they follow the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.canonize.carrying import Factor, before_views, carried_before
from lrp_fx.graph import (
    ARITHMETIC,
    CONVOLUTIONS,
    ELLIPSIS,
    ON_THE_LEFT,
    ON_THE_RIGHT,
    TRANSPOSED_CONVOLUTIONS,
    Constants,
    arguments,
    aten,
    call_like,
    name_of,
    names_where,
    replace_by,
)

LINEAR = CONVOLUTIONS | TRANSPOSED_CONVOLUTIONS | {"linear"}
AFFINE = ARITHMETIC | {"neg"}
_CLAMPS = names_where(lambda row: row.clips) - {"relu"}
"""Operations that gates are written with: ``relu6(z + 3) / 6`` is recognized as a whole."""


def fold_affine(
    graph: fx.Graph,
    constants: Constants,
    node: fx.Node,
    *,
    batched: bool = True,
    kept: frozenset[fx.Node] = frozenset(),
) -> None:
    """Fold a constant scale or shift into the linear operation before it, where that is exact.

    It is exact if nothing else reads the output of the linear operation and the constant has one
    value per unit. Between the two, dimensions may be moved, added and removed. A positive number
    that only scales changes no rule's shares. It is not folded, so that values stay bit-identical.

    Args:
        graph: the graph to edit.
        constants: the values that depend only on parameters.
        node: the candidate, any node of the graph.
        batched: assume that values have a batch dimension, so that constants may have more leading
            dimensions of size one than a unit has, and that views which count dimensions from the
            front have no more dimensions than they name. The canonical graph is compared with the
            model, and made again without this where the assumption fails.
        kept: operations whose own values have to stay in the graph.
    """
    if name_of(node) not in AFFINE:
        return
    for operand in node.all_input_nodes:
        linear, views = before_views(operand) if batched else (operand, [])
        if name_of(linear) not in LINEAR | {"product"}:
            continue
        if any(each in kept or len(each.users) != 1 for each in (linear, *views)):
            continue
        weight = constants(arguments(linear)["weight"])
        whole = scale_and_shift(graph, node, operand) if weight is not None else None
        if weight is None or whole is None:
            continue
        parts = carried_before(graph, node, whole, views, constants)
        if parts is None:
            continue
        tensors = [part for part in parts if isinstance(part, fx.Node)]
        if not all(fits(each, linear, weight, constants, batched) for each in tensors):
            continue
        if _is_negative_factor(node, parts):
            node, parts = _sign_apart(graph, node, operand), (-1, 0)
        if tensors or not _stays(node, parts):
            fold_into_previous(
                graph, node, linear, weight.shape, *parts, constants=constants, views=views
            )
            return


def _stays(node: fx.Node, parts: tuple[Factor, Factor]) -> bool:
    """Whether a scale and shift by numbers are better left unfolded."""
    readers = {name_of(reader) for reader in node.users}
    for relu in [reader for reader in node.users if name_of(reader) == "relu"]:
        readers |= {name_of(reader) for reader in relu.users} & _CLAMPS  # two-call clamps
    scale, shift = parts
    is_factor = shift == 0 and isinstance(scale, (int, float)) and scale > 0
    return bool(readers & _CLAMPS) or (is_factor and not readers & AFFINE)


def _is_negative_factor(node: fx.Node, parts: tuple[Factor, Factor]) -> bool:
    """Whether ``node`` multiplies by a negative number, and its readers neither scale nor shift."""
    scale, shift = parts
    is_factor = shift == 0 and isinstance(scale, (int, float)) and scale < 0
    return is_factor and scale != -1 and AFFINE.isdisjoint(map(name_of, node.users))


def _sign_apart(graph: fx.Graph, node: fx.Node, linear: fx.Node) -> fx.Node:
    """Write ``c · linear`` as ``|c| · (−linear)``, and return the negation."""
    with graph.inserting_before(node):
        negation = call_like(graph, node, aten.neg, linear)
    number = next(v for v in (arguments(node)["other"], arguments(node)["self"]) if v is not linear)
    node.args, node.kwargs = (negation, abs(number)), {}
    return negation


def scale_and_shift(
    graph: fx.Graph, node: fx.Node, linear: fx.Node
) -> tuple[Factor, Factor] | None:
    """``s`` and ``t`` of ``node = s · linear + t``; None for any other node."""
    bound, name = arguments(node), name_of(node)
    if name == "neg":
        return -1, 0
    a, b, alpha = bound["self"], bound["other"], bound.get("alpha", 1)
    is_first = a is linear
    other = b if is_first else a
    with graph.inserting_before(node):
        if name == "mul":
            return other, 0
        if name == "div":
            if not is_first or bound.get("rounding_mode") is not None or other == 0:
                return None
            if isinstance(other, fx.Node):
                return call_like(graph, node, aten.reciprocal, other), 0
            return 1 / other, 0
        own, others = {
            "add": (1, alpha) if is_first else (alpha, 1),
            "sub": (1, -alpha) if is_first else (-alpha, 1),
            "rsub": (-alpha, 1) if is_first else (1, -alpha),
        }[name]
        if others != 1:
            is_node = isinstance(other, fx.Node)
            other = call_like(graph, node, aten.mul, other, others) if is_node else other * others
        return own, other


def _units(linear: fx.Node, weight: torch.Size) -> tuple[int, ...]:
    """The trailing sizes of the output: the number of units, and 1 where entries share a unit."""
    if name_of(linear) == "linear":
        return (weight[0],)
    bound = arguments(linear)
    if name_of(linear) in LINEAR:
        channels = (
            weight[1] * bound["groups"] if name_of(linear) in TRANSPOSED_CONVOLUTIONS else weight[0]
        )
        return (channels, *[1] * (len(weight) - 2))
    form = bound["form"]
    if form in (ON_THE_LEFT, ON_THE_RIGHT):
        if len(weight) == 1:
            return ()
        *heads, rows, columns = weight
        return (*heads, rows, 1) if form == ON_THE_LEFT else (*heads, 1, columns)
    own, names = _einsum_names(form)
    return tuple(weight[own.index(name)] if name in own else 1 for name in names)


def _einsum_names(form: str) -> tuple[str, str]:
    """The index names of the weight, and those of the output after its ellipsis."""
    inputs, output = form.split("->")
    return inputs.split(",")[1], output.split(ELLIPSIS)[-1]


def fits(
    constant: fx.Node, linear: fx.Node, weight: Tensor, constants: Constants, batched: bool
) -> bool:
    """Whether a constant has one value per unit of the output, and the dtype of the weight."""
    if name_of(linear) == "product" and ELLIPSIS in arguments(linear)["form"].split("->")[0]:
        return False  # which dimensions of the weight the ellipsis holds is unknown
    return fits_units(constant, _units(linear, weight.shape), weight, constants, batched)


def fits_units(
    constant: fx.Node, units: tuple[int, ...], weight: Tensor, constants: Constants, batched: bool
) -> bool:
    """Whether a constant has one value per unit, and the dtype of the weight.

    A constant of another dtype is not folded: type promotion would differ in the product of two
    constants.

    Args:
        constant: the constant.
        units: the trailing sizes of a value, 1 where all entries belong to one unit.
        weight: the weight that the constant would be folded into.
        constants: the values that depend only on parameters.
        batched: whether the constant may have more leading dimensions, of size one.
    """
    value = constants(constant)
    if value is None or value.dtype != weight.dtype:
        return False
    if value.dim() > len(units) and not batched:
        return False
    sizes = (*[1] * (value.dim() - len(units)), *units)[-value.dim() :] if value.dim() else ()
    return all(size in (1, unit) for size, unit in zip(value.shape, sizes, strict=True))


def fold_into_previous(
    graph: fx.Graph,
    node: fx.Node,
    linear: fx.Node,
    weight: torch.Size,
    scale: Factor,
    shift: Factor,
    *,
    constants: Constants,
    views: Sequence[fx.Node] = (),
) -> None:
    """Replace ``node = s · linear + t`` by ``linear`` with a new weight and bias.

    Args:
        graph: the graph to edit.
        node: the only reader of ``linear``, or of the last view.
        linear: the linear operation.
        weight: the shape of its weight.
        scale: ``s``, a number or one value per unit.
        shift: ``t``, likewise.
        constants: the values that depend only on parameters.
        views: the views between ``linear`` and ``node``, in graph order.
    """
    bound = arguments(linear)
    units = _units(linear, weight)
    with graph.inserting_before(node):
        is_named = name_of(linear) == "product" and bound["form"] not in (ON_THE_LEFT, ON_THE_RIGHT)
        fewest = len(units) if is_named else 0
        scale, shift = (
            _ranked(graph, node, each, fewest, len(units), constants) for each in (scale, shift)
        )
        new_weight, new_bias = bound["weight"], bound["bias"]
        if scale != 1:
            new_weight = _scaled(graph, linear, bound, weight, scale)
            if new_bias is not None:
                factor = _for_bias(graph, linear, scale)
                new_bias = call_like(graph, linear, aten.mul, new_bias, factor)
        if shift != 0:
            shift = _for_bias(graph, linear, shift)
            if new_bias is not None:
                new_bias = call_like(graph, linear, aten.add, new_bias, shift)
            elif isinstance(shift, fx.Node) and name_of(linear) == "product":
                new_bias = shift
            elif isinstance(shift, fx.Node):  # of size one, or one value per unit
                new_bias = call_like(graph, linear, aten.expand, shift, [units[0]])
            else:
                sizes = [] if name_of(linear) == "product" else [units[0]]
                new_bias = call_like(
                    graph, linear, aten.new_full, bound["weight"], sizes, float(shift)
                )
    for each in (linear, *views):  # move them after the new weight
        node.prepend(each)
    set_parameters(linear, bound, new_weight, new_bias)
    replace_by(node, views[-1] if views else linear)


def set_parameters(linear: fx.Node, bound: dict[str, Any], weight: fx.Node, bias: fx.Node) -> None:
    """Set the weight and bias of a linear operation."""
    linear.args = tuple({**bound, "weight": weight, "bias": bias}.values())
    linear.kwargs = {}


def _ranked(
    graph: fx.Graph, node: fx.Node, part: Factor, fewest: int, most: int, constants: Constants
) -> Factor:
    """Give a constant between ``fewest`` and ``most`` dimensions, by leading ones of size one."""
    value = constants(part)
    if value is None or fewest <= value.dim() <= most:
        return part
    sizes = [*[1] * (fewest - value.dim()), *value.shape[max(0, value.dim() - most) :]]
    return call_like(graph, node, aten.reshape, part, sizes)


def _for_bias(graph: fx.Graph, linear: fx.Node, part: Factor) -> Factor:
    """A constant in the shape of the bias; for a convolution or linear layer this is a vector."""
    if isinstance(part, fx.Node) and name_of(linear) != "product":
        return call_like(graph, linear, aten.reshape, part, [-1])
    return part


def _scaled(
    graph: fx.Graph, linear: fx.Node, bound: dict[str, Any], weight: torch.Size, scale: Factor
) -> fx.Node:
    """The weight, with the part of each unit multiplied by the unit's scale."""
    if not isinstance(scale, fx.Node):
        return call_like(graph, linear, aten.mul, bound["weight"], scale)
    ones = [1] * (len(weight) - 2)
    if name_of(linear) in TRANSPOSED_CONVOLUTIONS:  # (in, out / groups, …), the groups along `in`
        groups, out = bound["groups"], weight[1]
        shape = [groups, weight[0] // groups, out, *weight[2:]]
        split = call_like(graph, linear, aten.reshape, bound["weight"], shape)
        every = call_like(graph, linear, aten.reshape, scale, [-1])
        every = call_like(graph, linear, aten.expand, every, [groups * out])
        factor = call_like(graph, linear, aten.reshape, every, [groups, 1, out, *ones])
        product = call_like(graph, linear, aten.mul, split, factor)
        return call_like(graph, linear, aten.reshape, product, list(weight))
    if name_of(linear) in LINEAR:
        scale = call_like(graph, linear, aten.reshape, scale, [-1, 1, *ones])
    elif bound["form"] not in (ON_THE_LEFT, ON_THE_RIGHT):
        return _scaled_by_name(graph, linear, bound, scale)
    return call_like(graph, linear, aten.mul, bound["weight"], scale)


def _scaled_by_name(
    graph: fx.Graph, linear: fx.Node, bound: dict[str, Any], scale: fx.Node
) -> fx.Node:
    """The weight of an einsum, multiplied by a scale that has the dimensions of the output."""
    own, names = _einsum_names(bound["form"])
    for place, name in enumerate(names):
        if name not in own:  # it has size one
            scale = call_like(graph, linear, aten.squeeze, scale, place - len(names))
    kept = "".join(name for name in names if name in own)
    equation = f"{own},{kept}->{own}"
    return call_like(graph, linear, aten.einsum, equation, [bound["weight"], scale])
