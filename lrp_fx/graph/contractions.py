"""Contractions of two tensors, matrix products and einsum: their adjoints, and one affine operation.

``aten.linear`` is a product with a constant matrix on the right. Every other product with a constant
(``W @ x``, a vector, a matrix for each head, einsum) is the operation ``lrp_fx::product`` in a canonical
graph, ``y = x · W + b``, with the same three operands as a linear layer.
"""

from __future__ import annotations

from functools import lru_cache
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph.calls import Packet

ON_THE_RIGHT, ON_THE_LEFT = "input @ weight", "weight @ input"
ELLIPSIS = "..."


def product(input: Tensor, weight: Tensor, bias: Tensor | None, form: str) -> Tensor:
    """``x · W + b``.

    Args:
        input: ``x``.
        weight: ``W``.
        bias: ``b``, which broadcasts to the product.
        form: ``"input @ weight"``, ``"weight @ input"``, or the equation of an einsum of ``x`` and
            ``W``, in which no index occurs twice in one operand.
    """
    if form == ON_THE_RIGHT:
        result = torch.matmul(input, weight)
    elif form == ON_THE_LEFT:
        result = torch.matmul(weight, input)
    else:
        result = torch.einsum(form, input, weight)
    return result if bias is None else result + bias


def product_adjoint(q: Tensor, input: Tensor, weight: Tensor, form: str) -> Tensor:
    """``Jᵀ q`` of :func:`product` with respect to ``x``, of its shape."""
    if form == ON_THE_RIGHT:
        return matmul_adjoint(q, input, weight, True)
    if form == ON_THE_LEFT:
        return matmul_adjoint(q, weight, input, False)
    return einsum_adjoint(form, q, input, weight, True).contiguous()  # not one value in many places


torch.library.define(
    "lrp_fx::product", "(Tensor input, Tensor weight, Tensor? bias, str form) -> Tensor"
)
torch.library.impl("lrp_fx::product", "CompositeImplicitAutograd", product)
_operations: Any = torch.ops.lrp_fx
PRODUCT: Packet = _operations.product


def matmul_adjoint(q: Tensor, a: Tensor, b: Tensor, of_first: bool) -> Tensor:
    """``Jᵀ q`` of ``a @ b`` with respect to one operand; vectors and broadcasting as in torch."""
    a2 = a.unsqueeze(0) if a.dim() == 1 else a
    b2 = b.unsqueeze(-1) if b.dim() == 1 else b
    if b.dim() == 1:
        q = q.unsqueeze(-1)
    if a.dim() == 1:
        q = q.unsqueeze(-2)
    if of_first:
        return _summed(q @ b2.mT, a2.shape).reshape(a.shape)
    return _summed(a2.mT @ q, b2.shape).reshape(b.shape)


def einsum_adjoint(equation: str, q: Tensor, a: Tensor, b: Tensor, of_first: bool) -> Tensor:
    """``Jᵀ q`` of ``einsum(equation, a, b)`` with respect to one operand.

    An index that only this operand has was summed over: the cotangent is spread along it.
    """
    first, second, output = _spelled_out(equation, a.dim(), b.dim())
    wanted, operand = (first, a) if of_first else (second, b)
    names, other = (second, b) if of_first else (first, a)
    missing = [i for i in wanted if i not in output and i not in names]
    kept = "".join(i for i in wanted if i not in missing)
    result = torch.einsum(f"{output},{names}->{kept}", q, other)
    for position, index in enumerate(wanted):
        if index in missing:
            result = result.unsqueeze(position)
    if result.shape == operand.shape:
        return result
    # an index of size one was repeated to that of the other operand
    single = [d for d, size in enumerate(operand.shape) if size == 1 and result.shape[d] != 1]
    return (result.sum(single, keepdim=True) if single else result).expand(operand.shape)


@lru_cache(maxsize=1024)
def _spelled_out(equation: str, *ranks: int) -> tuple[str, str, str]:
    """The indices of both operands and of the output, letters in the place of an ellipsis."""
    inputs, output = equation.split("->")
    operands = inputs.split(",")
    free = [letter for letter in ascii_letters if letter not in equation]
    widths = [
        rank - len(operand.replace(ELLIPSIS, "")) if ELLIPSIS in operand else 0
        for operand, rank in zip(operands, ranks, strict=True)
    ]
    letters = free[: max(widths)]
    named = [
        operand.replace(ELLIPSIS, "".join(letters[len(letters) - width :]))
        for operand, width in zip(operands, widths, strict=True)
    ]
    return named[0], named[1], output.replace(ELLIPSIS, "".join(letters))


def _summed(value: Tensor, shape: torch.Size) -> Tensor:
    """Undo broadcasting."""
    return value if value.shape == shape else value.sum_to_size(shape)
