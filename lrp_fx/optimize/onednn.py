"""Matrix products by the fastest kernel that torch has for them.

On CPU, torch multiplies float32 matrices by the BLAS it was built with, and so it computes 1×1
convolutions on one thread. torch uses oneDNN only for other convolutions and compiled models.
oneDNN was faster wherever this was measured (``docs/performance.md``), and twice as fast on
processors that the BLAS has no good kernels for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lrp_fx.graph import aten

MIN_ROWS = 4
"""With fewer rows, reading the weight dominates, which BLAS does as fast."""
LITTLE_WORK = 2**20
"""With fewer multiplications, the overhead of the call dominates."""


_is_available: Callable[[], bool] = torch.backends.mkldnn.is_available
HAS_ONEDNN = _is_available()
"""Whether torch was built with oneDNN."""
_ONEDNN: Callable[..., Tensor] | None = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None) if HAS_ONEDNN else None
)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x Wᵀ + b``, of shape (…, F_out).

    Args:
        input: ``x``, (…, F_in).
        weight: ``W``, (F_out, F_in), in any layout.
        bias: ``b``, (F_out,).
    """
    if takes_onednn(input, weight):
        return by_onednn(input, weight, bias)
    return aten.linear(input, weight, bias)


def linear_adjoint(q: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    """``Wᵀ q`` for each row of ``q``, (…, F_out) to (…, F_in)."""
    return linear(q, weight.t())


def matmul(first: Tensor, second: Tensor) -> Tensor:
    """``torch.matmul``; single matrices (1, …, L, D) and (1, …, D, S) make a layer."""
    if _may_choose() and first.dim() == second.dim() >= 2 and _is_single(first, second):
        rows, weight = first[(0,) * (first.dim() - 2)], second[(0,) * (second.dim() - 2)].mT
        if takes_onednn(rows, weight):
            product = by_onednn(dense(rows), dense(weight), None)
            return product.view(*first.shape[:-1], second.shape[-1])
    return aten.matmul(first, second)


def _is_single(*tensors: Tensor) -> bool:
    """Whether each tensor holds one matrix, (1, …, 1, L, D)."""
    return all(size == 1 for each in tensors for size in each.shape[:-2])


def dense(matrices: Tensor) -> Tensor:
    """Matrices (…, L, D) whose rows or columns follow each other in memory.

    The kernels are very slow on parts of a tensor, such as one head of several.
    """
    return matrices if matrices.mT.is_contiguous() else matrices.contiguous()


def takes_onednn(input: Tensor, weight: Tensor) -> bool:
    """Whether the kernel supports these tensors and is worth its call.

    The kernel has no derivative, and autocast does not apply to it.

    Args:
        input: (…, F_in), or F_in in any other dimension.
        weight: (F_out, F_in).
    """
    return (
        _may_choose()  # comes first: an exported graph must not depend on sizes
        and _ONEDNN is not None
        and input.dtype == weight.dtype == torch.float32
        and input.is_cpu
        and weight.is_cpu
        and input.numel() >= MIN_ROWS * weight.shape[1]
        and input.numel() * weight.shape[0] >= LITTLE_WORK
        and not torch.is_autocast_enabled("cpu")
    )


def _may_choose() -> bool:
    """Whether kernels without a derivative are allowed: nothing is exported or differentiated."""
    if torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling():
        return torch.compiler.is_dynamo_compiling()
    return bool(torch.backends.mkldnn.enabled)


def by_onednn(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`linear` for tensors that :func:`takes_onednn` accepts."""
    if torch.compiler.is_compiling():
        product: Tensor = _as_one(input, weight, bias)
        return product
    return _call(input, weight, bias)


def _call(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert _ONEDNN is not None
    return _ONEDNN(input, weight, bias, "none", [], "")


_as_one = torch.library.custom_op("lrp_fx::linear", _call, mutates_args=())
"""The kernel as one opaque operation for compilers, which would otherwise need a constant weight."""


@_as_one.register_fake
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return input.new_empty(*input.shape[:-1], weight.shape[0])
