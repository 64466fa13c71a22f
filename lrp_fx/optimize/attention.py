"""Attention in blocks of queries, so that no matrix over all pairs of tokens is held as a whole.

The pass finds each attention, replaces its nodes of the forward pass by one, and those of the
relevance pass by another. Both run the replaced nodes on blocks of queries.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from lrp_fx.graph import (
    MATRIX_PRODUCTS,
    arguments,
    graph_module_of,
    in_order,
    literal,
    name_of,
    names_where,
)
from lrp_fx.optimize.draft import Draft
from lrp_fx.optimize.onednn import matmul
from lrp_fx.optimize.query_blocks import AttentionForward, AttentionRelevance, ClosedForm
from lrp_fx.relevance import BilinearRelevance, EdgeRelevance, SoftmaxRelevance

_ENTRYWISE = names_where(lambda row: row.entrywise) | {"clone"}
_LONGEST = 8
"""The largest number of entrywise functions before and behind the softmax."""
_SOFTMAXES = names_where(lambda row: row.normalizes and row.is_nonnegative)


@dataclass(frozen=True)
class _Attention:
    """The nodes of one attention.

    Args:
        inside: those that compute matrices (…, L, S), in order: logits, …, softmax, ….
        softmax: the softmax among them.
        output: the product with the values.
        passing: the relevance nodes between the output and the operands, in order.
        operands: the nodes of ``a``, ``b`` and ``v``.
        results: operand number and node of each relevance that leaves.
    """

    inside: tuple[fx.Node, ...]
    softmax: fx.Node
    output: fx.Node
    passing: tuple[fx.Node, ...]
    operands: tuple[fx.Node, fx.Node, fx.Node]
    results: tuple[tuple[int, fx.Node], ...]

    @property
    def relevance(self) -> fx.Node:
        """The relevance of the output."""
        found = self.passing[0].args[0]
        assert isinstance(found, fx.Node)
        return found

    @property
    def shapes(self) -> tuple[fx.Node, ...]:
        """What is read of a matrix that is not its entries, such as its shape."""
        users = (user for node in self.inside for user in node.users)
        return tuple(dict.fromkeys(user for user in users if _reads_attribute(user)))

    @property
    def others(self) -> list[fx.Node]:
        """What else the nodes read."""
        known = {*self.inside, *self.passing, *self.shapes, *self.operands}
        known |= {self.output, self.relevance}
        read = (source for node in (*self.inside, *self.passing) for source in node.all_input_nodes)
        return [node for node in dict.fromkeys(read) if node not in known]

    @property
    def is_closed(self) -> bool:
        """Whether nothing outside reads what lies inside, and operands are read at one place each."""
        known = {*self.inside, self.output, *self.passing, *self.shapes}
        hidden = (*self.inside, *self.shapes)
        if any(user not in known for node in hidden for user in node.users):
            return False
        ends = {self.inside[0], self.output, self.passing[0], self.passing[-1]}
        readers = {user for node in self.operands for user in node.users}
        return len({*self.operands, self.output}) == 4 and not (readers & known) - ends


def attend_in_blocks(draft: Draft) -> None:
    """Replace the nodes of each attention by two that can run in blocks."""
    for node in list(draft.graph.nodes):
        if node.op == "call_function" and name_of(node) in _SOFTMAXES:
            found = _attention_of(node, draft)
            if found is not None and found.is_closed:
                _replace(found, draft)


def _attention_of(softmax: fx.Node, draft: Draft) -> _Attention | None:
    """The attention around a softmax; None if there is no such."""
    if literal(arguments(softmax).get("dim")) != -1:
        return None
    above = _from_the_logits(softmax)
    below = _to_the_output(softmax)
    if above is None or below is None:
        return None
    inside, output = (*above, softmax, *below[:-1]), below[-1]
    return _with_relevance(inside, softmax, output, draft)


def _from_the_logits(softmax: fx.Node) -> list[fx.Node] | None:
    """The nodes from the matrix product above a softmax to it; None if there is not exactly one."""
    found: list[list[fx.Node]] = []
    waiting = [[softmax]]
    while waiting:
        path = waiting.pop()
        if len(path) > _LONGEST:
            return None
        for source in path[0].all_input_nodes:
            if source.op == "call_function" and name_of(source) in MATRIX_PRODUCTS:
                found.append([source, *path[:-1]])
            elif source.op == "call_function" and name_of(source) in _ENTRYWISE:
                waiting.append([source, *path])
    return found[0] if len(found) == 1 else None


def _to_the_output(softmax: fx.Node) -> list[fx.Node] | None:
    """The nodes from behind a softmax to the product with the values."""
    path: list[fx.Node] = []
    node = softmax
    while len(path) < _LONGEST:
        readers = [u for u in node.users if u.op == "call_function" and not _reads_attribute(u)]
        if len(readers) != 1:
            return None
        node, before = readers[0], node
        path.append(node)
        if name_of(node) in MATRIX_PRODUCTS:
            return path if node.args[0] is before else None
        if name_of(node) not in _ENTRYWISE:
            return None
    return None


def _with_relevance(
    inside: tuple[fx.Node, ...], softmax: fx.Node, output: fx.Node, draft: Draft
) -> _Attention | None:
    """Add the relevance nodes, if relevance passes through these nodes and nothing else."""
    logits = inside[0]
    first, second, values = *logits.args[:2], output.args[1]
    if not all(isinstance(each, fx.Node) for each in (first, second, values)):
        return None
    start = _product_relevance(output, (inside[-1], values), draft)
    if start is None:
        return None
    passing, results = [start], []
    node: fx.Node | None = None
    for place, part in _parts(start, draft):
        if place == 0:
            node = part
        else:
            results.append((2, part))
    while node is not None:
        passing.append(node)
        if len(node.users) != 1:
            return None
        (reader,) = node.users
        if reader.op != "call_module" or node is not reader.args[0]:
            return None
        if isinstance(draft.modules[str(reader.target)], EdgeRelevance):
            return None  # a hook or a filter needs the relevance of all rows at once
        passing.append(reader)
        node = reader
        if _product_relevance(logits, (first, second), draft) is reader:
            results += _parts(reader, draft)
            node = None
        elif all(user.target is operator.getitem for user in reader.users):
            if len(reader.users) != 1:
                return None
            (node,) = reader.users
        else:
            passing.pop()
    ordered = tuple(in_order(draft.graph, passing))
    operands: Any = (first, second, values)
    if not results:
        return None
    return _Attention(inside, softmax, output, ordered, operands, tuple(results))


def _product_relevance(product: fx.Node, operands: Sequence[Any], draft: Draft) -> fx.Node | None:
    """The node that passes relevance through a matrix product of two activations."""
    for user in product.users:
        module = draft.modules.get(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, BilinearRelevance) and user.args[1:] == (product, *operands):
            return user
    return None


def _parts(call: fx.Node, draft: Draft) -> list[tuple[int, fx.Node]]:
    """The results of a product's relevance node: the operand's position, and the node."""
    module = draft.modules[str(call.target)]
    assert isinstance(module, BilinearRelevance)
    return [(module.wanted[int(str(user.args[1]))], user) for user in call.users]


def _reads_attribute(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is getattr


def _replace(found: _Attention, draft: Draft) -> None:
    """Replace the nodes of an attention."""
    graph, modules = draft.graph, draft.modules
    others = found.others
    read = {source for node in found.passing for source in node.all_input_nodes}
    read |= {source for node in found.shapes for source in node.all_input_nodes}
    matrices = [node for node in found.inside if node in read]
    results = [node for _, node in found.results]
    given = [found.relevance, found.output, *found.operands, *others]
    forward = AttentionForward(
        _module(
            [*found.operands, *others],
            [*found.inside, found.output],
            lambda of: (of(found.output), tuple(map(of, matrices))),
            modules,
        )
    )
    behind = in_order(graph, [*found.shapes, *found.passing, *results])
    whole, again = (
        _module(inputs, nodes, lambda of: tuple(map(of, results)), modules)
        for inputs, nodes in (([*given, *matrices], behind), (given, [*found.inside, *behind]))
    )
    places = tuple(place for place, _ in found.results)
    backward = AttentionRelevance(whole, again, places, _closed_form(found, others, modules))
    folder = str(found.passing[0].target).rpartition(".")[0]
    paths = [f"{folder}.{found.softmax.name}_{end}" for end in ("forward", "backward")]
    modules |= dict(zip(paths, (forward, backward), strict=True))
    with graph.inserting_before(found.output):
        both = graph.create_node(
            "call_module",
            paths[0],
            (*found.operands, others),
            name=f"{found.softmax.name}_attention",
        )
        both.meta = dict(found.softmax.meta)
        output, kept = (graph.call_function(operator.getitem, (both, i)) for i in range(2))
        output.meta = dict(found.output.meta)
    found.output.replace_all_uses_with(output)
    with graph.inserting_before(found.passing[0]):
        call = graph.call_module(paths[1], (found.relevance, output, *found.operands, others, kept))
        call.meta = dict(found.passing[0].meta)
        for place, result in enumerate(results):
            part = graph.call_function(operator.getitem, (call, place))
            part.meta = dict(result.meta)
            result.replace_all_uses_with(part)
    gone = in_order(graph, [*found.inside, found.output, *behind])
    for node in reversed(gone):
        graph.erase_node(node)


def _closed_form(
    found: _Attention, others: Sequence[fx.Node], modules: dict[str, nn.Module]
) -> ClosedForm | None:
    """The formula of an attention; None if other nodes than its products and softmax take part."""
    calls = [modules[str(node.target)] for node in found.passing if node.op == "call_module"]
    kinds = [BilinearRelevance, SoftmaxRelevance, BilinearRelevance]
    if list(map(type, calls)) != kinds or len(found.inside) != 2:
        return None
    of_output, _, of_logits = calls
    assert isinstance(of_output, BilinearRelevance) and isinstance(of_logits, BilinearRelevance)
    stabilizer = of_logits.rule.stabilizer
    if not (stabilizer.eps > 0 and stabilizer.signed):
        return None
    if any(
        each.share != 0.5 or each.engine != "direct" or each.precision is not None
        for each in (of_output, of_logits)
    ):
        return None
    inside = _module(
        [*found.operands, *others],
        found.inside,
        lambda of: (of(found.inside[0]), of(found.inside[-1])),
        modules,
    )
    return ClosedForm(inside, of_output.rule.stabilizer, stabilizer)


def _module(
    inputs: Sequence[fx.Node],
    nodes: Sequence[fx.Node],
    results: Callable[[Callable[[fx.Node], fx.Node]], Any],
    modules: dict[str, nn.Module],
) -> fx.GraphModule:
    """Some nodes of a graph as a module of their own."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if name_of(node) in ("matmul", "bmm"):
            copies[node].target = matmul
    graph.output(results(copies.__getitem__))
    called = {str(node.target) for node in nodes if node.op == "call_module"}
    return graph_module_of({path: modules[path] for path in called}, graph, "Attention")
