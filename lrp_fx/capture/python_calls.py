"""Python calls that differ from ATen in more than the name, and how each is lowered.

They have another order or form of arguments, variadic sizes, or flags that ATen does not have.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F

from lrp_fx.capture.emitter import Emitter, Lowering, NotLowered
from lrp_fx.capture.proxies import TensorProxy, UnknownProxy
from lrp_fx.graph import Packet, aten, bind, torch_assert


def _binary(packet: Packet, reflected: Lowering | None = None) -> Lowering:
    """An operator. ``1 - x`` arrives as ``sub(1, x)``, but ATen needs the tensor first."""

    def lowering(emit: Emitter, a: Any, b: Any, **kwargs: Any) -> Any:
        if emit.is_tensor(a):
            return emit.call(packet, (a, b), kwargs)
        if reflected is not None:
            return reflected(emit, a, b)
        raise NotLowered(f"{packet} with a number on the left")

    return lowering


def _swap(packet: Packet) -> Lowering:
    return _binary(packet, lambda emit, a, b: emit(packet, b, a))


def _reciprocal(emit: Emitter, a: Any, b: Any) -> Any:
    return emit(aten.mul, emit(aten.reciprocal, b), a)


def _inplace(packet: Packet) -> Lowering:
    def lowering(emit: Emitter, a: Any, b: Any) -> Any:
        return emit.call_inplace(packet, (a, b), {})

    return lowering


def _batch_norm(
    emit: Emitter,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    parameters = (weight, bias, running_mean, running_var)
    return emit(aten.batch_norm, input, *parameters, training, momentum, eps, False)


def _variadic(packet: Packet) -> Lowering:
    def lowering(emit: Emitter, x: Any, *sizes: Any, **kwargs: Any) -> Any:
        if sizes and (isinstance(sizes[0], (list, tuple)) or len(sizes) == 1):
            first = sizes[0]
            is_list = isinstance(first, (list, tuple)) or _is_size(first)
            sizes = (first if is_list else [first], *sizes[1:])
            return emit.call(packet, (x, *sizes), kwargs)
        return emit.call(packet, (x, list(sizes)) if sizes else (x,), kwargs)

    return lowering


def _made(packet: Packet) -> Lowering:
    """A new tensor, whose sizes may be separate arguments."""

    def lowering(emit: Emitter, *sizes: Any, requires_grad: bool = False, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None or kwargs.get("generator") is not None:
            raise NotLowered("a new tensor in the memory of another")
        sizes = sizes or (kwargs.pop("size"),)
        shape = sizes[0] if isinstance(sizes[0], (list, tuple)) else sizes
        return emit.call(packet, (list(shape),), kwargs)

    return lowering


def _is_dtype(value: Any) -> bool:
    """Whether an argument is a dtype, possibly that of a traced tensor (``x.to(y.dtype)``)."""
    if not isinstance(value, UnknownProxy):
        return isinstance(value, torch.dtype)
    return value.node.target is getattr and bool(value.node.args[1] == "dtype")


def _is_size(value: Any) -> bool:
    """Whether a single argument is a whole shape, as in ``x.view(y.shape)``, and not one number."""
    if not isinstance(value, UnknownProxy):
        return isinstance(value, torch.Size)
    node = value.node
    if node.target is getattr:
        return bool(node.args[1] == "shape")
    return node.target is operator.getitem and isinstance(node.args[1], slice)


def _mean(packet: Packet) -> Lowering:
    def lowering(emit: Emitter, x: Any, dim: Any = None, *rest: Any, **kwargs: Any) -> Any:
        if dim is None and not rest:
            dim = kwargs.pop("axis", None)
        if dim is None:
            return emit.call(packet, (x,), kwargs)
        return emit.call(
            packet, (x, dim if isinstance(dim, (list, tuple)) else [dim], *rest), kwargs
        )

    return lowering


def _softmax(packet: Packet) -> Lowering:
    def lowering(
        emit: Emitter, input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
    ) -> Any:
        if dim is None:
            raise NotLowered("softmax without dim")
        return emit(packet, input, dim, dtype)

    return lowering


def _pad(
    emit: Emitter, input: Any, pad: Any, mode: str = "constant", value: float | None = None
) -> Any:
    return emit(aten.pad, input, list(pad), mode, value)


def _einsum(emit: Emitter, equation: Any, *operands: Any) -> Any:
    if not isinstance(equation, str):
        raise NotLowered("einsum with its indices in lists")
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return emit(aten.einsum, equation, list(operands))


def _attention(
    emit: Emitter, query: Any, key: Any, value: Any, attn_mask: Any = None, *rest: Any, **kw: Any
) -> Any:
    if emit.is_tensor(attn_mask) and not isinstance(attn_mask.dtype, torch.dtype):
        raise NotLowered("an attention mask, whose dtype decides how it is used")
    packet = aten.scaled_dot_product_attention
    return emit.call(packet, (query, key, value, attn_mask, *rest), kw)


_UPSAMPLE = {"linear": "linear1d", "bilinear": "bilinear2d", "bicubic": "bicubic2d"} | {
    "trilinear": "trilinear3d"
}


def _interpolate(
    emit: Emitter,
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    if antialias or recompute_scale_factor or mode not in _UPSAMPLE:
        raise NotLowered(f"interpolate with mode '{mode}' depends on the number of dimensions")
    packet = getattr(aten, f"upsample_{_UPSAMPLE[mode]}")
    dims = int(_UPSAMPLE[mode][-2])

    def spread(value: Any) -> Any:
        if value is None or isinstance(value, (list, tuple)) or _is_size(value):
            return value
        return [value] * dims

    scales = spread(scale_factor)
    scales = None if scales is None else [float(scale) for scale in scales]
    return emit(packet, input, spread(size), bool(align_corners), scales)


def _convolution(packet: Packet, dims: int) -> Lowering:
    def lowering(emit: Emitter, *args: Any, **kwargs: Any) -> Any:
        bound = bind(packet, args, kwargs)
        if bound is None:
            raise NotLowered("a convolution with unknown arguments")
        for name in ("stride", "padding", "output_padding", "dilation"):
            if isinstance(bound.get(name), int):
                bound[name] = [bound[name]] * dims
        return emit(packet, *bound.values())

    return lowering


def _adaptive(packet: Packet, dims: int) -> Lowering:
    def lowering(emit: Emitter, input: Any, output_size: Any) -> Any:
        sizes = output_size if isinstance(output_size, (list, tuple)) else (output_size,) * dims
        if any(size is None for size in sizes):
            raise NotLowered("adaptive pooling to a size of None")
        return emit(packet, input, list(sizes))

    return lowering


def _adaptive_max(packet: Packet, dims: int) -> Lowering:
    def lowering(emit: Emitter, input: Any, output_size: Any, return_indices: bool = False) -> Any:
        pooled = _adaptive(packet, dims)(emit, input, output_size)
        return pooled if return_indices else pooled[0]

    return lowering


def _extremum(packet: Packet, binary: Packet) -> Lowering:
    def lowering(emit: Emitter, input: Any, *args: Any, **kwargs: Any) -> Any:
        other = args[0] if args else kwargs.get("other")
        if emit.is_tensor(other):
            return emit(binary, input, other)
        return emit.call(packet, (input, *args), kwargs)

    return lowering


def _max_pool(packet: Packet) -> Lowering:
    def lowering(
        emit: Emitter,
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        if return_indices:
            raise NotLowered("max pooling that returns its indices")
        stride = [] if stride is None else stride
        return emit(packet, input, kernel_size, stride, padding, dilation, ceil_mode)

    return lowering


def _getitem(emit: Emitter, x: Any, index: Any) -> Any:
    """Lower ``x[…]`` to select, slice, unsqueeze and index, dimension by dimension."""
    entries = _entries(x, list(index) if isinstance(index, tuple) else [index])
    indices: list[Any] = []
    dim, after_ellipsis = 0, False
    for position, entry in enumerate(entries):
        if entry is Ellipsis:
            dim, after_ellipsis = -len(entries) + position + 1, True
            rest = entries[position + 1 :]
            if any(each is None or _is_index(emit, each) for each in rest) or any(
                each is not None for each in indices
            ):
                raise NotLowered("a new axis or an index by a tensor beside an ellipsis")
        elif entry is None:
            x, dim = emit(aten.unsqueeze, x, dim), dim + 1
            indices.append(None)
        elif isinstance(entry, slice):
            if not _is_all(entry):
                step = 1 if entry.step is None else entry.step
                x = emit(aten.slice, x, dim, entry.start, entry.stop, step)
            dim += 1
            indices.append(None)
        elif _is_index(emit, entry):
            if entry.dtype is not torch.int64 and entries[position + 1 :]:
                raise NotLowered("an index that mixes masks with other entries")
            dim += 1
            indices.append(entry)
        elif isinstance(entry, bool):
            raise NotLowered("an index by a bool")
        else:
            x = emit(aten.select, x, dim, entry)
            dim += 1 if after_ellipsis else 0
    if all(each is None for each in indices):
        return x
    while indices[-1] is None:
        indices.pop()
    return emit(aten.index, x, indices)


def _entries(x: Any, entries: list[Any]) -> list[Any]:
    """The entries of an index, with tensors for lists, and ``:`` for ``…`` if that is possible."""
    entries = [torch.tensor(each) if isinstance(each, list) else each for each in entries]
    places = [place for place, each in enumerate(entries) if each is Ellipsis]
    seen = x.seen if isinstance(x, TensorProxy) else [x]
    if not places or seen is None:
        return entries
    (place,) = places
    used = sum(each is not None for each in entries) - 1
    return [*entries[:place], *[slice(None)] * (seen[0].dim() - used), *entries[place + 1 :]]


def _is_index(emit: Emitter, entry: Any) -> bool:
    return isinstance(entry, torch.Tensor) or emit.is_tensor(entry)


def _is_all(entry: Any) -> bool:
    """Whether an index entry is ``:``. Its bounds may be proxies, which must not be compared."""
    bounds = (entry.start, entry.stop, entry.step) if isinstance(entry, slice) else (entry,)
    return isinstance(entry, slice) and all(bound is None for bound in bounds)


def _size(emit: Emitter, x: Any, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


def _same(emit: Emitter, x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


def _nothing(emit: Emitter, *args: Any, **kwargs: Any) -> None:
    return None


def _dropout(packet: Packet) -> Lowering:
    def lowering(
        emit: Emitter, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Any:
        return emit(packet, input, p, True) if training else input

    return lowering


def _roll(emit: Emitter, x: Any, shifts: Any, dims: Any = ()) -> Any:
    return emit(aten.roll, x, *([v] if isinstance(v, int) else list(v) for v in (shifts, dims)))


def _cast(dtype: Any) -> Lowering:
    return lambda emit, x: x if x.dtype is dtype else emit(aten.to, x, dtype)


def _to(emit: Emitter, x: Any, *args: Any, **kwargs: Any) -> Any:
    kwargs = {**kwargs}
    for name in ("non_blocking", "copy", "memory_format"):
        kwargs.pop(name, None)
    wanted = [*args, *kwargs.values()]
    other = getattr(wanted[0], "dtype", None) if wanted and emit.is_tensor(wanted[0]) else None
    if other is not None:
        wanted = [wanted[0].dtype, wanted[0].device]
    dtypes = [each for each in wanted if _is_dtype(each)]
    numbers = (each for each in wanted if type(each) is not bool)
    devices = [each for each in numbers if isinstance(each, (str, int, torch.device))]
    rest = [each for each in wanted if not _is_dtype(each) and each not in devices]
    if any(type(each) is not bool and each is not None for each in rest):
        raise NotLowered("a move between devices")
    for device in devices:
        if not isinstance(x.device, torch.device) or torch.device(device) != x.device:
            raise NotLowered("a move between devices")
    return _cast(dtypes[0])(emit, x) if dtypes else x


def _chunk(emit: Emitter, x: Any, chunks: int, dim: int = 0) -> Any:
    return emit(aten.chunk, x, chunks, dim)


_DIMS = (1, 2, 3)
PYTHON_CALLS: dict[Any, Lowering] = {
    operator.getitem: _getitem,
    operator.add: _swap(aten.add),
    operator.sub: _binary(aten.sub, lambda emit, a, b: emit(aten.rsub, b, a)),
    operator.mul: _swap(aten.mul),
    operator.truediv: _binary(aten.div, _reciprocal),
    operator.floordiv: _binary(aten.floor_divide),
    operator.mod: _binary(aten.remainder),
    operator.pow: _binary(aten.pow, lambda emit, a, b: emit(aten.pow, a, b)),
    operator.matmul: lambda emit, a, b: emit(aten.matmul, a, b),
    operator.neg: lambda emit, a: emit(aten.neg, a),
    operator.pos: _same,
    operator.invert: lambda emit, a: emit(aten.bitwise_not, a),
    operator.and_: _swap(aten.bitwise_and),
    operator.or_: _swap(aten.bitwise_or),
    operator.eq: _swap(aten.eq),
    operator.ne: _swap(aten.ne),
    operator.lt: _binary(aten.lt, lambda emit, a, b: emit(aten.gt, b, a)),
    operator.le: _binary(aten.le, lambda emit, a, b: emit(aten.ge, b, a)),
    operator.gt: _binary(aten.gt, lambda emit, a, b: emit(aten.lt, b, a)),
    operator.ge: _binary(aten.ge, lambda emit, a, b: emit(aten.le, b, a)),
    operator.iadd: _inplace(aten.add),
    operator.isub: _inplace(aten.sub),
    operator.imul: _inplace(aten.mul),
    operator.itruediv: _inplace(aten.div),
    F.batch_norm: _batch_norm,
    F.dropout: _dropout(aten.dropout),
    **{getattr(F, f"dropout{n}d"): _dropout(aten.feature_dropout) for n in _DIMS},
    F.alpha_dropout: _dropout(aten.alpha_dropout),
    F.feature_alpha_dropout: _dropout(aten.feature_alpha_dropout),
    **{
        getattr(F, f"{kind}{n}d"): _convolution(getattr(aten, f"{kind}{n}d"), n)
        for kind in ("conv", "conv_transpose")
        for n in _DIMS
    },
    F.pad: _pad,
    F.interpolate: _interpolate,
    F.upsample: _interpolate,
    F.softmax: _softmax(aten.softmax),
    F.log_softmax: _softmax(aten.log_softmax),
    torch.einsum: _einsum,
    F.scaled_dot_product_attention: _attention,
    torch_assert: _nothing,
    F.adaptive_avg_pool2d: _adaptive(aten.adaptive_avg_pool2d, 2),
    F.adaptive_avg_pool3d: _adaptive(aten.adaptive_avg_pool3d, 3),
    **{
        getattr(F, f"adaptive_max_pool{n}d"): _adaptive_max(
            getattr(aten, f"adaptive_max_pool{n}d"), n
        )
        for n in _DIMS
    },
    **{
        getattr(module, f"max_pool{n}d"): _max_pool(getattr(aten, f"max_pool{n}d"))
        for module in (torch, F)
        for n in _DIMS
    },
    torch.max: _extremum(aten.max, aten.maximum),
    torch.min: _extremum(aten.min, aten.minimum),
    "max": _extremum(aten.max, aten.maximum),
    "min": _extremum(aten.min, aten.minimum),
    torch.mean: _mean(aten.mean),
    torch.sum: _mean(aten.sum),
    "mean": _mean(aten.mean),
    "sum": _mean(aten.sum),
    torch.zeros: _made(aten.zeros),
    torch.ones: _made(aten.ones),
    torch.empty: _made(aten.empty),
    "new_zeros": _variadic(aten.new_zeros),
    "new_ones": _variadic(aten.new_ones),
    "new_empty": _variadic(aten.new_empty),
    "view": _variadic(aten.view),
    "reshape": _variadic(aten.reshape),
    "permute": _variadic(aten.permute),
    "expand": _variadic(aten.expand),
    "repeat": _variadic(aten.repeat),
    "flip": _variadic(aten.flip),
    "size": _size,
    "requires_grad_": _same,
    "float": _cast(torch.float32),
    "double": _cast(torch.float64),
    "half": _cast(torch.float16),
    "bfloat16": _cast(torch.bfloat16),
    "to": _to,
    "type_as": lambda emit, x, other: emit(aten.to, x, other.dtype),
    "softmax": lambda emit, x, dim, dtype=None: emit(aten.softmax, x, dim, dtype),
    "log_softmax": lambda emit, x, dim, dtype=None: emit(aten.log_softmax, x, dim, dtype),
    "chunk": _chunk,
    "roll": _roll,
    torch.roll: _roll,
}
