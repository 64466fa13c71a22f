"""What a write to a tensor leaves behind: its place, its version, and a look at its memory.

PyTorch counts writes, but not those through ``tensor.data``, through NumPy, or of
``F.batch_norm`` to running statistics. Those are found by comparing memory, as far as it is cheap.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lrp_fx.graph import property_getter, version_of

WHOLE = 16 * 1024
"""Tensors of so many bytes are compared whole."""
PLACES = 64
"""At so many places, spread evenly, larger ones are compared."""
_ITEM: dict[int, Literal["H", "I", "Q"]] = {2: "H", 4: "I", 8: "Q"}
_Form = tuple[Any, ...]


def has_version(tensor: Tensor) -> bool:
    """Whether PyTorch counts the writes to a tensor; not if it was made under ``inference_mode``."""
    return not tensor.is_inference()


def trace_of(tensor: Tensor | None) -> _Form | None:
    """What changes when a tensor is replaced, moved, cast or written to, as far as PyTorch counts."""
    if tensor is None:
        return None
    version = version_of(tensor) if has_version(tensor) else None
    place = tensor.data_ptr() if tensor.layout == torch.strided else 0  # sparse ones have several
    return id(tensor), place, version, tensor.dtype, tensor.device


def traces_of(tensors: Sequence[Tensor | None]) -> _Form:
    """The traces of many tensors, in a fraction of the time."""
    try:
        columns = (map(each, tensors) for each in _TRACE)
        return tuple(map(tuple, columns))
    except (TypeError, RuntimeError):  # one is missing, or has no version
        return tuple(map(trace_of, tensors))


_data_ptr = Tensor.data_ptr
_dtype = property_getter("dtype")
_TRACE: tuple[Callable[[Any], Any], ...] = (id, _data_ptr, version_of, _dtype)


def form_of(tensor: Tensor) -> _Form:
    """What a graph may have been made for: all but the values."""
    strides = tensor.stride() if tensor.layout == torch.strided else None
    form = (tuple(tensor.shape), strides, tensor.dtype, tensor.layout)
    return (*form, str(tensor.device), tensor.requires_grad, id(type(tensor)))


def is_readable(tensor: Tensor) -> bool:
    """Whether :class:`Memory` can look at a tensor."""
    is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return is_dense and type(tensor) in _PLAIN and tensor.data_ptr() != 0


_PLAIN = (Tensor, torch.nn.Parameter)  # a buffer is a plain tensor


class Memory:
    """The memory of tensors, to be looked at again and again.

    It holds no reference: look only while the tensors are alive and where they were.

    Args:
        tensors: those on other devices than the CPU are left out, for reading them would wait.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._views = [_view_of(tensor) for tensor in tensors if is_readable(tensor)]

    def look(self) -> list[bytes]:
        """The bytes of small tensors, and those at some places of large ones."""
        return [view.tobytes() for view in self._views]


def _view_of(tensor: Tensor) -> memoryview[int]:
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    count = sum((size - 1) * stride for size, stride in pairs) + 1 if tensor.numel() else 0
    length = count * tensor.element_size()
    memory = (ctypes.c_ubyte * length).from_address(tensor.data_ptr())
    view = memoryview(memory).cast("B")
    if length <= WHOLE:
        return view
    # an odd step meets all columns of a matrix in turn
    return view.cast(_ITEM.get(tensor.element_size(), "B"))[:: count // PLACES | 1]
