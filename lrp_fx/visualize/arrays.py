"""Relevance in any form as checked NumPy arrays, and the heat map: the sum over the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx._common import is_int
from lrp_fx.errors import InputError, OptionError


class SupportsArray(Protocol):
    """What NumPy turns into an array, such as a Series or a DataFrame of pandas."""

    def __array__(self) -> NDArray[np.generic]:
        """The array."""
        ...


Floats: TypeAlias = NDArray[np.float64]
Relevance: TypeAlias = Tensor | NDArray[np.generic] | tuple[Tensor, ...]
"""A tensor of any device and dtype, a NumPy array, or a tuple that holds one, as Captum returns."""
Data: TypeAlias = Tensor | NDArray[np.generic] | Sequence[object] | SupportsArray
"""An input of a model: a tensor, an array, lists of numbers, or a row or table of pandas."""

FORMS = {
    1: "(C, L) or (N, C, L)",
    2: "(C, H, W) or (N, C, H, W)",
    3: "(C, D, H, W) or (N, C, D, H, W)",
}
"""The shapes of relevance with one, two and three dimensions after the channels."""

COLORS = (1, 3, 4)
"""The numbers of channels of photographs: grey, RGB, RGB with transparency."""


@overload
def heatmap(relevance: Tensor | tuple[Tensor, ...], dims: int | None = None) -> Tensor: ...
@overload
def heatmap(relevance: NDArray[np.generic], dims: int | None = None) -> NDArray[np.generic]: ...
def heatmap(relevance: Relevance, dims: int | None = None) -> Tensor | NDArray[np.generic]:
    """Relevance per position: the sum over the channels, ``h[n, …] = Σ_c R[n, c, …]``.

    Args:
        relevance: a tensor, an array, or a tuple with one of them. With the batch dimension N or
            without: ``(N, C, L)`` for signals, ``(N, C, H, W)`` for images, ``(N, C, D, H, W)``
            for volumes.
        dims: how many dimensions come after the channels: 1, 2 or 3. None means 2 for shapes of
            three and four entries, and 3 for five. So signals need ``dims=1``, and volumes without
            a batch ``dims=3``.

    Returns:
        The shape without C, as a tensor or an array, like the relevance. Floats of 16 bits, in
        which sums overflow, become floats of 32 bits.

    Raises:
        InputError: for any other shape, for images whose channels come last, or for something that
            is not an array of numbers.
        OptionError: for other ``dims``.
    """
    only = one_of(relevance)
    behind = _dims(only.shape, dims)
    if dims is None and behind == 2:
        _check_channels_come_first(only.shape)
    axis = -1 - behind
    if isinstance(only, Tensor):
        half = only.dtype in (torch.float16, torch.bfloat16)
        return only.sum(dim=axis, dtype=torch.float32 if half else None)
    wide = np.float32 if only.dtype == np.float16 else None
    with np.errstate(over="ignore", invalid="ignore"):  # as a tensor's sum
        summed: NDArray[np.generic] = only.sum(axis=axis, dtype=wide)
    return summed


def _dims(shape: Sequence[int], dims: int | None) -> int:
    """The number of dimensions after the channels."""
    if dims is not None and (not is_int(dims) or dims not in FORMS):
        raise OptionError(
            f"dims must be 1 for signals, 2 for images or 3 for volumes, got {dims!r}"
        )
    behind = {3: 2, 4: 2, 5: 3}.get(len(shape)) if dims is None else int(dims)
    if behind is None or len(shape) not in (behind + 1, behind + 2):
        wanted = FORMS[2] if behind is None else FORMS[behind]
        raise InputError(
            f"a heatmap needs relevance of shape {wanted}, not {tuple(shape)}"
            + (
                "; say dims=1 for signals (C, L), (N, C, L) and dims=3 for volumes (C, D, H, W)"
                if dims is None
                else ""
            )
        )
    return behind


def _check_channels_come_first(shape: Sequence[int]) -> None:
    """Refuse images of shape (…, H, W, C), whose rows would be summed as if they were channels."""
    if shape[-1] in COLORS and shape[-3] not in COLORS and shape[-2] > max(COLORS):
        raise InputError(
            f"relevance of shape {tuple(shape)} looks as if its channels came last: move them to the "
            "front, relevance.transpose(2, 0, 1) for (H, W, C); if they are in front, pass their "
            "sum, heatmap(relevance, dims=2)[..., None, :, :]"
        )


def one_of(relevance: Relevance, what: str = "relevance") -> Tensor | NDArray[np.generic]:
    """The tensor or array itself, also if it is the only entry of a tuple.

    Args:
        relevance: the tensor, the array, or the tuple.
        what: what it is, for the error.

    Raises:
        InputError: if there are several, or if it is neither.
    """
    if isinstance(relevance, (tuple, list)) and len(relevance) == 1:
        relevance = relevance[0]
    if isinstance(relevance, Tensor):
        if relevance.is_meta or relevance.is_complex():
            raise InputError(
                f"{what} must hold real numbers, not "
                f"{'no values at all (device meta)' if relevance.is_meta else relevance.dtype}"
            )
        return relevance.detach()
    if isinstance(relevance, np.ndarray) and relevance.dtype.kind in "fiub":
        return relevance
    if isinstance(relevance, (tuple, list)):
        raise InputError(
            f"pass the {what} of one input, not of {len(relevance)}: {what}[0] for the first"
        )
    kind = f"{relevance.dtype} array" if isinstance(relevance, np.ndarray) else type(relevance)
    raise InputError(f"{what} must be a tensor or a NumPy array of real numbers, not {kind}")


def as_floats(relevance: Relevance, what: str = "relevance", *, missing: bool = False) -> Floats:
    """The values in float64 on the CPU.

    Args:
        relevance: the values.
        what: what they are, for errors.
        missing: whether NaN may be among them, for a value that is missing.

    Raises:
        InputError: if there are none, or if any is NaN or infinite.
    """
    only = one_of(relevance, what)
    if isinstance(only, Tensor):
        if only.is_quantized:
            only = only.dequantize()
        only = only.to_dense() if only.layout != torch.strided else only
        only = only.cpu().double().numpy()
    values = np.asarray(only, dtype=np.float64)
    if not values.size:
        raise InputError(f"{what} of shape {values.shape} has no entries to draw")
    right = np.isfinite(values) | (np.isnan(values) & missing)
    wrong = int((~right).sum())
    if wrong:
        raise InputError(
            f"{what} must be finite to be drawn: {wrong} of {values.size} values are "
            f"{'infinite' if missing else 'NaN or infinite'}"
        )
    return values


def as_data(values: Data, what: str, *, missing: bool = False) -> Floats:
    """As :func:`as_floats`, for what a model was given: lists of numbers and rows of pandas too.

    Raises:
        InputError: if they are not numbers, or as :func:`as_floats`.
    """
    tensors = isinstance(values, (tuple, list)) and any(isinstance(v, Tensor) for v in values)
    if isinstance(values, Tensor) or tensors:
        return as_floats(cast(Relevance, values), what, missing=missing)
    try:
        if np.asarray(values).dtype.kind not in "fiubO":
            raise TypeError
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{what} must be a tensor, an array, a list of numbers or a row of pandas, all real "
            f"numbers, not {type(values).__name__}"
        ) from None
    return as_floats(numbers, what, missing=missing)


def as_maps(relevance: Relevance) -> Floats:
    """The heat maps of images, (N, H, W), with N = 1 for a single image.

    Raises:
        InputError: for relevance of another shape, or that is not finite.
    """
    values = as_floats(relevance)
    if values.ndim not in (3, 4):
        raise InputError(
            f"images need relevance of shape {FORMS[2]}, not {values.shape}: use channel_map or "
            "signal for signals, volume for volumes, bar for rows, tokens for text"
        )
    _check_channels_come_first(values.shape)
    heat = summed(values, -3, "channels")
    return heat if heat.ndim == 3 else heat[None]


def summed(values: Floats, axis: int, over: str) -> Floats:
    """The sum of relevance over a dimension.

    Raises:
        InputError: if it overflows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        total: Floats = values.sum(axis=axis)
    if not np.isfinite(total).all():
        raise InputError(f"the sum of the relevance over the {over} overflows float64")
    return total


def as_rows(relevance: Relevance, what: str) -> Floats:
    """Relevance of one row per sample, (N, F), with N = 1 for a single row (F,).

    Raises:
        InputError: for relevance of another shape, or that is not finite.
    """
    return _rows(as_floats(relevance), what, "relevance")


def as_table(values: Data, what: str) -> Floats:
    """The table that relevance belongs to, (N, F), with NaN for values that are missing.

    Raises:
        InputError: for values of another shape, or that are infinite or no numbers.
    """
    return _rows(as_data(values, "the table", missing=True), what, "a table")


def _rows(values: Floats, what: str, kind: str) -> Floats:
    if values.ndim not in (1, 2):
        raise InputError(f"{what} needs {kind} of shape (F,) or (N, F), not {values.shape}")
    return np.atleast_2d(values)


def as_names(names: Sequence[str] | None, count: int, what: str) -> list[str] | None:
    """The names as a list of strings.

    Raises:
        InputError: unless there is one for each.
    """
    if names is None:
        return None
    if isinstance(names, str):
        names = [names]
    if len(names) != count:
        raise InputError(f"{count} {what} are needed, got {len(names)}")
    return [str(name) for name in names]
