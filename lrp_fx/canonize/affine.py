"""Folds a constant scale and shift per unit into the linear operation before it.

``(W x + b) s + t`` becomes ``(s W) x + (s b + t)``. Examples are a frozen batch norm, a bias added
by hand, and a layer scale. The new weight and bias are nodes that compute from the parameters, so
they follow the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import (
    ELLIPSIS,
    ON_THE_LEFT,
    ON_THE_RIGHT,
    Constants,
    arguments,
    aten,
    call_like,
    called,
    name_of,
    replace_by,
    shapes_of,
)

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
LINEAR = CONVOLUTIONS | TRANSPOSED | {"linear"}
AFFINE = frozenset({"add", "sub", "rsub", "mul", "div", "neg"})
_CLAMPS = frozenset({"relu6", "hardtanh", "clamp", "clamp_min", "clamp_max"})
"""Operations that gates are written with: ``relu6(z + 3) / 6`` is recognized as a whole."""

Factor = fx.Node | float
"""A constant: a tensor node or a number."""


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
        if not tensors and _is_negative_factor(node, parts):
            node, parts = _sign_apart(graph, node, operand), (-1, 0)
        if tensors or not _stays(node, parts):
            fold_into_previous(
                graph, node, linear, weight.shape, *parts, constants=constants, views=views
            )
            return


def before_views(value: fx.Node) -> tuple[fx.Node, list[fx.Node]]:
    """The value that ``value`` is a view of, and the views between them, in graph order."""
    views: list[fx.Node] = []
    while name_of(value) in _BEFORE and isinstance(value.args[0], fx.Node):
        views.insert(0, value)
        value = value.args[0]
    return value, views


def carried_before(
    graph: fx.Graph,
    node: fx.Node,
    parts: tuple[Factor, Factor],
    views: list[fx.Node],
    constants: Constants,
) -> tuple[Factor, Factor] | None:
    """A scale and shift of the views' result, as those of what the views read; None if unknown."""
    found: list[Factor] = []
    with graph.inserting_before(node):
        for part in parts:
            carried: Factor | None = part
            for view in reversed(views):
                if isinstance(carried, fx.Node):
                    carried = _BEFORE[name_of(view)](graph, view, carried, constants)
            if carried is None:
                return None
            found.append(carried)
    scale, shift = found
    return scale, shift


def _before_removal(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A constant before ``select`` or ``squeeze`` of one dimension, in which it gets size one."""
    value, dim = constants(constant), arguments(view).get("dim")
    if value is None or not isinstance(dim, int):
        return None
    if dim >= 0:  # of unknown rank, it is taken for the last one
        dim = dim - _rank(view, constants, dim + 1)
    reaches = value.dim() >= -dim
    return call_like(graph, view, aten.unsqueeze, constant, dim) if reaches else constant


def _before_unsqueeze(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    value, dim = constants(constant), min(arguments(view)["dim"], -1)
    if value is None:
        return None
    if value.dim() < -dim:
        return constant
    is_one = value.shape[dim] == 1
    return call_like(graph, view, aten.squeeze, constant, dim) if is_one else None


def _rank(view: fx.Node, constants: Constants, least: int) -> int:
    """The number of dimensions of what a view reads; ``least`` if it is unknown."""
    shape = shapes_of(constants.module).shape_of(view.args[0])
    return least if shape is None else len(shape)


def _before_move(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A constant before a permutation of dimensions."""
    value, bound = constants(constant), arguments(view)
    if value is None:
        return None
    if name_of(view) == "permute":
        rank = len(bound["dims"])
        order = [dim % rank for dim in bound["dims"]]
    else:
        pair = [bound.get("dim0", -2), bound.get("dim1", -1)]
        if (pair[0] < 0) != (pair[1] < 0):
            return None
        rank = _rank(view, constants, max(-min(pair), max(pair) + 1))
        first, second = (dim % rank for dim in pair)
        order = list(range(rank))
        order[first], order[second] = second, first
        rank = max(rank, value.dim()) if pair[0] < 0 else rank
        order = [*range(rank - len(order)), *(dim + rank - len(order) for dim in order)]
    if value.dim() > rank:
        return None
    sizes = [*[1] * (rank - value.dim()), *value.shape]
    back = [order.index(dim) for dim in range(rank)]
    ranked = call_like(graph, view, aten.reshape, constant, sizes)
    return call_like(graph, view, aten.permute, ranked, back)


def _before_reshape(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A constant before dimensions are split or joined, with one value per entry of a group."""
    shapes = shapes_of(constants.module)
    inner, outer = shapes.shape_of(view.args[0]), shapes.shape_of(view)
    if inner is None or outer is None:
        return None
    return _regrouped(graph, view, constant, constants, outer, inner)


def carried_behind(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A scale or shift of what a view reads, as that of what it returns; None if unknown."""
    shapes = shapes_of(constants.module)
    inner, outer = shapes.shape_of(view.args[0]), shapes.shape_of(view)
    value = constants(constant)
    if inner is None or outer is None or value is None or value.dim() > len(inner):
        return None
    if name_of(view) in ARRANGED:
        return _before_arrangement(graph, view, constant, constants)
    if name_of(view) in _REGROUPING:
        return _regrouped(graph, view, constant, constants, inner, outer)
    sizes = [*[1] * (len(inner) - value.dim()), *value.shape]
    ranked = call_like(graph, view, aten.reshape, constant, sizes)
    moved = call_like(graph, view, called(view), ranked, *view.args[1:])
    moved.kwargs = view.kwargs
    return moved


ARRANGED = ("flip", "roll", "slice", "index_select", *(f"upsample_nearest{n}d" for n in (1, 2, 3)))
"""Operations that keep the dimensions, and move, repeat or drop entries along some of them."""
_REGROUPING = frozenset({"reshape", "flatten", "unflatten", "squeeze", "unsqueeze"})
BEHIND = _REGROUPING | {*ARRANGED, "transpose", "permute", "mT", "t", "numpy_T"}
"""Views through which :func:`carried_behind` can carry a constant."""


def _regrouped(
    graph: fx.Graph,
    view: fx.Node,
    constant: fx.Node,
    constants: Constants,
    old: Sequence[int],
    new: Sequence[int],
) -> fx.Node | None:
    """A constant that broadcasts to the shape ``old``, as one that broadcasts to the shape ``new``."""
    value = constants(constant)
    if value is None or value.dim() > len(old):
        return None
    own = (*[1] * (len(old) - value.dim()), *value.shape)
    expanded, sizes = list[int](), list[int]()
    for of_old, of_new in _groups(old, new):
        kept = own[len(expanded) : len(expanded) + len(of_old)]
        differs = any(size != 1 for size in kept)
        expanded += of_old if differs else [1] * len(of_old)
        sizes += of_new if differs else [1] * len(of_new)
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    spread = call_like(graph, view, aten.expand, constant, expanded)
    return call_like(graph, view, aten.reshape, spread, sizes)


def _groups(inner: Sequence[int], outer: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The sizes of two shapes of one value, split into the smallest groups of equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    rest, others = list(inner), list(outer)
    while rest and others:
        left, right = [rest.pop(0)], [others.pop(0)]
        while math.prod(left) != math.prod(right):
            short, more = (left, rest) if math.prod(left) < math.prod(right) else (right, others)
            short.append(more.pop(0))
        groups.append((left, right))
    ones = rest, others  # trailing sizes of one
    return [*groups, ones] if rest or others else groups


def _before_arrangement(
    graph: fx.Graph, view: fx.Node, constant: fx.Node, constants: Constants
) -> fx.Node | None:
    """A constant before entries are moved along dimensions in which it does not vary."""
    shape = shapes_of(constants.module).shape_of(view.args[0])
    value, dims = constants(constant), _arranged_dims(view)
    if shape is None or value is None or dims is None or value.dim() > len(shape):
        return None
    own = (*[1] * (len(shape) - value.dim()), *value.shape)
    return constant if all(own[dim] == 1 for dim in dims) else None


def _arranged_dims(view: fx.Node) -> tuple[int, ...] | None:
    """The dimensions along which a view moves, repeats or drops entries; None if unknown."""
    b, name = arguments(view), name_of(view)
    if name.startswith("upsample_nearest"):
        return tuple(range(-int(name[-2]), 0))
    dims = b.get("dims", b.get("dim"))
    listed = tuple(dims) if isinstance(dims, (list, tuple)) else (dims,)
    return listed if listed and all(isinstance(dim, int) for dim in listed) else None


_BEFORE = {
    **dict.fromkeys(ARRANGED, _before_arrangement),
    **dict.fromkeys(("reshape", "flatten", "unflatten"), _before_reshape),
    "select": _before_removal,
    "squeeze": _before_removal,
    "unsqueeze": _before_unsqueeze,
    **dict.fromkeys(("transpose", "permute", "mT", "t", "numpy_T"), _before_move),
}
"""View → the function that turns a constant behind the view into one before it."""


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
    if a is b or isinstance(alpha, fx.Node):
        return None
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
        channels = weight[1] * bound["groups"] if name_of(linear) in TRANSPOSED else weight[0]
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
    """The index names of the weight, and those of the output behind its ellipsis."""
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
    constant: fx.Node,
    units: tuple[int, ...],
    weight: Tensor,
    constants: Constants,
    batched: bool,
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
    for each in (linear, *views):  # move them behind the new weight
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
    if name_of(linear) in TRANSPOSED:  # (in, out / groups, …), the groups along `in`
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
