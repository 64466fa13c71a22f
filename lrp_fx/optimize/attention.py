"""Attention in blocks of queries, so that no matrix over all pairs of tokens is held as a whole.

For ``y = softmax(f(a b)) v`` with queries ``a`` (…, L, D), keys ``b`` (…, D, S), values ``v`` (…, S,
E) and entrywise functions ``f``, such as a mask, each query has its own row of the logits, of the
softmax and of their relevance. A pass replaces the nodes of the forward pass by one, and those of
the relevance pass by another. Both run the replaced nodes on blocks of rows that fit the cache, and
the second computes the rows of the forward pass again (Rabe and Staats 2021). The relevance of keys
and values is the sum over all blocks. Memory is linear in the number of tokens.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, fx, nn

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
from lrp_fx.optimize.onednn import dense, matmul
from lrp_fx.relevance import BilinearRelevance, EdgeRelevance, RelevanceNode, SoftmaxRelevance
from lrp_fx.stabilizer import Stabilizer, may_write

WHOLE = 2**19
"""Matrices with at most so many entries are computed as a whole, and kept for the relevance pass."""
BLOCK = 2**19
"""The largest number of entries of a block, which has to fit the cache several times."""
SINGLE = 2**16
"""Larger matrices are taken one by one, since the fastest kernel multiplies single matrices."""

_ENTRYWISE = names_where(lambda row: row.entrywise) | {"masked_fill", "where", "to", "clone"}
_LONGEST = 8
"""The largest number of entrywise functions before and behind the softmax."""
_SOFTMAXES = names_where(lambda row: row.normalizes and row.is_nonnegative)

Block = tuple[slice, ...]
"""The part of a matrix (…, L, S) that a block is, along all dimensions but the last."""


class AttentionForward(nn.Module):
    """``y`` (…, L, E), and either the matrices (…, L, S) that the relevance pass reads, or none.

    Args:
        whole: computes ``(y, matrices)`` from the first operand, the second, the values, and the
            other tensors and numbers that the replaced nodes read.
    """

    def __init__(self, whole: fx.GraphModule) -> None:
        super().__init__()
        self.whole = whole

    def __call__(self, *args: Any) -> Any:
        """Run :meth:`forward` without the user's global module hooks."""
        return self.forward(*args)

    def forward(
        self, first: Tensor, second: Tensor, values: Tensor, others: Sequence[Any]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute ``y``, in blocks where the matrices are large and nothing records the operations."""
        shape = (*first.shape[:-1], second.shape[-1])
        if not _is_in_blocks(shape, first, second, values, others):
            output, matrices = self.whole(first, second, values, *others)
            return output, matrices
        operands = dense(first), dense(second), dense(values)
        output = first.new_empty(())
        for block in blocks(shape):
            part, _ = self.whole(
                *_parts_of(operands, block),
                *(_other(each, block, shape) for each in others),
            )
            if not output.dim():
                output = part.new_empty((*shape[:-1], values.shape[-1]))
            output[block] = part
        return output, ()


class AttentionRelevance(RelevanceNode):
    """The relevance of ``a``, ``b`` and ``v``, by the rules of the nodes that it replaces.

    Args:
        whole: computes the relevance from that of ``y``, from ``y``, the operands and the matrices.
        again: the same without the matrices, which it computes.
        places: which operand each result belongs to: 0 for ``a``, 1 for ``b``, 2 for ``v``.
        closed: the formula of all of them, where it is known; None to run the replaced nodes.
    """

    result = "new"

    def __init__(
        self,
        whole: fx.GraphModule,
        again: fx.GraphModule,
        places: tuple[int, ...],
        closed: ClosedForm | None,
    ) -> None:
        super().__init__()
        self.whole, self.again, self.places, self.closed = whole, again, places, closed

    def extra_repr(self) -> str:
        """The positions of the operands that get relevance."""
        return f"operands={self.places}"

    def propagate(
        self,
        relevance: Tensor,
        output: Tensor,
        first: Tensor,
        second: Tensor,
        values: Tensor,
        others: Sequence[Any],
        matrices: Sequence[Tensor],
    ) -> list[Tensor]:
        """The relevance of each operand that gets some, of its shape.

        Args:
            relevance: the relevance of ``y``, (…, L, E).
            output: ``y``.
            first: ``a``, (…, L, D).
            second: ``b``, (…, D, S).
            values: ``v``, (…, S, E).
            others: what else the replaced nodes read.
            matrices: the logits, the softmax and what lies between, (…, L, S); none if the forward
                pass ran in blocks.
        """
        operands = (first, second, values)
        if not matrices:
            operands = dense(first), dense(second), dense(values)
        shape = (*first.shape[:-1], second.shape[-1])
        if (
            self.closed is not None
            and may_write()
            and _alike(relevance, output, *operands, *matrices)
        ):
            found = self.closed.relevance(relevance, output, operands, others, shape, matrices)
            return [found[place] for place in self.places]
        if matrices:
            return list(self.whole(relevance, output, first, second, values, *others, *matrices))
        results: list[Tensor] = []
        for block in blocks(shape):
            parts = self.again(
                rows(relevance, block),
                rows(output, block),
                *_parts_of(operands, block),
                *(_other(each, block, shape) for each in others),
            )
            if not results:
                results = [
                    part.new_zeros(operands[place].shape)
                    for place, part in zip(self.places, parts, strict=True)
                ]
            for place, total, part in zip(self.places, results, parts, strict=True):
                if place == 0:
                    rows(total, block).copy_(part)
                else:
                    outer(total, block).add_(part)
        return results


@dataclass(frozen=True)
class ClosedForm:
    """AttnLRP (Achtibat et al. 2024) of ``y = p v``, ``p = softmax(x)``, ``x = a b``, in one formula.

    With ``q = ½ R / S(y)``, ``g = q vᵀ``, ``t = p ⊙ (g − Σ_e q_e y_e)`` and ``u = ½ t ⊙ x / S(x)``::

        R_a = a ⊙ (u bᵀ)        R_b = b ⊙ (aᵀ u)        R_v = v ⊙ (pᵀ q)

    It needs four products for each block, besides those of the forward pass, and few steps over its
    entries. Logits that are masked by −∞ have ``p = 0``, and so they pass nothing.

    Args:
        inside: computes ``(x, p)`` from ``a``, ``b``, ``v`` and what else the nodes read.
        of_output: the stabilizer of ``S(y)``.
        of_logits: the stabilizer of ``S(x)``, with the sign of ``x`` and ε > 0.
    """

    inside: fx.GraphModule
    of_output: Stabilizer
    of_logits: Stabilizer

    def relevance(
        self,
        relevance: Tensor,
        output: Tensor,
        operands: tuple[Tensor, Tensor, Tensor],
        others: Sequence[Any],
        shape: Sequence[int],
        matrices: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The relevance of ``a``, ``b`` and ``v``, of their shapes.

        Args:
            relevance: ``R``, (…, L, E).
            output: ``y``, (…, L, E).
            operands: ``a`` (…, L, D), ``b`` (…, D, S) and ``v`` (…, S, E).
            others: what else the nodes read.
            shape: of ``x``, (…, L, S).
            matrices: ``x`` and ``p`` if they were kept, else none.
        """
        quotient = self.of_output.quotient(relevance, output).mul_(0.5)
        mean = (quotient * output).sum(-1, keepdim=True)
        if matrices:
            parts = self._products(quotient, mean, *operands, *matrices)
        else:
            parts = self._in_blocks(dense(quotient), mean, operands, others, shape)
        of_first, of_second, of_values = parts
        first, second, values = operands
        return (
            of_first.mul_(first).mul_(0.5),
            of_second.mul_(second).mul_(0.5),
            of_values.mT.mul_(values),
        )

    def _in_blocks(
        self,
        quotient: Tensor,
        mean: Tensor,
        operands: tuple[Tensor, Tensor, Tensor],
        others: Sequence[Any],
        shape: Sequence[int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`_products` of all blocks: one behind the other for ``a``, sums for ``b`` and ``v``."""
        first, second, values = operands
        of_first, of_second, of_values = (
            torch.zeros_like(each, memory_format=torch.contiguous_format)
            for each in (first, second, values.mT)
        )
        for block in blocks(shape):
            mine = _parts_of(operands, block)
            x, p = self.inside(*mine, *(_other(each, block, shape) for each in others))
            parts = self._products(rows(quotient, block), rows(mean, block), *mine, x, p)
            rows(of_first, block).copy_(parts[0])
            outer(of_second, block).add_(parts[1])
            outer(of_values, block).add_(parts[2])
        return of_first, of_second, of_values

    def _products(
        self, q: Tensor, mean: Tensor, a: Tensor, b: Tensor, v: Tensor, x: Tensor, p: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``2 u bᵀ``, ``2 aᵀ u`` and ``qᵀ p``; ``mean`` is ``Σ_e q_e y_e``."""
        t = matmul(q, v.mT).sub_(mean).mul_(p)
        shift = self.of_logits.shift(x.dtype)
        # x / S(x) = 1 − ε / (|x| + ε)
        u = t.addcdiv_(t, x.abs().add_(shift), value=-shift)
        return matmul(u, b.mT), matmul(a.mT, u), matmul(q.mT, p)


def _parts_of(operands: Sequence[Tensor], block: Block) -> tuple[Tensor, Tensor, Tensor]:
    """What a block reads of ``a``, ``b`` and ``v``."""
    first, second, values = operands
    return rows(first, block), outer(second, block), outer(values, block)


def blocks(shape: Sequence[int]) -> Iterator[Block]:
    """Cut a matrix (…, L, S) into blocks of whole rows, of about ``BLOCK`` entries."""
    steps, inner = [], shape[-1]
    for dim, size in enumerate(reversed(shape[:-1])):
        is_single = dim and inner > SINGLE
        step = 1 if is_single else max(1, min(size, BLOCK // max(1, inner)))
        steps.append(range(0, size, step))
        inner *= size
    for starts in product(*reversed(steps)):
        yield tuple(slice(start, start + steps[-1 - dim].step) for dim, start in enumerate(starts))


def rows(tensor: Tensor, block: Block) -> Tensor:
    """The rows of a block, of a tensor (…, L, any)."""
    return tensor[block]


def outer(tensor: Tensor, block: Block) -> Tensor:
    """The part of a tensor (…, any, any) that all rows of a block read."""
    return tensor[block[:-1]]


def _other(value: Any, block: Block, shape: Sequence[int]) -> Any:
    """The part of a tensor that broadcasts to the matrices, or a number."""
    if not isinstance(value, Tensor) or value.dim() < 2:
        return value
    cut = block[len(shape) - value.dim() :]
    return value[
        tuple(
            each if size > 1 else slice(None) for each, size in zip(cut, value.shape, strict=False)
        )
    ]


def _is_in_blocks(
    shape: Sequence[int], first: Tensor, second: Tensor, values: Tensor, others: Sequence[Any]
) -> bool:
    """Whether the matrices are large, and blocks of all operands belong together."""
    if not may_write():  # comes first: an exported graph must not depend on sizes
        return False
    if first.is_meta or torch.is_autocast_enabled(first.device.type):
        return False
    return (
        math.prod(shape) > WHOLE
        and _alike(first, second, values)
        and values.shape[-2] == shape[-1]
        and all(_broadcasts(each, shape) for each in others)
    )


def _alike(*tensors: Tensor) -> bool:
    """Whether all have one dtype, and matrices for the same samples and heads."""
    first, *others = tensors
    return all(each.dtype == first.dtype and each.shape[:-2] == first.shape[:-2] for each in others)


def _broadcasts(value: Any, shape: Sequence[int]) -> bool:
    if not isinstance(value, Tensor):
        return isinstance(value, (bool, int, float, torch.dtype, torch.device))
    sizes = shape[len(shape) - value.dim() :]
    return value.dim() <= len(shape) and all(
        own in (1, size) for own, size in zip(value.shape, sizes, strict=True)
    )


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
