"""Static facts about a canonical graph, found once before any rule is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from lrp_fx.graph import (
    ADDITIONS,
    ARITHMETIC,
    CASTS,
    arguments,
    is_size,
    name_of,
    row_of,
    tensor_at,
)
from lrp_fx.meaning.attention import SOFTMAXES
from lrp_fx.meaning.factors import count_factors
from lrp_fx.meaning.signs import is_nonnegative
from lrp_fx.relevance import Counts, has_weights, indices_of, looked_up, operation_of

AFFINE = ARITHMETIC | {"neg", "batch_norm"}
"""Operations that are affine in their first operand if their other operands are constants."""


@dataclass(frozen=True)
class Analysis:
    """Facts about the nodes of a graph, for given inputs that are explained.

    Args:
        dynamic: tensor values that depend on the explained inputs.
        nonnegative: tensor values without negative entries, for any input.
        preprocessing: dynamic values that are reached from the inputs only by routing and constant
            affine operations. Rows of tables and sums with them do not belong to them: they are
            learned.
        constant: nodes that depend only on parameters and literals.
        products: for each product and matrix product of two dynamic values, the number of factors
            on each side.
        categorical: dynamic values that are used only to choose rows of constant tables.
        places: nodes that say where dynamic values are, not what they are. Relevance ends there.
    """

    dynamic: frozenset[fx.Node]
    nonnegative: frozenset[fx.Node]
    preprocessing: frozenset[fx.Node]
    constant: frozenset[fx.Node]
    products: Mapping[fx.Node, Counts]
    categorical: frozenset[fx.Node]
    places: frozenset[fx.Node]

    def is_dynamic(self, node: Any) -> bool:
        """Whether the value depends on the explained inputs."""
        return node in self.dynamic

    def is_nonnegative(self, node: Any) -> bool:
        """Whether the graph proves that no entry is negative."""
        return node in self.nonnegative

    def is_preprocessing(self, node: Any) -> bool:
        """Whether only routing and constant affine operations lie between the inputs and ``node``."""
        return node in self.preprocessing

    def counts(self, product: fx.Node) -> Counts:
        """How many factors each operand of a product or matrix product of two dynamic values has."""
        return self.products[product]

    def is_categorical(self, node: Any) -> bool:
        """Whether the value is used only to choose rows of tables, so that its size means nothing."""
        return node in self.categorical


def analyse(graph: fx.Graph, inputs: Iterable[fx.Node]) -> Analysis:
    """Find the facts about a graph.

    An undescribed operation whose result only chooses rows of tables is treated as one that yields
    positions. Whatever else reads the input can then still be explained.
    """
    inputs = list(inputs)
    facts = _analysed(graph, inputs, frozenset())
    undescribed = {
        node
        for node in facts.categorical
        if node.op == "call_function" and name_of(node) != "getitem" and operation_of(node) is None
    }
    return _analysed(graph, inputs, frozenset(undescribed)) if undescribed else facts


def dynamic_values(graph: fx.Graph, inputs: Iterable[fx.Node]) -> set[fx.Node]:
    """The values that depend on the inputs, also through operations that are not described."""
    return _dynamic(graph, list(inputs), frozenset())[0]


def has_attention(graph: fx.Graph) -> bool:
    """Whether the graph has attention of queries, keys and values, fused or written out."""
    if not any(name_of(node) in SOFTMAXES for node in graph.nodes):
        return False
    facts = analyse(graph, (node for node in graph.nodes if node.op == "placeholder"))
    return any(counts.is_attention for counts in facts.products.values())


def _analysed(graph: fx.Graph, inputs: list[fx.Node], undescribed: frozenset[fx.Node]) -> Analysis:
    dynamic, places = _dynamic(graph, inputs, undescribed)
    categorical = _categorical(graph, dynamic)
    preprocessing, names = set(inputs), set(inputs)
    # the values computed from numbers, masks computed from them, and what is found at positions
    dependent = (preprocessing - categorical) | places
    nonnegative: set[fx.Node] = set()
    constant: set[fx.Node] = set()
    tables: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr":
            constant.add(node)
            if _is_table(node):
                tables.add(node)
            if is_nonnegative(node, nonnegative):
                nonnegative.add(node)
        if node.op != "call_function":
            continue
        sources = node.all_input_nodes
        if sources and all(source in constant for source in sources):
            constant.add(node)
            if not tables.isdisjoint(sources):
                tables.add(node)
        if is_size(node) or row_of(node).says == "shapes":
            continue
        begins = bool(looked_up(node, dynamic.__contains__))  # rows of a table count as an input
        if begins or any(source in dependent for source in sources):
            dependent.add(node)
        if node in dynamic and (begins or _is_preprocessing(node, dependent, names)):
            names.add(node)
            is_plain = not (
                begins or (name_of(node) in ADDITIONS and not tables.isdisjoint(sources))
            )
            if is_plain and _is_preprocessing(node, dependent, preprocessing):
                preprocessing.add(node)
        if is_nonnegative(node, nonnegative):
            nonnegative.add(node)
    names |= categorical
    places |= {node for node in graph.nodes if _ends(node, names, dynamic)}
    return Analysis(
        dynamic=frozenset(dynamic),
        nonnegative=frozenset(nonnegative),
        preprocessing=frozenset(preprocessing),
        constant=frozenset(constant),
        products=count_factors(graph, dynamic.__contains__),
        categorical=frozenset(categorical),
        places=frozenset(places),
    )


def _dynamic(
    graph: fx.Graph, inputs: list[fx.Node], undescribed: frozenset[fx.Node]
) -> tuple[set[fx.Node], set[fx.Node]]:
    """The values that depend on the inputs, and the nodes that say where such values are."""
    dynamic: set[fx.Node] = set(inputs)
    places: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op != "call_function" or is_size(node) or row_of(node).says == "shapes":
            continue
        if row_of(node).says == "places" or node in undescribed or _is_part_with_places(node):
            if not dynamic.isdisjoint(node.all_input_nodes):
                places.add(node)
        elif not _is_mask(node) and not dynamic.isdisjoint(_moving(node)):
            dynamic.add(node)
    return dynamic, places


def _categorical(graph: fx.Graph, dynamic: set[fx.Node]) -> set[fx.Node]:
    """The values that are used only as indices of constant tables, or to compute such indices."""
    found: set[fx.Node] = set()
    unread: set[fx.Node] = set()  # only their shapes are read, or they are conditions
    for node in reversed(graph.nodes):
        if node not in dynamic:
            continue
        uses = []
        for reader in node.users:
            if reader.op == "output":
                uses.append(False)
            elif node in looked_up(reader, dynamic.__contains__):
                uses.append(True)
            elif reader in dynamic and node in _moving(reader) and reader not in unread:
                uses.append(reader in found)
        if not uses:
            unread.add(node)
        elif all(uses):
            found.add(node)
    return found


def _ends(node: fx.Node, names: set[fx.Node], dynamic: set[fx.Node]) -> bool:
    """Whether relevance ends at a node because it reads only where values of the input are.

    It compares indices or values of the input, or writes at positions that they give.
    """
    if node.op != "call_function" or node in dynamic or name_of(node) == "expand_as":
        return False
    if row_of(node).says == "shapes":
        return False
    return not (is_size(node) or names.isdisjoint(node.all_input_nodes))


def _is_mask(node: fx.Node) -> bool:
    """Whether a node yields a mask: it compares values or casts them to booleans."""
    if row_of(node).says == "masks":
        return True
    is_cast = name_of(node) in CASTS
    return is_cast and torch.bool in (*node.args, *node.kwargs.values())


def _is_part_with_places(node: fx.Node) -> bool:
    return name_of(node) == "getitem" and bool(node.all_input_nodes) and is_place(node)


def is_place(part: fx.Node) -> bool:
    """Whether one of several results holds positions, not values, as the second of ``max(dim)``."""
    has_places = row_of(part.all_input_nodes[0]).results == "values and places"
    return has_places and bool(part.args[1] == 1)


def _moving(node: fx.Node) -> list[fx.Node]:
    """The operands that can get relevance; for described operations not indices and conditions."""
    operation = operation_of(node)
    if operation is None or operation.kind == "recurrent":
        return node.all_input_nodes
    operands = [*operation.operands(node), *indices_of(node)]
    return [operand for operand in operands if isinstance(operand, fx.Node)]


def _is_table(node: fx.Node) -> bool:
    """Whether a parameter has two dimensions or more, such as one row for each position.

    What is added of it is not preprocessing: embeddings plus positions are a sum of two learned
    values, and each gets its share. A parameter for each channel is a shift.
    """
    module = node.graph.owning_module
    if module is None:
        return False
    value = tensor_at(module, str(node.target))
    return isinstance(value, nn.Parameter) and sum(size > 1 for size in value.shape) > 1


def _is_preprocessing(node: fx.Node, dependent: set[fx.Node], preprocessing: set[fx.Node]) -> bool:
    """Whether a node only moves preprocessed values, or is affine in one, with constants beside it."""
    moving = [source for source in node.all_input_nodes if source in dependent]
    if not all(source in preprocessing for source in moving):
        return False
    if name_of(node) not in AFFINE:
        return row_of(node).arranges or name_of(node) in ("getitem", "where")
    if name_of(node) not in ARITHMETIC:
        return True
    bound = arguments(node)
    a, b = bound["self"], bound["other"]
    return (a in dependent) != (b in dependent) and not (name_of(node) == "div" and b in dependent)


def linear_ranks(
    nodes: Iterable[fx.Node], receivers: Callable[[fx.Node], list[fx.Node]]
) -> tuple[dict[fx.Node, int], dict[fx.Node, int]]:
    """Rank each linear operation among ``nodes``, from the inputs and from the output.

    The rank is the largest number of other linear operations on a path of the relevance between the
    operation and that end. The first operations have rank 0 from the inputs, the last ones rank 0
    from the output. A recurrent layer has the rank of its input from the inputs: what its initial
    states come from does not lie before the map of its input.

    Returns:
        The ranks from the inputs, and the ranks from the output.
    """
    ordered = list(nodes)
    members = set(ordered)
    from_input: dict[fx.Node, int] = {}
    below: dict[fx.Node, int] = {}
    for node in ordered:
        depths = {source: below.get(source, 0) for source in receivers(node)}
        depth = max(depths.values(), default=0)
        if has_weights(node):
            own = node.args[0]
            from_input[node] = depths.get(own, depth) if isinstance(own, fx.Node) else depth
        below[node] = depth + has_weights(node)
    from_output: dict[fx.Node, int] = {}
    above: dict[fx.Node, int] = {}
    for node in reversed(ordered):
        depth = above.get(node, 0)
        if has_weights(node):
            from_output[node] = depth
        for source in receivers(node):
            if source in members:
                above[source] = max(above.get(source, 0), depth + has_weights(node))
    return from_input, from_output
