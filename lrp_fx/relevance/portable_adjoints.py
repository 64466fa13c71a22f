"""Adjoints written in operations that ONNX runtimes have, for exported programs.

The relevance pass calls backward kernels of ATen, for which ONNX has no operations. Each kernel is
linear in its cotangent and is written here in another way: the adjoint of a convolution as a
transposed convolution, that of max pooling as a scatter, that of an average or an interpolation as
a product with one small matrix per dimension. The kernels of ATen are faster, so only exports use
these forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph import OpOverload, as_tuple, aten


def _convolution_backward(
    q: Tensor,
    input: Tensor,
    weight: Tensor,
    bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    output_mask: list[bool],
) -> tuple[Tensor, None, None]:
    """``aten.convolution_backward`` with respect to the input, the only gradient that is needed."""
    assert not any(output_mask[1:])
    dims = weight.dim() - 2
    stride, padding, dilation = (list(as_tuple(v, dims)) for v in (stride, padding, dilation))
    if transposed:
        found = aten.convolution(
            q, weight, None, stride, padding, dilation, False, output_padding, groups
        )
        return _cropped(found, input.shape[2:]), None, None
    missing = [  # how many rows at the end a strided convolution never reads
        size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
        for size, out, s, p, d, k in zip(
            input.shape[2:], q.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
        )
    ]
    found = aten.convolution(q, weight, None, stride, padding, dilation, True, missing, groups)
    return found, None, None


def _cropped(value: Tensor, sizes: Sequence[int]) -> Tensor:
    for dim, size in enumerate(sizes, start=value.dim() - len(sizes)):
        value = value.narrow(dim, 0, size)
    return value


def _scattered(q: Tensor, input: Tensor, indices: Tensor, dims: int) -> Tensor:
    """Scatter ``q`` to the positions ``indices`` within the flattened last ``dims`` dimensions."""
    lead = q.dim() - dims
    flat = torch.zeros_like(input).flatten(lead)
    return flat.scatter_add(-1, indices.flatten(lead), q.flatten(lead)).reshape(input.shape)


def _max_pool_backward(dims: int) -> Callable[..., Tensor]:
    def backward(q: Tensor, input: Tensor, *options: Any) -> Tensor:
        return _scattered(q, input, options[-1], dims)  # the indices come last

    return backward


def _pulled(q: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply ``q`` by one matrix (out, in) along each of its last dimensions."""
    for dim, matrix in enumerate(matrices, start=q.dim() - len(matrices)):
        q = (q.transpose(dim, -1) @ matrix).transpose(dim, -1)
    return q


def _avg_pool_backward(dims: int) -> Callable[..., Tensor]:
    def backward(
        q: Tensor,
        input: Tensor,
        kernel_size: list[int],
        stride: list[int],
        padding: list[int],
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> Tensor:
        matrices = []
        windows = (kernel_size, stride if stride else kernel_size, padding)
        for dim, (kernel, step, margin) in enumerate(
            zip(*(as_tuple(value, dims) for value in windows), strict=True), start=q.dim() - dims
        ):
            size = input.shape[dim]
            first = torch.arange(q.shape[dim], device=q.device) * step - margin
            inside = _between(first, first + kernel, size).to(q.dtype)
            if divisor_override is not None:
                counts = torch.ones_like(first)
            elif count_include_pad:
                counts = (first + kernel).clamp(max=size + margin) - first
            else:
                counts = inside.sum(1)
            matrices.append(inside / counts.unsqueeze(1))
        found = _pulled(q, matrices)
        return found if divisor_override is None else found / divisor_override

    return backward


def _between(first: Tensor, end: Tensor, size: int) -> Tensor:
    """The boolean matrix (out, in): which positions each window ``[first, end)`` contains."""
    places = torch.arange(size, device=first.device)
    return (places >= first.unsqueeze(1)) & (places < end.unsqueeze(1))


def _adaptive_averages(x: Tensor, sizes: Sequence[int], outs: Sequence[int]) -> list[Tensor]:
    """The matrices (out, in) of adaptive average pooling for each dimension, in the dtype of ``x``."""
    matrices = []
    for size, out in zip(sizes, outs, strict=True):
        windows = torch.arange(out, device=x.device)
        first, end = windows * size // out, ((windows + 1) * size + out - 1) // out
        inside = _between(first, end, size).to(x.dtype)
        matrices.append(inside / inside.sum(1, keepdim=True))
    return matrices


def _adaptive_avg_pool_backward(dims: int) -> Callable[..., Tensor]:
    def backward(q: Tensor, input: Tensor) -> Tensor:
        return _pulled(q, _adaptive_averages(q, input.shape[-dims:], q.shape[-dims:]))

    return backward


def _adaptive_avg_pool3d(input: Tensor, output_size: list[int]) -> Tensor:
    matrices = _adaptive_averages(input, input.shape[-3:], as_tuple(output_size, 3))
    return _pulled(input, [matrix.T for matrix in matrices])


def _replication_pad_backward(dims: int) -> Callable[..., Tensor]:
    def backward(q: Tensor, input: Tensor, padding: list[int]) -> Tensor:
        matrices = []
        for before, dim in zip(padding[-2::-2], range(q.dim() - dims, q.dim()), strict=True):
            source = torch.arange(q.shape[dim], device=q.device) - before
            source = source.clamp(0, input.shape[dim] - 1)
            matrices.append(_between(source, source + 1, input.shape[dim]).to(q.dtype))
        return _pulled(q, matrices)

    return backward


def _unfold_backward(q: Tensor, input_sizes: list[int], dim: int, size: int, step: int) -> Tensor:
    count, length = q.shape[dim], input_sizes[dim]
    first = torch.arange(count, device=q.device) * step
    source = (first.unsqueeze(1) + torch.arange(size, device=q.device)).flatten()
    windows = q.movedim(dim, -2).flatten(-2)
    matrix = _between(source, source + 1, length).to(q.dtype)
    return (windows @ matrix).movedim(-1, dim)


def _upsample_backward(name: str, dims: int, aligned: bool) -> Callable[..., Tensor]:
    """The adjoint of an interpolation; its matrix per dimension is the interpolated identity."""
    forward = getattr(aten, f"upsample_{name}")

    def backward(q: Tensor, output_size: list[int], input_size: list[int], *options: Any) -> Tensor:
        flags = options[:1] if aligned else ()
        factors = options[len(flags) :] or (None,) * dims
        matrices = []
        for out, size, factor in zip(output_size, input_size[2:], factors, strict=True):
            identity = torch.eye(size, dtype=q.dtype, device=q.device)
            if name == "bicubic2d":  # torch has no bicubic interpolation of one dimension
                line = forward(identity[None, :, :, None], [out, 1], *flags, factor, None)
                columns = line[0, :, :, 0]
            else:
                columns = forward(identity[None], [out], *flags, factor)[0]
            matrices.append(columns.T)
        return _pulled(q, matrices)

    return backward


PORTABLE: dict[OpOverload, Callable[..., Any]] = {
    aten.convolution_backward.default: _convolution_backward,
    aten.max_pool2d_with_indices_backward.default: _max_pool_backward(2),
    aten.max_pool3d_with_indices_backward.default: _max_pool_backward(3),
    aten.adaptive_max_pool2d_backward.default: _max_pool_backward(2),
    aten.adaptive_max_pool3d_backward.default: _max_pool_backward(3),
    aten.avg_pool2d_backward.default: _avg_pool_backward(2),
    aten.avg_pool3d_backward.default: _avg_pool_backward(3),
    aten._adaptive_avg_pool2d_backward.default: _adaptive_avg_pool_backward(2),
    aten._adaptive_avg_pool3d_backward.default: _adaptive_avg_pool_backward(3),
    aten.adaptive_avg_pool3d.default: _adaptive_avg_pool3d,
    aten.replication_pad1d_backward.default: _replication_pad_backward(1),
    aten.replication_pad2d_backward.default: _replication_pad_backward(2),
    aten.replication_pad3d_backward.default: _replication_pad_backward(3),
    aten.unfold_backward.default: _unfold_backward,
    aten.upsample_nearest1d_backward.default: _upsample_backward("nearest1d", 1, False),
    aten.upsample_nearest2d_backward.default: _upsample_backward("nearest1d", 2, False),
    aten.upsample_nearest3d_backward.default: _upsample_backward("nearest1d", 3, False),
    aten.upsample_linear1d_backward.default: _upsample_backward("linear1d", 1, True),
    aten.upsample_bilinear2d_backward.default: _upsample_backward("linear1d", 2, True),
    aten.upsample_trilinear3d_backward.default: _upsample_backward("linear1d", 3, True),
    aten.upsample_bicubic2d_backward.default: _upsample_backward("bicubic2d", 2, True),
}
"""For each ATen operation a function with the same arguments and the same result."""
