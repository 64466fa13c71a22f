"""The analytic adjoints ``Wᵀ q`` of the linear operations with weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph import as_tuple, aten, product_adjoint


def _linear_adjoint(q: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return q @ weight


def _convolution_adjoint(dims: int, transposed: bool) -> Callable[..., Tensor]:
    def adjoint(
        q: Tensor,
        x: Tensor,
        weight: Tensor,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        output_padding: Any = 0,
    ) -> Tensor:
        if x.shape[0] > 1 and x.stride(0) == 0:  # one sample, expanded to a batch
            # the kernel reads only the shape, but would copy the expanded tensor
            last = q.dim() == 4 and q.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if last else torch.contiguous_format
            x = torch.empty_like(x, memory_format=layout)
        is_single = x.dim() == dims + 1  # the kernel needs a batch dimension
        pulled: Tensor = aten.convolution_backward(
            *((q[None], x[None]) if is_single else (q, x)),
            weight,
            None,
            *(as_tuple(value, dims) for value in (stride, padding, dilation)),
            transposed,
            as_tuple(output_padding, dims),
            groups,
            (True, False, False),
        )[0]
        return pulled[0] if is_single else pulled

    return adjoint


ADJOINTS: dict[str, Callable[..., Tensor]] = {
    "linear": _linear_adjoint,
    "product": product_adjoint,
    **{f"conv{dims}d": _convolution_adjoint(dims, False) for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _convolution_adjoint(dims, True) for dims in (1, 2, 3)},
}
