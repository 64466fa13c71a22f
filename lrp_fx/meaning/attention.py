"""Attention: a gate whose argument is made of two activations, summed up with values.

Queries and keys meet in a product or a matrix product. Its sums by constant weights, and scalar
functions of these, are scores. A gate of such scores is made of two activations and is a signal beside
the values. A gate of a layer's scores, or of scores by constant queries, ``softmax(W h)``, is linear in
one activation before it saturates: it is a gate as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from lrp_fx.graph import name_of, names_where
from lrp_fx.meaning.cones import PARTS, REDUCTIONS, SCALAR_FUNCTIONS, SPLITS, WINDOWS
from lrp_fx.relevance import Counts, operation_of

SOFTMAXES = names_where(lambda row: row.normalizes and row.is_nonnegative)
_WRITTEN = names_where(lambda row: row.writes)
"""What writes into a value, such as a mask into scores."""
_MOVES = names_where(lambda row: row.arranges) | SPLITS | {"getitem", "sort", "neg"}
_SUMS = names_where(lambda row: row.sums and not row.resizes)
_WAYS = _MOVES | _WRITTEN | _SUMS | SCALAR_FUNCTIONS | REDUCTIONS | WINDOWS | SOFTMAXES
_SCALED = _MOVES | {"mul", "div"}
_ADDS = frozenset(["add", "sub", "rsub"])
_LAYERS = frozenset(["dense", "convolution"])

Dynamic = Callable[[Any], bool]


def scores_two(
    gate: fx.Node,
    dynamic: Dynamic,
    counts: Mapping[fx.Node, Counts],
    of_two: Mapping[fx.Node, bool],
) -> bool:
    """Whether a gate's argument is a scalar function of sums of products of two activations.

    The sums may have constant weights, also as one layer: ``Σ w q k`` is ``linear(q * k)``.

    Args:
        gate: the value.
        dynamic: whether a value depends on the explained inputs.
        counts: of each product before the gate, where its signals are.
        of_two: of each product, and each matrix product, whether it is one of two activations.
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
            layered = True
        elif operation is not None and operation.kind == "normalization":
            sources = [] if layered else operation.operands(node)
        elif name_of(node) in (_SCALED | _ADDS if layered else _WAYS):
            sources = node.all_input_nodes
        else:
            sources = []
        moving = [source for source in sources if dynamic(source)]
        if layered and name_of(node) in _ADDS and len(moving) > 1:
            continue  # a constant is a part of the layer's bias; another value is not
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
    """Whether a product is summed up, views and constant factors aside, also value by value.

    Args:
        node: the product.
        dynamic: whether a value depends on the explained inputs.
        weighs: whether another product has weights that are another part of the same value.
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
            elif name_of(reader) in _ADDS:
                if any(map(weighs, _terms([v for v in others if v is not current], dynamic))):
                    return True
                waiting.append((reader, True))
    return False


def _terms(values: list[fx.Node], dynamic: Dynamic) -> list[fx.Node]:
    """The products that some values are sums of, views and constant factors aside."""
    found, waiting = dict[fx.Node, None](), list(values)
    while waiting:
        node = waiting.pop()
        moving = [source for source in node.all_input_nodes if dynamic(source)]
        if name_of(node) in _ADDS or (name_of(node) in _SCALED and len(moving) == 1):
            waiting += moving
        else:
            found[node] = None
    return list(found)


def whole_of(weights: fx.Node) -> fx.Node | None:
    """The value of which weights are a part; None where they are no part."""
    is_part = False
    while name_of(weights) in _MOVES and weights.all_input_nodes:
        is_part = is_part or name_of(weights) in PARTS
        weights = weights.all_input_nodes[0]
    return weights if is_part else None


__all__ = ["SOFTMAXES", "is_summed", "scores_two", "whole_of"]
