"""Recognizes functions of one value by their values, however they are written.

A value that is computed entry by entry from one other value and from numbers is a function
``f(z)``. The graph's own calls are executed on a grid of points. If the results are those of a known
activation, the value becomes that activation of ``z``: ``-relu(-z)``, ``z - relu(z)`` and
``where(z < 0, z, 0)`` are one operation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.canonize.function_forms import Known, recognized
from lrp_fx.graph import (
    CASTS,
    Shapes,
    affine,
    aten,
    call_like,
    called,
    is_call,
    literal,
    name_of,
    overloads_of,
    packet_of,
    replace_by,
    row_of,
    schema_of,
    shapes_of,
)
from lrp_fx.relevance import operation_of

_MOST_CALLS = 24
"""The most calls that are read as one function. The longest known ones have about ten."""
_MOST_CURVED = 8
"""Of them, those that do more than add or multiply numbers. The longest known ones have six."""
_ENDS = (0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 6.0)
"""Where torch's own functions bend, if they are called without numbers."""
_WITHOUT_BENDS = frozenset(
    {"add", "sub", "rsub", "mul", "neg", "exp", "tanh", "sigmoid", "erf", "logical_and", "to"}
)
_OF_NON_FINITE = frozenset({"isnan", "isinf", "isfinite", "isposinf", "isneginf", "nan_to_num"})
"""Operations that replace NaN or infinity. No point shows what they do."""
_OF_PROBABILITIES = frozenset({"sigmoid", "log_sigmoid", "softplus", "exp", "log", "tanh", "logit"})
"""Functions that belong to a final probability, whose logit is explained."""


def one_function(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Rewrite every value that is a known function of another value, in place.

    Args:
        graph: the graph to edit; constants that are one number are numbers already.
        module: holds the parameters of the graph.
    """
    final, shapes = _final(graph), shapes_of(module)
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in reversed(order):
        if not node.users or not _is_pointwise(node):
            continue
        farthest: tuple[Known, fx.Node, list[fx.Node]] | None = None
        for source, calls in _functions(node, order):
            if node in final and any(name_of(each) in _OF_PROBABILITIES for each in calls):
                break
            known = _known(node, source, calls, shapes)
            if known is not None:
                farthest = known, source, list(calls)
        if farthest is not None:
            known, source, calls = farthest
            with graph.inserting_before(node):
                substitute = _write(graph, node, source, known)
            _replace(node, substitute, calls[:-1])


def _replace(node: fx.Node, substitute: fx.Node, absorbed: list[fx.Node]) -> None:
    """Replace a node. The layers of a chain of calls are then found at the new one."""
    own = node.meta.get("module_calls", ())
    calls = [call for each in absorbed for call in each.meta.get("module_calls", ())]
    replace_by(node, substitute)
    more = tuple(call for call in dict.fromkeys(calls) if call not in own)
    if more and substitute.op == "call_function":
        substitute.meta["merged_calls"] = substitute.meta.get("merged_calls", ()) + more


def _is_pointwise(node: fx.Node) -> bool:
    """Whether each entry of a value depends only on the operands' entries at the same place."""
    packet = packet_of(node.target)
    if node.op != "call_function" or packet is None:
        return False
    row = row_of(node)
    if row.reduction is not None or row.results is not None:  # max(dim) is tagged for max(a, b)
        return False
    if row.entrywise and row.fills != "zeros":
        return True
    overloads = (getattr(packet, name) for name in overloads_of(packet))
    return any(  # frexp is tagged too, and returns two values
        torch.Tag.pointwise in each.tags and len(schema_of(each).returns) == 1 for each in overloads
    )


def _functions(node: fx.Node, order: dict[fx.Node, int]) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """The values that a node is a function of, nearest first, with the calls in between in order.

    Numbers added and multiplied alone are not a function with a name.
    """
    calls, leaves, curved = [node], set(_operands(node)), int(affine(node) is None)
    while leaves and len(calls) < _MOST_CALLS and curved <= _MOST_CURVED:
        if curved and len(leaves) == 1:
            yield next(iter(leaves)), calls[::-1]
        last = max(leaves, key=order.__getitem__)
        if not _is_pointwise(last) or not (_share_module(last, node) or _is_chain([*calls, last])):
            return
        leaves.remove(last)
        leaves |= set(_operands(last))
        calls.append(last)
        curved += affine(last) is None


def _operands(node: fx.Node) -> list[fx.Node]:
    """The tensors that a call reads, without those that are filled with one number."""
    return [each for each in node.all_input_nodes if literal(each) is None]


def _share_module(first: fx.Node, second: fx.Node) -> bool:
    return bool(first.meta.get("module_calls", ()) == second.meta.get("module_calls", ()))


def _is_chain(calls: list[fx.Node]) -> bool:
    """Whether each call reads one value, and all but the first have no other reader."""
    return all(len(_operands(each)) == 1 for each in calls) and all(
        len(each.users) == 1 for each in calls[1:]
    )


def _known(node: fx.Node, source: fx.Node, calls: list[fx.Node], shapes: Shapes) -> Known | None:
    """The known function of ``source`` that a node is; None if it is another, or written already."""
    if (len(calls) == 1 and operation_of(node) is not None) or any(map(_sees_nan, calls)):
        return None
    try:
        known = recognized(
            lambda points: _values(calls, source, points)[calls[-1]],
            _numbers(calls),
            lambda points: _differences(calls, source, points),
        )
    except (RuntimeError, TypeError, ValueError, IndexError):  # not for floats
        return None
    if known is None or _is_as_written(node, calls, known):
        return None
    before, after = shapes(source), shapes(node)
    if before is None or after is None or before.shape != after.shape:
        return None
    return known if before.dtype == after.dtype and before.is_floating_point() else None


def _sees_nan(call: fx.Node) -> bool:
    """Whether a call tells NaN or infinity from other values: ``isnan(x)``, ``x != x``."""
    compares = is_call(call, "eq", "ne") and call.args[0] is call.args[1]
    return compares or name_of(call) in _OF_NON_FINITE


def _is_as_written(node: fx.Node, calls: list[fx.Node], known: Known) -> bool:
    """Whether a node is that function already, with numbers beside it."""
    if known.packet in (aten.clamp_min, aten.clamp_max) and any(known.args):
        return affine(node) is not None  # a number added outside takes its share
    if known.is_plain:
        return known.inner != 1 and known.packet is called(node)
    return (
        affine(node) is not None
        or known.packet is called(node)
        or (known.offset != 0 and known.calls >= len(calls))
    )


def _values(calls: list[fx.Node], source: fx.Node, points: Tensor) -> dict[fx.Node, Tensor]:
    """The value of each call, and of ``source``, where ``source`` has the given values."""
    found: dict[fx.Node, Any] = {source: points}

    def of(node: fx.Node) -> Any:
        return found[node] if node in found else torch.tensor(literal(node), dtype=points.dtype)

    for call in calls:
        args: Any
        kwargs: Any
        args, kwargs = fx.map_arg((call.args, call.kwargs), of)
        if not is_call(call, *CASTS):
            found[call] = called(call)(*args, **kwargs)
        elif _is_cast_to_floats(call):
            found[call] = args[0].to(points.dtype)
        else:
            raise TypeError("a cast to whole numbers or masks")
        if found[call].is_complex():
            raise TypeError("a complex number")
    return {node: value.to(points.dtype).expand(points.shape) for node, value in found.items()}


def _differences(calls: list[fx.Node], source: fx.Node, points: Tensor) -> list[Tensor]:
    """What changes its sign where a call may have a step or a bend.

    These are the differences of any two operands of a call that compares or clips, and the operands
    themselves less the ends that functions without arguments have.
    """
    values = _values(calls, source, points)
    found: list[Tensor] = []
    for call in calls:
        if name_of(call) in _WITHOUT_BENDS:
            continue
        many = [*call.args, *call.kwargs.values()]
        tensors = [values[each] for each in many if isinstance(each, fx.Node) and each in values]
        numbers = [number for each in many if (number := literal(each)) is not None]
        found += [one - number for one in tensors for number in {*_ENDS, *numbers}]
        found += [one - other for one, other in itertools.combinations(tensors, 2)]
    return found


def _is_cast_to_floats(call: fx.Node) -> bool:
    dtypes = [each for each in (*call.args, *call.kwargs.values()) if isinstance(each, torch.dtype)]
    return all(each.is_floating_point for each in dtypes)


def _numbers(calls: list[fx.Node]) -> list[float]:
    """The numbers in a list of calls."""
    many = [each for call in calls for each in (*call.args, *call.kwargs.values())]
    return [number for each in many if (number := literal(each)) is not None]


def _final(graph: fx.Graph) -> set[fx.Node]:
    """The values that only functions and moves of entries separate from an output."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        passes = _is_pointwise(node) or row_of(node).arranges or is_call(node, "getitem", "cat")
        if (
            node.op == "output"
            or (node in found and passes)
            or (node in found and is_call(node, "stack"))
        ):
            found.update(node.all_input_nodes)
    return found


def _write(graph: fx.Graph, node: fx.Node, source: fx.Node, known: Known) -> fx.Node:
    """Write ``scale · f(inner · z) + shift``."""
    value = source
    if known.inner != 1:
        value = call_like(graph, node, aten.mul, value, known.inner)
    if known.offset:
        value = call_like(graph, node, aten.add, value, known.offset)
    value = known.write(graph, node, value)
    if known.scale != 1:
        value = call_like(graph, node, aten.mul, value, known.scale)
    return call_like(graph, node, aten.add, value, known.shift) if known.shift else value
