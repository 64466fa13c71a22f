"""Shapes of the results of common operations, by formula.

torch computes shapes on the meta device, for many operations in Python: a layer norm takes half a
millisecond there, and the first such call imports hundreds of modules. A formula takes microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph.calls import Packet, as_tuple, bind
from lrp_fx.graph.operations import CASTS, MATRIX_PRODUCTS, NORMS, names_where, row_named
from lrp_fx.graph.recurrent import RECURRENT

Rule = Callable[[dict[str, Any]], "Tensor | tuple[Tensor, ...] | None"]
"""From the arguments by name to the results without data; None where the rule does not hold."""


def on_meta(packet: Packet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation returns for tensors without data; by formula if there is one.

    The result has the shape and dtype that torch gives it. Its strides are those of a contiguous
    tensor where a formula is used.
    """
    bound = bind(packet, args, kwargs)
    if bound is not None and "out" not in bound:
        found = _by_rule(str(packet.__name__), bound)
        if found is not None:
            return found
    with torch.no_grad():  # some operations have no derivative
        return packet(*args, **kwargs)


def _by_rule(name: str, b: dict[str, Any]) -> Any:
    rule = _RULES.get(name)
    if rule is not None:
        return rule(b)
    row = row_named(name)
    if row.entrywise and name not in _NOT_BROADCAST:
        return _entrywise(b, is_mask=row.says == "masks", whole=name in _WHOLE)
    return None


_broadcast: Callable[..., torch.Size] = torch.broadcast_shapes


def broadcast_shape(*shapes: Sequence[int]) -> torch.Size:
    """The shape to which these shapes broadcast."""
    return _broadcast(*shapes)


def _made(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype or like.dtype, device="meta")


def _entrywise(b: dict[str, Any], *, is_mask: bool, whole: bool) -> Tensor | None:
    """Broadcasting of tensors of one dtype and real numbers; other cases are for torch.

    Args:
        b: the arguments.
        is_mask: the result is a mask.
        whole: whole numbers stay whole numbers.
    """
    tensors = [value for value in b.values() if isinstance(value, Tensor)]
    others = [value for value in b.values() if not isinstance(value, Tensor)]
    if not tensors or not all(isinstance(v, (bool, int, float, str, NoneType)) for v in others):
        return None
    dtype = tensors[0].dtype
    keeps = dtype.is_floating_point or (
        whole and dtype != torch.bool and not any(isinstance(v, float) for v in others)
    )
    if not is_mask and (not keeps or any(t.dtype != dtype for t in tensors)):
        return None
    shape = tensors[0].shape if len(tensors) == 1 else broadcast_shape(*(t.shape for t in tensors))
    return _made(shape, tensors[0], torch.bool if is_mask else None)


def _like_first(b: dict[str, Any]) -> Tensor | None:
    """An operation that keeps the shape and the floating dtype of its first operand."""
    first: Tensor = next(iter(b.values()))
    casts = b.get("dtype") is not None or b.get("half_to_float")
    return None if casts or not first.dtype.is_floating_point else _made(first.shape, first)


def _choice(b: dict[str, Any]) -> Tensor | None:
    """Values chosen by a mask; a mask takes no part in the dtype."""
    values = [v for name, v in b.items() if name not in ("condition", "mask")]
    mask = b.get("condition", b.get("mask"))
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not tensors or any(t.dtype != tensors[0].dtype for t in tensors):
        return None
    if not tensors[0].dtype.is_floating_point or mask is None:
        return None
    return _made(broadcast_shape(mask.shape, *(t.shape for t in tensors)), tensors[0])


def _linear(b: dict[str, Any]) -> Tensor | None:
    x, weight, bias = b["input"], b["weight"], b["bias"]
    if weight.dim() != 2 or x.shape[-1] != weight.shape[1] or x.dtype != weight.dtype:
        return None
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != weight.dtype):
        return None
    return _made((*x.shape[:-1], weight.shape[0]), x)


def _matmul(b: dict[str, Any]) -> Tensor | None:
    one, other = b["self"], b["other"] if "other" in b else b["mat2"]
    if (
        one.dim() < 2
        or other.dim() < 2
        or one.dtype != other.dtype
        or one.shape[-1] != other.shape[-2]
    ):
        return None
    batch = broadcast_shape(one.shape[:-2], other.shape[:-2])
    return _made((*batch, one.shape[-2], other.shape[-1]), one)


def _addmm(b: dict[str, Any]) -> Tensor | None:
    one, other, shift = b["mat1"], b["mat2"], b["self"]
    if one.shape[1] != other.shape[0] or not one.dtype == other.dtype == shift.dtype:
        return None
    shape = (one.shape[0], other.shape[1])
    return _made(shape, one) if broadcast_shape(shift.shape, shape) == shape else None


def _windows(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many windows fit into a size."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _convolution(b: dict[str, Any]) -> Tensor | None:
    x, weight, bias = b["input"], b["weight"], b["bias"]
    dims = weight.dim() - 2
    if isinstance(b["padding"], str) or x.dim() != dims + 2 or x.dtype != weight.dtype:
        return None
    if x.shape[1] != weight.shape[1] * b["groups"] or (bias is not None and bias.dtype != x.dtype):
        return None
    settings = (as_tuple(b[name], dims) for name in ("stride", "padding", "dilation"))
    sizes = list(map(_windows, x.shape[2:], weight.shape[2:], *settings))
    return _made((x.shape[0], weight.shape[0], *sizes), x) if min(sizes) > 0 else None


def _pooling(dims: int) -> Rule:
    def rule(b: dict[str, Any]) -> Tensor | None:
        x, kernel = b["self"], as_tuple(b["kernel_size"], dims)
        if b["ceil_mode"] or x.dim() not in (dims + 1, dims + 2):
            return None
        given = b["stride"]
        stride = as_tuple(given, dims) if isinstance(given, int) or given else kernel
        rest = (as_tuple(b["padding"], dims), as_tuple(b.get("dilation", 1), dims))
        sizes = list(map(_windows, x.shape[-dims:], kernel, stride, *rest))
        return _made((*x.shape[:-dims], *sizes), x) if min(sizes) > 0 else None

    return rule


def _adaptive(dims: int) -> Rule:
    def rule(b: dict[str, Any]) -> Tensor | None:
        x, sizes = b["self"], b["output_size"]
        return _made((*x.shape[:-dims], *sizes), x) if len(sizes) == dims else None

    return rule


def _embedding(b: dict[str, Any]) -> Tensor | None:
    return _made((*b["indices"].shape, *b["weight"].shape[1:]), b["weight"])


def _attention(b: dict[str, Any]) -> Tensor | None:
    query, key, value, mask = b["query"], b["key"], b["value"], b["attn_mask"]
    if not query.dtype == key.dtype == value.dtype or query.shape[-1] != key.shape[-1]:
        return None
    heads = query.shape[:-2]
    if key.shape[:-1] != value.shape[:-1] or (key.shape[:-2] != heads and not b["enable_gqa"]):
        return None
    if mask is not None:
        weights = (*heads, query.shape[-2], key.shape[-2])
        if broadcast_shape(mask.shape, weights) != weights:
            return None
    return _made((*query.shape[:-1], value.shape[-1]), query)


def _cat(b: dict[str, Any]) -> Tensor | None:
    tensors, first = b["tensors"], b["tensors"][0]
    if any(t.dtype != first.dtype or t.dim() != first.dim() for t in tensors) or first.dim() == 0:
        return None
    dim = b["dim"] % first.dim()
    rests = {(*t.shape[:dim], *t.shape[dim + 1 :]) for t in tensors}
    if len(rests) != 1:
        return None
    size = sum(t.shape[dim] for t in tensors)
    return _made((*first.shape[:dim], size, *first.shape[dim + 1 :]), first)


def _stack(b: dict[str, Any]) -> Tensor | None:
    tensors, first = b["tensors"], b["tensors"][0]
    if any(t.dtype != first.dtype or t.shape != first.shape for t in tensors):
        return None
    dim = b["dim"] % (first.dim() + 1)
    return _made((*first.shape[:dim], len(tensors), *first.shape[dim:]), first)


def _reduced(b: dict[str, Any]) -> Tensor | None:
    x = b["self"]
    if b.get("dtype") is not None or not x.dtype.is_floating_point:
        return None
    dims = b.get("dim")
    listed = [dims] if isinstance(dims, int) else list(dims or range(x.dim()))
    chosen = {dim % max(x.dim(), 1) for dim in listed}
    if b.get("keepdim"):
        return _made([1 if i in chosen else size for i, size in enumerate(x.shape)], x)
    return _made([size for i, size in enumerate(x.shape) if i not in chosen], x)


def _index(b: dict[str, Any]) -> Tensor | None:
    x, indices = b["self"], b["indices"]
    places = [place for place, index in enumerate(indices) if index is not None]
    if len(places) != 1 or indices[places[0]].dtype not in (torch.int64, torch.int32):
        return None
    (place,) = places
    return _made((*x.shape[:place], *indices[place].shape, *x.shape[place + 1 :]), x)


def _roll(b: dict[str, Any]) -> Tensor:
    return _made(b["self"].shape, b["self"])


def _repeat(b: dict[str, Any]) -> Tensor:
    x, times = b["self"], b["repeats"]
    shape = (*[1] * (len(times) - x.dim()), *x.shape)
    return _made([size * count for size, count in zip(shape, times, strict=True)], x)


def _gather(b: dict[str, Any]) -> Tensor:
    return _made(b["index"].shape, b["self"])


def _upsample(dims: int) -> Rule:
    def rule(b: dict[str, Any]) -> Tensor | None:
        x, sizes, scales = (
            b.get("input", b.get("self")),
            b.get("output_size"),
            b.get("scale_factors"),
        )
        if x is None or x.dim() != dims + 2:
            return None
        if sizes is None and scales is not None:
            sizes = [math.floor(s * f) for s, f in zip(x.shape[2:], scales, strict=True)]
        return None if sizes is None else _made((*x.shape[:2], *sizes), x)

    return rule


def _recurrent(states: int) -> Rule:
    """Recurrent layers, of which LSTM has two states: (output, h_n) or (output, h_n, c_n)."""

    def rule(b: dict[str, Any]) -> tuple[Tensor, ...] | None:
        if "batch_sizes" in b or b.get("data") is not None:
            return None
        x, hidden = b["input"], b["hx"] if states == 2 else [b["hx"]]
        if x.dim() != 3:
            return None
        width = hidden[0].shape[-1] * (2 if b["bidirectional"] else 1)
        return (_made((*x.shape[:2], width), x), *(_made(h.shape, h) for h in hidden))

    return rule


_NOT_BROADCAST = frozenset({*CASTS, "prelu", "_prelu_kernel", "isin"})
"""Operations on single entries whose other operands are not entries, or that choose a dtype."""
_WHOLE = frozenset({"add", "sub", "rsub", "mul", "neg", "minimum", "maximum", "tril", "triu"})
"""Operations that keep whole numbers as they are."""
_DIMS = {1: "1d", 2: "2d", 3: "3d"}
_RULES: dict[str, Rule] = {
    **dict.fromkeys(NORMS | names_where(lambda row: row.normalizes), _like_first),
    **dict.fromkeys(("batch_norm", "cumsum", "rsqrt"), _like_first),
    **dict.fromkeys(("where", "masked_fill"), _choice),
    **dict.fromkeys(MATRIX_PRODUCTS, _matmul),
    **dict.fromkeys(names_where(lambda row: row.reduction == "dims" and not row.results), _reduced),
    **{f"conv{dims}": _convolution for dims in _DIMS.values()},
    **{f"max_pool{name}": _pooling(dims) for dims, name in _DIMS.items()},
    **{f"avg_pool{name}": _pooling(dims) for dims, name in _DIMS.items()},
    **{f"adaptive_avg_pool{name}": _adaptive(dims) for dims, name in _DIMS.items()},
    **{
        f"upsample_{kind}": _upsample(int(kind[-2]))
        for kind in ("linear1d", "bilinear2d", "bicubic2d")
    },
    **{f"upsample_nearest{name}": _upsample(dims) for dims, name in _DIMS.items()},
    "linear": _linear,
    "addmm": _addmm,
    "embedding": _embedding,
    "scaled_dot_product_attention": _attention,
    "cat": _cat,
    "stack": _stack,
    "index": _index,
    "roll": _roll,
    "repeat": _repeat,
    "gather": _gather,
    **{name: _recurrent(2 if name == "lstm" else 1) for name in RECURRENT},
}
