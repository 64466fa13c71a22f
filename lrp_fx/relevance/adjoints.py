"""The analytic adjoints ``Jᵀ q`` of the linear operations without weights.

Each function takes the cotangent ``q``, of the shape of the operation's output, then the shape of
the input, then the other arguments of the operation by their ATen names. It returns a tensor of the
shape of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph import Packet, as_tuple, aten, fourier_adjoint
from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.portable_adjoints import PORTABLE
from lrp_fx.rules import may_write

Adjoint = Callable[..., Tensor]
Shape = torch.Size


def _shaped(q: Tensor, shape: Shape) -> Tensor:
    """A dummy tensor of this shape, for kernels that read only the shape, dtype and device."""
    return q.new_empty(1).expand(shape)


def reshape(q: Tensor, shape: Shape, /, **_: Any) -> Tensor:
    return q.reshape(shape)


def cast(q: Tensor, shape: Shape, /, **_: Any) -> Tensor:
    return q


def permute(q: Tensor, shape: Shape, dims: Sequence[int]) -> Tensor:
    inverse = [0] * len(dims)
    for new, old in enumerate(dims):
        inverse[old] = new
    return q.permute(inverse)


def transpose(q: Tensor, shape: Shape, dim0: int, dim1: int) -> Tensor:
    return q.transpose(dim0, dim1)


def t(q: Tensor, shape: Shape) -> Tensor:
    return q.t()


def numpy_t(q: Tensor, shape: Shape) -> Tensor:
    return q.permute(*reversed(range(q.dim())))


def mt(q: Tensor, shape: Shape) -> Tensor:
    return q.mT


def movedim(q: Tensor, shape: Shape, source: Any, destination: Any) -> Tensor:
    return q.movedim(destination, source)


def diagonal(q: Tensor, shape: Shape, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    return aten.diagonal_backward(q, shape, offset, dim1, dim2)


def expand(q: Tensor, shape: Shape, /, **_: Any) -> Tensor:
    return sum_to(q, shape)


def repeat(q: Tensor, shape: Shape, repeats: Sequence[int]) -> Tensor:
    padded = (1,) * (len(repeats) - len(shape)) + tuple(shape)
    blocks = [size for pair in zip(repeats, padded, strict=True) for size in pair]
    return q.reshape(blocks).sum(dim=list(range(0, len(blocks), 2))).reshape(shape)


def tile(q: Tensor, shape: Shape, dims: Sequence[int]) -> Tensor:
    return repeat(q, shape, [1] * (len(shape) - len(dims)) + list(dims))


def repeat_interleave(
    q: Tensor,
    shape: Shape,
    repeats: int | Tensor,
    dim: int | None = None,
    output_size: int | None = None,
) -> Tensor:
    if isinstance(repeats, Tensor):
        size = math.prod(shape) if dim is None else shape[dim]
        places = torch.arange(size, device=q.device).repeat_interleave(repeats.expand(size))
        flat = q.new_zeros(size if dim is None else shape)
        return flat.index_add(dim or 0, places, q).reshape(shape)
    if dim is None:
        return q.reshape(-1, repeats).sum(1).reshape(shape)
    dim %= len(shape)
    blocks = (*shape[:dim], shape[dim], repeats, *shape[dim + 1 :])
    return q.reshape(blocks).sum(dim + 1)


def select(q: Tensor, shape: Shape, dim: int, index: int) -> Tensor:
    return aten.select_backward(q, shape, dim, index)


def slice(  # ATen's own name
    q: Tensor, shape: Shape, dim: int, start: int | None, end: int | None, step: int
) -> Tensor:
    start = 0 if start is None else start
    end = shape[dim] if end is None else end
    if step != 1 or not may_write():
        return aten.slice_backward(q, shape, dim, start, end, step)
    size, dim = shape[dim], dim % len(shape)
    before = min(max(start + size if start < 0 else start, 0), size)
    margins = [0, 0] * (len(shape) - 1 - dim) + [before, size - before - q.shape[dim]]
    return aten.constant_pad_nd(q, margins)  # unlike slice_backward it keeps the layout


def narrow(q: Tensor, shape: Shape, dim: int, start: int, length: int) -> Tensor:
    start = start % shape[dim] if start < 0 else start
    return slice(q, shape, dim, start, start + length, 1)


def index(q: Tensor, shape: Shape, indices: Sequence[Tensor | None]) -> Tensor:
    return aten.index_put(q.new_zeros(shape), list(indices), q, True)


def index_select(q: Tensor, shape: Shape, dim: int, index: Tensor) -> Tensor:
    return q.new_zeros(shape).index_add(dim, index, q)


def gather(q: Tensor, shape: Shape, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    return q.new_zeros(shape).scatter_add(dim, index, q)


def take(q: Tensor, shape: Shape, index: Tensor) -> Tensor:
    flat = q.new_zeros(math.prod(shape))
    return flat.index_add(0, index.reshape(-1), q.reshape(-1)).reshape(shape)


def take_along_dim(q: Tensor, shape: Shape, indices: Tensor, dim: int | None = None) -> Tensor:
    if dim is None:
        return take(q, shape, indices)
    sizes = list(q.shape)
    sizes[dim] = shape[dim]
    return sum_to(q.new_zeros(sizes).scatter_add(dim, indices.expand_as(q), q), shape)


def unfold(q: Tensor, shape: Shape, dimension: int, size: int, step: int) -> Tensor:
    return aten.unfold_backward(q, shape, dimension, size, step)


def unfold_backward(
    q: Tensor, shape: Shape, input_sizes: Any, dim: int, size: int, step: int
) -> Tensor:
    return q.unfold(dim, size, step)


def flip(q: Tensor, shape: Shape, dims: Sequence[int]) -> Tensor:
    return q.flip(list(dims))


def roll(q: Tensor, shape: Shape, shifts: Any, dims: Any = ()) -> Tensor:
    back = [-s for s in shifts] if isinstance(shifts, (list, tuple)) else -shifts
    has_dims = isinstance(dims, int) or bool(dims)
    return torch.roll(q, back, dims) if has_dims else torch.roll(q.flatten(), back).reshape(shape)


def pixel_shuffle(q: Tensor, shape: Shape, upscale_factor: int) -> Tensor:
    return torch.pixel_unshuffle(q, upscale_factor)


def pixel_unshuffle(q: Tensor, shape: Shape, downscale_factor: int) -> Tensor:
    return torch.pixel_shuffle(q, downscale_factor)


def channel_shuffle(q: Tensor, shape: Shape, groups: int) -> Tensor:
    return torch.channel_shuffle(q, shape[1] // groups)


def im2col(q: Tensor, shape: Shape, **kwargs: Any) -> Tensor:
    return aten.col2im(q, shape[-2:], **kwargs)


def col2im(q: Tensor, shape: Shape, output_size: Any, **kwargs: Any) -> Tensor:
    return aten.im2col(q, **kwargs)


def pad(q: Tensor, shape: Shape, pad: Sequence[int], mode: str, value: float | None) -> Tensor:
    if mode == "constant":
        return torch.nn.functional.pad(q, [-side for side in pad])
    dims = len(pad) // 2
    if mode == "circular":
        return _circular(q, shape, pad)
    kind = {"reflect": "reflection", "replicate": "replication"}[mode]
    backward: Packet = getattr(aten, f"{kind}_pad{dims}d_backward")
    return backward(q, _shaped(q, shape), list(pad))


def _circular(q: Tensor, shape: Shape, pad: Sequence[int]) -> Tensor:
    for pair in range(len(pad) // 2):
        dim, before, after = -1 - pair, pad[2 * pair], pad[2 * pair + 1]
        size = shape[dim]
        places = (torch.arange(-before, size + after, device=q.device)) % size
        new_shape = list(q.shape)
        new_shape[dim] = size
        q = q.new_zeros(new_shape).index_add(dim, places, q)
    return q


# Averages and sums
def mean(
    q: Tensor, shape: Shape, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    spread = sum(q, shape, dim, keepdim)
    count = spread.numel() // max(q.numel(), 1)
    return spread / count


def sum(  # ATen's own name
    q: Tensor, shape: Shape, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    if dim is None or dim == []:
        return q.expand(shape)
    if not keepdim:
        for d in sorted(d % len(shape) for d in as_tuple(dim, 1)):
            q = q.unsqueeze(d)
    return q.expand(shape)


def cumsum(q: Tensor, shape: Shape, dim: int, dtype: Any = None) -> Tensor:
    return q.flip(dim).cumsum(dim).flip(dim)


def _pool_arguments(dims: int, kernel_size: Any, stride: Any, padding: Any) -> tuple[Any, Any, Any]:
    stride = stride if isinstance(stride, int) or stride else kernel_size
    return as_tuple(kernel_size, dims), as_tuple(stride, dims), as_tuple(padding, dims)


def _avg_pool(dims: int) -> Adjoint:
    backward: Packet = getattr(aten, f"avg_pool{dims}d_backward")

    def adjoint(
        q: Tensor,
        shape: Shape,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        window = _pool_arguments(dims, kernel_size, stride, padding)
        options = (ceil_mode, count_include_pad, divisor_override)
        return backward(q, _shaped(q, shape), *window, *options)

    return adjoint


avg_pool2d, avg_pool3d = _avg_pool(2), _avg_pool(3)


def avg_pool1d(
    q: Tensor,
    shape: Shape,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    kernel, step, margin = _pool_arguments(1, kernel_size, stride, padding)
    flat = torch.Size((*shape[:-1], 1, shape[-1]))
    sizes = ((1, *kernel), (1, *step), (0, *margin))
    return avg_pool2d(q.unsqueeze(-2), flat, *sizes, ceil_mode, count_include_pad).squeeze(-2)


def adaptive_avg_pool1d(q: Tensor, shape: Shape, output_size: Any) -> Tensor:
    flat = torch.Size((*shape[:-1], 1, shape[-1]))
    return adaptive_avg_pool2d(q.unsqueeze(-2), flat).squeeze(-2)


def adaptive_avg_pool2d(q: Tensor, shape: Shape, output_size: Any = None) -> Tensor:
    return aten._adaptive_avg_pool2d_backward(q, _shaped(q, shape))


def adaptive_avg_pool3d(q: Tensor, shape: Shape, output_size: Any = None) -> Tensor:
    return aten._adaptive_avg_pool3d_backward(q, _shaped(q, shape))


# Interpolation. The calls give either the output's size or scale factors; the adjoint takes both.
def _upsample(name: str, dims: int, aligned: bool) -> Adjoint:
    backward: Packet = getattr(aten, f"{name}_backward")

    def adjoint(q: Tensor, shape: Shape, **arguments: Any) -> Tensor:
        factors = arguments.get("scale_factors")
        if factors is None:
            factors = [
                arguments.get(key)
                for key in ("scales_d", "scales_h", "scales_w", "scales")
                if key in arguments
            ] or [None] * dims
        options = (arguments["align_corners"],) if aligned else ()
        function: Callable[..., Tensor] = backward
        if any(isinstance(size, torch.SymInt) for size in shape):  # exported: no symbolic sizes
            function = PORTABLE[backward.default]
        return function(q, list(q.shape[2:]), list(shape), *options, *factors)

    return adjoint


UPSAMPLES: dict[str, Adjoint] = {
    name: _upsample(name, dims, aligned)
    for name, dims, aligned in (
        ("upsample_nearest1d", 1, False),
        ("upsample_nearest2d", 2, False),
        ("upsample_nearest3d", 3, False),
        ("_upsample_nearest_exact1d", 1, False),
        ("_upsample_nearest_exact2d", 2, False),
        ("_upsample_nearest_exact3d", 3, False),
        ("upsample_linear1d", 1, True),
        ("upsample_bilinear2d", 2, True),
        ("upsample_bicubic2d", 2, True),
        ("upsample_trilinear3d", 3, True),
        ("_upsample_bilinear2d_aa", 2, True),
        ("_upsample_bicubic2d_aa", 2, True),
    )
}

ROUTING: dict[str, Adjoint] = {
    "reshape": reshape,
    "flatten": reshape,
    "unflatten": reshape,
    "squeeze": reshape,
    "unsqueeze": reshape,
    "to": cast,
    "_to_copy": cast,
    "permute": permute,
    "transpose": transpose,
    "t": t,
    "numpy_T": numpy_t,
    "mT": mt,
    "movedim": movedim,
    "diagonal": diagonal,
    "expand": expand,
    "expand_as": expand,
    "repeat": repeat,
    "tile": tile,
    "repeat_interleave": repeat_interleave,
    "select": select,
    "slice": slice,
    "narrow": narrow,
    "index": index,
    "index_select": index_select,
    "gather": gather,
    "take": take,
    "take_along_dim": take_along_dim,
    "unfold": unfold,
    "flip": flip,
    "roll": roll,
    "pad": pad,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": channel_shuffle,
    "im2col": im2col,
}
"""The adjoints of operations that only move values, and may add constants or zeros."""

AVERAGING: dict[str, Adjoint] = {
    "mean": mean,
    "sum": sum,
    "cumsum": cumsum,
    "col2im": col2im,
    "unfold_backward": unfold_backward,
    "fourier": fourier_adjoint,
    "avg_pool1d": avg_pool1d,
    "avg_pool2d": avg_pool2d,
    "avg_pool3d": avg_pool3d,
    "adaptive_avg_pool1d": adaptive_avg_pool1d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "adaptive_avg_pool3d": adaptive_avg_pool3d,
    **UPSAMPLES,
}
"""The adjoints of operations whose outputs are weighted sums of their inputs, with fixed weights."""
