"""Detecting writes to tensors, by address, version counter and samples of their memory.

PyTorch counts writes to a tensor, but not those through ``tensor.data`` or NumPy, nor those of
``F.batch_norm`` to running statistics. These are found by comparing memory, as far as that is
cheap.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lrp_fx.graph import property_getter, version_of

WHOLE = 16 * 1024
"""Tensors of up to this many bytes are compared as a whole."""
PLACES = 64
"""Larger tensors are compared at about this many places, evenly spaced."""
_ITEM: dict[int, Literal["H", "I", "Q"]] = {2: "H", 4: "I", 8: "Q"}
_Form = tuple[Any, ...]


def has_version(tensor: Tensor) -> bool:
    """Whether PyTorch counts the writes to a tensor: not if it was created in ``inference_mode``."""
    return not tensor.is_inference()


def trace_of(tensor: Tensor | None) -> _Form | None:
    """A key that changes if the tensor is replaced, moved, cast, or if PyTorch counts a write to it."""
    if tensor is None:
        return None
    version = version_of(tensor) if has_version(tensor) else None
    place = tensor.data_ptr() if tensor.layout == torch.strided else 0  # sparse ones have several
    return id(tensor), place, version, tensor.dtype, tensor.device


def traces_of(tensors: Sequence[Tensor | None]) -> _Form:
    """A key that changes if that of one of the tensors does; much faster than :func:`trace_of`."""
    try:
        columns = (map(each, tensors) for each in _TRACE)
        return tuple(map(tuple, columns))
    except (TypeError, RuntimeError):  # one is None, or has no version counter
        return tuple(map(trace_of, tensors))


_data_ptr = Tensor.data_ptr
_dtype = property_getter("dtype")
_TRACE: tuple[Callable[[Any], Any], ...] = (id, _data_ptr, version_of, _dtype)


def form_of(tensor: Tensor) -> _Form:
    """The properties of a tensor on which a graph may depend: all except its values."""
    strides = tensor.stride() if tensor.layout == torch.strided else None
    form = (tuple(tensor.shape), strides, tensor.dtype, tensor.layout)
    return (*form, str(tensor.device), tensor.requires_grad, id(type(tensor)))


def is_readable(tensor: Tensor) -> bool:
    """Whether :class:`Memory` can read a tensor: a dense one on the CPU, with memory of its own.

    A class with a ``__torch_dispatch__`` of its own may keep the values elsewhere.
    """
    is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
    has_own = type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
    return is_dense and has_own and tensor.data_ptr() != 0


def leaves_traces(tensor: Tensor) -> bool:
    """Whether writes to a tensor are noticed: PyTorch counts them, and its memory can be read.

    Other devices than the CPU count as readable, although reading them would take too long.
    """
    is_hidden = tensor.device.type == "cpu" and tensor.numel() > 0 and not is_readable(tensor)
    return has_version(tensor) and not is_hidden


class Memory:
    """Fast repeated reading of the memory of tensors.

    It keeps no references to the tensors, only their addresses. So call :meth:`look` only while the
    tensors are alive and have not moved.

    Args:
        tensors: the tensors. Those on other devices than the CPU are left out, because reading them
            would have to wait for the device.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._views = [_view_of(tensor) for tensor in tensors if is_readable(tensor)]

    def look(self) -> list[bytes]:
        """The bytes of small tensors, and samples of the bytes of large ones."""
        return [view.tobytes() for view in self._views]


def _view_of(tensor: Tensor) -> memoryview[int]:
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    count = sum((size - 1) * stride for size, stride in pairs) + 1 if tensor.numel() else 0
    length = count * tensor.element_size()
    memory = (ctypes.c_ubyte * length).from_address(tensor.data_ptr())
    view = memoryview(memory).cast("B")
    if length <= WHOLE:
        return view
    # the step is odd, so that for most matrices the samples are not all in the same column
    return view.cast(_ITEM.get(tensor.element_size(), "B"))[:: count // PLACES | 1]
