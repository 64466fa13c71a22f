"""Attention in blocks of queries: the nodes that run it, forward and back.

For ``y = softmax(f(a b)) v`` with queries ``a`` (…, L, D), keys ``b`` (…, D, S), values ``v`` (…, S,
E) and entrywise functions ``f``, such as a mask, each query has its own row of the logits, of the
softmax and of their relevance. Both nodes work on blocks of rows that fit the cache, and the second
computes the rows of the forward pass again (Rabe and Staats 2021). The relevance of keys and values
is the sum over all blocks. Memory is linear in the number of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrp_fx.optimize.onednn import dense, matmul
from lrp_fx.relevance import RelevanceNode
from lrp_fx.rules import Stabilizer, may_write

WHOLE = 2**19
"""Matrices with at most so many entries are computed as a whole, and kept for the relevance pass."""
BLOCK = 2**19
"""The largest number of entries of a block, which has to fit the cache several times."""
SINGLE = 2**16
"""Larger matrices are taken one by one, since the fastest kernel multiplies single matrices."""

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

        def part(block: Block) -> tuple[Tensor]:
            output, _ = self.whole(*_parts(block, shape, operands, others))
            return (output,)

        size = (*shape[:-1], values.shape[-1])
        return assembled(shape, part, [size], by_rows=[True])[0], ()


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

        def parts(block: Block) -> Sequence[Tensor]:
            found: Sequence[Tensor] = self.again(
                rows(relevance, block), rows(output, block), *_parts(block, shape, operands, others)
            )
            return found

        sizes = [operands[place].shape for place in self.places]
        return assembled(shape, parts, sizes, by_rows=[place == 0 for place in self.places])


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
        first, second, values = operands
        if matrices:
            x, p = matrices
            found: Sequence[Tensor] = self._products(quotient, mean, first, second, values, x, p)
        else:
            quotient = dense(quotient)

            def products(block: Block) -> Sequence[Tensor]:
                a, b, v, *rest = _parts(block, shape, operands, others)
                x, p = self.inside(a, b, v, *rest)
                return self._products(rows(quotient, block), rows(mean, block), a, b, v, x, p)

            sizes = [first.shape, second.shape, values.mT.shape]
            found = assembled(shape, products, sizes, by_rows=[True, False, False])
        of_first, of_second, of_values = found
        return (
            of_first.mul_(first).mul_(0.5),
            of_second.mul_(second).mul_(0.5),
            of_values.mT.mul_(values),
        )

    def _products(
        self, q: Tensor, mean: Tensor, a: Tensor, b: Tensor, v: Tensor, x: Tensor, p: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``2 u bᵀ``, ``2 aᵀ u`` and ``qᵀ p``; ``mean`` is ``Σ_e q_e y_e``."""
        t = matmul(q, v.mT).sub_(mean).mul_(p)
        shift = self.of_logits.shift(x.dtype)
        # x / S(x) = 1 − ε / (|x| + ε)
        u = t.addcdiv_(t, x.abs().add_(shift), value=-shift)
        return matmul(u, b.mT), matmul(a.mT, u), matmul(q.mT, p)


def assembled(
    shape: Sequence[int],
    parts: Callable[[Block], Sequence[Tensor]],
    sizes: Sequence[Sequence[int]],
    *,
    by_rows: Sequence[bool],
) -> list[Tensor]:
    """The results of all blocks of a matrix: placed by their rows, or added up.

    Args:
        shape: of the matrix, (…, L, S).
        parts: computes the results of a block.
        sizes: the shape of each result of the whole matrix.
        by_rows: whether a result has the rows of its block; else it is a sum over the rows.
    """
    results: list[Tensor] = []
    for block in blocks(shape):
        found = parts(block)
        if not results:
            results = [part.new_zeros(size) for part, size in zip(found, sizes, strict=True)]
        for result, part, has_rows in zip(results, found, by_rows, strict=True):
            if has_rows:
                rows(result, block).copy_(part)
            else:
                outer(result, block).add_(part)
    return results


def _parts(
    block: Block, shape: Sequence[int], operands: Sequence[Tensor], others: Sequence[Any]
) -> tuple[Any, ...]:
    """What a block reads of ``a``, ``b``, ``v``, and of other tensors and numbers."""
    first, second, values = operands
    mine = rows(first, block), outer(second, block), outer(values, block)
    return (*mine, *(_other(each, block, shape) for each in others))


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
