"""Matrix products by the fastest kernel that torch has for them.

On CPU torch multiplies float32 matrices, and convolves with 1×1 kernels on one thread, by the BLAS it was
built with. Its oneDNN, which it keeps for other convolutions and compiled models, was faster wherever it
was measured (``docs/performance.md``), on processors that the BLAS does not know well twice as fast.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lrp_fx.aten import aten
from lrp_fx.stabilizer import may_write

FEW_ROWS = 4
"""Below that a product is bound by reading the weight, which BLAS does as fast."""
LITTLE_WORK = 2**20
"""Below so many multiplications the call itself is what takes time."""


def _found() -> Callable[..., Tensor] | None:
    """The kernel, None where this build of torch has none."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_ONEDNN = _found()


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x Wᵀ + b``, of shape (…, F_out).

    Args:
        input: ``x``, (…, F_in).
        weight: ``W``, (F_out, F_in), in any layout.
        bias: ``b``, (F_out,).
    """
    if not takes_onednn(input, weight):
        return aten.linear(input, weight, bias)  # type: ignore[no-any-return]
    if torch.compiler.is_dynamo_compiling():
        return _as_one(input, weight, bias)  # type: ignore[no-any-return]
    return _by_onednn(input, weight, bias)


def takes_onednn(input: Tensor, weight: Tensor) -> bool:
    """Whether the kernel takes these and is worth its call; it has no derivative and is not autocast.

    Args:
        input: (…, F_in).
        weight: (F_out, F_in), or of more dimensions of size one.
    """
    return (
        may_choose()  # first: what is exported must not depend on sizes
        and _ONEDNN is not None
        and input.dtype == weight.dtype == torch.float32
        and input.device.type == weight.device.type == "cpu"
        and input.numel() >= FEW_ROWS * input.shape[-1]
        and input.numel() * weight.numel() >= LITTLE_WORK * input.shape[-1]
        and not torch.is_autocast_enabled("cpu")
    )


def may_choose() -> bool:
    """Whether kernels without a derivative may be taken: no export and no gradient is under way."""
    if torch.compiler.is_dynamo_compiling():
        return not torch.is_grad_enabled()
    return may_write() and bool(torch.backends.mkldnn.enabled)


def _by_onednn(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert _ONEDNN is not None
    return _ONEDNN(input, weight, bias, "none", [], "")


_as_one = torch.library.custom_op("lrp_fx::linear", _by_onednn, mutates_args=())
"""The kernel as one piece, for a compiler, which would otherwise ask for a constant weight."""


@_as_one.register_fake
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return input.new_empty(*input.shape[:-1], weight.shape[0])
