"""Attention: gates whose argument is a product of two activations, and that weight values.

Queries and keys are multiplied entry by entry or as matrices. Sums of these products with constant
weights, and scalar functions of such sums, are *scores*. A gate of such scores depends on two
activations. It is therefore a signal beside the values that it weights, and gets relevance. A gate
whose scores come from one activation, such as ``softmax(W h)``, is linear in that activation before
it saturates, and is treated like any other gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from lrp_fx.graph import ADDITIONS, name_of, names_where
from lrp_fx.meaning.dependence import PARTS, REDUCTIONS, SCALAR_FUNCTIONS, SPLITS, WINDOWS
from lrp_fx.relevance import Counts, operation_of

SOFTMAXES = names_where(lambda row: row.normalizes and row.is_nonnegative)
_WRITTEN = names_where(lambda row: row.writes)
"""Operations that write into a value, such as a mask into scores."""
_MOVES = names_where(lambda row: row.arranges) | SPLITS | {"getitem", "sort", "neg"}
_CHOICES = names_where(lambda row: row.choice == "mask")
_SUMS = names_where(lambda row: row.sums and not row.resizes)
_WAYS = _MOVES | _CHOICES | _WRITTEN | _SUMS | SCALAR_FUNCTIONS | REDUCTIONS | WINDOWS | SOFTMAXES
_SCALED = _MOVES | _CHOICES | {"mul", "div"}
_LAYERS = frozenset(["dense", "convolution"])

Dynamic = Callable[[Any], bool]


def scores_two(
    gate: fx.Node,
    dynamic: Dynamic,
    counts: Mapping[fx.Node, Counts],
    of_two: Mapping[fx.Node, bool],
    is_gate: Callable[[fx.Node], bool],
) -> bool:
    """Whether a gate's argument is a scalar function of sums of products of two activations.

    The sums may have constant weights, and may be written as a layer: ``Σ w q k`` is
    ``linear(q * k)``.

    Args:
        gate: the value.
        dynamic: whether a value depends on the explained inputs.
        counts: for each product before the gate, which of its operands are signals.
        of_two: for each product and matrix product, whether it multiplies two activations.
        is_gate: whether a value is a gate; a layer that is one only sums up gates.
    """
    waiting, seen = [(gate, False)], set[tuple[fx.Node, bool]]()
    while waiting:
        node, layered = waiting.pop()
        if (node, layered) in seen or node.op != "call_function":
            continue
        seen.add((node, layered))
        if of_two.get(node, False):
            return True
        operation = operation_of(node)
        if node in counts:
            sources = [] if layered else _signals(node, counts[node])
        elif operation is not None and operation.kind in _LAYERS:
            sources = [] if layered else operation.operands(node)
            layered = not is_gate(node)
        elif operation is not None and operation.kind == "normalization":
            sources = [] if layered else operation.operands(node)
        elif name_of(node) in (_SCALED | ADDITIONS if layered else _WAYS):
            sources = node.all_input_nodes
        else:
            sources = []
        moving = [source for source in sources if dynamic(source)]
        if layered and name_of(node) in ADDITIONS and len(moving) > 1:
            continue  # a constant belongs to the layer's bias, another activation does not
        waiting += [(source, layered) for source in moving]
    return False


def _signals(node: fx.Node, counts: Counts) -> list[Any]:
    operation = operation_of(node)
    if operation is None or operation.kind == "bilinear":
        return []
    pairs = zip(operation.operands(node), counts.signals, strict=True)
    return [operand for operand, count in pairs if count]


def is_summed(
    node: fx.Node, dynamic: Dynamic, weighs: Callable[[fx.Node], bool] = lambda node: False
) -> bool:
    """Whether a product is summed up, directly or behind views and constant factors.

    A sum may be one operation over a dimension, or additions of several such products.

    Args:
        node: the product.
        dynamic: whether a value depends on the explained inputs.
        weighs: whether the weights of another product are a different part of the same value.
    """
    waiting = [(node, False)]
    while waiting:
        current, added = waiting.pop()
        for reader in current.users:
            if name_of(reader) in _SUMS and not added:
                return True
            others = [source for source in reader.all_input_nodes if dynamic(source)]
            if name_of(reader) in _SCALED and len(others) == 1:
                waiting.append((reader, added))
            elif name_of(reader) in ADDITIONS:
                if any(map(weighs, _terms([v for v in others if v is not current], dynamic))):
                    return True
                waiting.append((reader, True))
    return False


def _terms(values: list[fx.Node], dynamic: Dynamic) -> list[fx.Node]:
    """The products that the given values are sums of, seen through views and constant factors."""
    found, waiting = dict[fx.Node, None](), list(values)
    while waiting:
        node = waiting.pop()
        moving = [source for source in node.all_input_nodes if dynamic(source)]
        if name_of(node) in ADDITIONS or (name_of(node) in _SCALED and len(moving) == 1):
            waiting += moving
        else:
            found[node] = None
    return list(found)


def whole_of(weights: fx.Node) -> fx.Node | None:
    """The value from which the weights were cut out, or None if they are not a part of a value."""
    is_part = False
    while name_of(weights) in _MOVES and weights.all_input_nodes:
        is_part = is_part or name_of(weights) in PARTS
        weights = weights.all_input_nodes[0]
    return weights if is_part else None
