"""Products of two tensors and their adjoints, and the operation ``lrp_fx::product``.

``aten.linear`` is a product with a constant matrix on the right. In a canonical graph, every other
product with a constant (``W @ x``, a vector, a matrix for each head, an einsum) is a call of
``lrp_fx::product``. It computes ``y = x · W + b`` and has the same three operands as a linear
layer.
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
    """Return ``x · W + b``.

    Args:
        input: ``x``.
        weight: ``W``.
        bias: ``b``, which broadcasts to the product, or None.
        form: which product: ``"input @ weight"``, ``"weight @ input"``, or the equation of an
            einsum of ``x`` and ``W`` in which no operand has the same index twice.
    """
    if form == ON_THE_RIGHT:
        result = torch.matmul(input, weight)
    elif form == ON_THE_LEFT:
        result = torch.matmul(weight, input)
    else:
        result = torch.einsum(form, input, weight)
    return result if bias is None else result + bias


def product_adjoint(q: Tensor, input: Tensor, weight: Tensor, form: str) -> Tensor:
    """``Jᵀ q`` for the Jacobian ``J`` of :func:`product` with respect to ``x``; shaped like ``x``."""
    if form == ON_THE_RIGHT:
        return matmul_adjoint(q, input, weight, True)
    if form == ON_THE_LEFT:
        return matmul_adjoint(q, weight, input, False)
    return einsum_adjoint(form, q, input, weight, True).contiguous()  # no expanded view


torch.library.define(
    "lrp_fx::product", "(Tensor input, Tensor weight, Tensor? bias, str form) -> Tensor"
)
torch.library.impl("lrp_fx::product", "CompositeImplicitAutograd", product)
_operations: Any = torch.ops.lrp_fx
PRODUCT: Packet = _operations.product


def matmul_adjoint(q: Tensor, a: Tensor, b: Tensor, of_first: bool) -> Tensor:
    """``Jᵀ q`` for the Jacobian ``J`` of ``a @ b`` with respect to one operand.

    Like ``torch.matmul`` it accepts vectors and broadcasts batch dimensions.

    Args:
        q: the cotangent, of the shape of ``a @ b``.
        a: the first operand.
        b: the second operand.
        of_first: whether ``J`` is taken with respect to ``a`` or to ``b``.
    """
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
    """``Jᵀ q`` for the Jacobian ``J`` of ``einsum(equation, a, b)`` with respect to one operand.

    An index that occurs in this operand alone was summed over: the result is expanded along it, so
    it may be a view with several places in one memory cell.

    Args:
        equation: the equation, with ``->``.
        q: the cotangent, of the shape of the result.
        a: the first operand.
        b: the second operand.
        of_first: whether ``J`` is taken with respect to ``a`` or to ``b``.
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
    # a dimension of size one was broadcast to the size of the other operand
    single = [d for d, size in enumerate(operand.shape) if size == 1 and result.shape[d] != 1]
    return (result.sum(single, keepdim=True) if single else result).expand(operand.shape)


@lru_cache(maxsize=1024)
def _spelled_out(equation: str, *ranks: int) -> tuple[str, str, str]:
    """The indices of both operands and of the output, with an ellipsis replaced by unused letters."""
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
    """Undo broadcasting: sum ``value`` down to ``shape``."""
    return value if value.shape == shape else value.sum_to_size(shape)
