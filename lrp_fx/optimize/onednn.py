"""Matrix products by the fastest kernel that torch has for them.

On CPU torch multiplies float32 matrices, and convolves with 1×1 kernels on one thread, by the BLAS it was
built with. Its oneDNN, which it keeps for other convolutions and compiled models, was faster wherever it
was measured (``docs/performance.md``), on processors that the BLAS does not know well twice as fast.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lrp_fx.graph import aten

FEW_ROWS = 4
"""Below that a product is bound by reading the weight, which BLAS does as fast."""
LITTLE_WORK = 2**20
"""Below so many multiplications the call itself is what takes time."""


_is_available: Callable[[], bool] = torch.backends.mkldnn.is_available
HAS_ONEDNN = _is_available()
"""Whether torch was built with it."""
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


def takes_onednn(input: Tensor, weight: Tensor) -> bool:
    """Whether the kernel takes these and is worth its call; it has no derivative and is not autocast.

    Args:
        input: (…, F_in), or with these in any other dimension.
        weight: (F_out, F_in).
    """
    return (
        _may_choose()  # first: what is exported must not depend on sizes
        and _ONEDNN is not None
        and input.dtype == weight.dtype == torch.float32
        and input.is_cpu
        and weight.is_cpu
        and input.numel() >= FEW_ROWS * weight.shape[1]
        and input.numel() * weight.shape[0] >= LITTLE_WORK
        and not torch.is_autocast_enabled("cpu")
    )


def _may_choose() -> bool:
    """Whether kernels without a derivative may be taken: no export and no gradient is under way."""
    if torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling():
        return torch.compiler.is_dynamo_compiling()
    return bool(torch.backends.mkldnn.enabled)


def by_onednn(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`linear` where :func:`takes_onednn`."""
    if torch.compiler.is_compiling():
        product: Tensor = _as_one(input, weight, bias)
        return product
    return _call(input, weight, bias)


def _call(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert _ONEDNN is not None
    return _ONEDNN(input, weight, bias, "none", [], "")


_as_one = torch.library.custom_op("lrp_fx::linear", _call, mutates_args=())
"""The kernel as one piece, for a compiler, which would otherwise ask for a constant weight."""


@_as_one.register_fake
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return input.new_empty(*input.shape[:-1], weight.shape[0])
