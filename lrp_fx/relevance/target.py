"""Targets in Captum's notation: which entries of the output are explained."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx.errors import TargetError

Index = int | slice
Place = Index | tuple[Index, ...]
_INDICES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
Target = Place | Tensor | NDArray[np.integer] | list[int] | list[tuple[Index, ...]] | None


class Places(NamedTuple):
    """The positions of each sample's targets in its flattened output, (N, K).

    ``known``, (N,), is False for a sample that has no such output. It is None if all samples have one.
    """

    flat: Tensor
    known: Tensor | None = None


@dataclass(frozen=True)
class JointTarget:
    """Several targets that are explained together: relevance starts at all of them."""

    targets: tuple[Target, ...]


@dataclass(frozen=True)
class LargestTarget:
    """The class with the largest output of each sample, which is known only after the forward pass."""

    def places(self, output: Tensor) -> Places:
        """The positions of the classes in the output (N, classes); of the only value where there is one.

        Raises:
            TargetError: if the output has no classes, and more than one value per sample.
        """
        if output.dim() != 2 and output[0].numel() != 1:
            raise TargetError(
                f"an output of shape {tuple(output.shape)} has no single predicted class: pass a target"
            )
        return Places(output.reshape(len(output), -1).argmax(1, keepdim=True))


def indexed_sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes of the dimensions that a target indexes: all but the batch and trailing ones."""
    sizes = tuple(shape[1:])
    while sizes and sizes[-1] == 1:
        sizes = sizes[:-1]
    return sizes


def places_on(device: torch.device, target: Target | JointTarget, shape: Sequence[int]) -> Places:
    """The positions of a target, on a device.

    The indices in a tensor on another device than the CPU are not read: the program would have to
    wait. An index out of range is not ``known`` then.

    Args:
        device: of the output.
        target: as in :func:`target_places`.
        shape: the shape of the output, (N, …).

    Raises:
        TargetError: as :func:`target_places`.
    """
    sizes = indexed_sizes(shape)
    if isinstance(target, Tensor) and target.device.type != "cpu" and len(sizes) == 1:
        fits = target.dim() <= 1 and target.numel() in (1, shape[0])
        if fits and target.dtype in _INDICES:
            index = target.to(device, torch.long).reshape(-1).expand(shape[0])
            return _unread(index, sizes[0])
    if isinstance(target, int):  # made on the device: a copy would have to wait for it
        (place,) = _places(_indices((target,)), tuple(shape[1:]))
        return Places(torch.full((shape[0], 1), place, device=device))
    return Places(target_places(target, shape).to(device))


def _unread(index: Tensor, size: int) -> Places:
    """One index per sample, (N,), into ``size`` outputs, without reading them."""
    index = torch.where(index < 0, index + size, index)
    return Places(index.clamp(0, size - 1)[:, None], (index >= 0) & (index < size))


def target_places(target: Target | JointTarget, shape: Sequence[int]) -> Tensor:
    """The positions of each sample's targets in its flattened output, (N, K).

    ``K`` is 1 unless the target has slices or combines several targets.

    Args:
        target: as in Captum. None if the output has one value per sample; an int or a one-element
            tensor for all samples; a list of ints or a 1-D tensor with one index per sample. For
            outputs of more dimensions a tuple of indices for all samples, or a list of such tuples.
            A slice instead of an index selects several positions.
        shape: the shape of the output, (N, …).

    Raises:
        TargetError: if the target does not fit the output.
    """
    if isinstance(target, JointTarget):
        return torch.cat([target_places(each, shape) for each in target.targets], 1)
    samples, sizes = shape[0], tuple(shape[1:])
    if target is None:
        if torch.Size(sizes).numel() != 1:
            raise TargetError(
                f"a target is needed: the output {tuple(shape)} has more than one value per sample"
            )
        return torch.zeros(samples, 1, dtype=torch.long, device="cpu")
    common, per_sample = _indices_of(target)
    if common is not None:  # the number of samples may still be open, in an exported program
        places = torch.tensor([_places(common, sizes)], dtype=torch.long, device="cpu")
        return places.repeat(samples, 1)
    if len(per_sample) != samples:
        raise TargetError(f"{len(per_sample)} targets for a batch of {samples}")
    rows = [_places(indices, sizes) for indices in per_sample]
    if len({len(row) for row in rows}) > 1:
        raise TargetError("the slices of the targets select different numbers of outputs")
    return torch.tensor(rows, dtype=torch.long, device="cpu")


def _indices_of(target: Any) -> tuple[tuple[Index, ...] | None, list[tuple[Index, ...]]]:
    """The indices that a target gives to all samples, or else those of each sample."""
    if isinstance(target, np.ndarray):
        target = _as_tensor(target)
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            raise TargetError(f"a target tensor must hold integers, got {target.dtype}")
        if target.numel() == 1 and target.dim() <= 1:
            return (int(target.item()),), []
        if target.dim() != 1:
            raise TargetError(
                f"a target tensor must have one dimension, got shape {tuple(target.shape)}"
            )
        return None, [(int(index),) for index in target.tolist()]
    if isinstance(target, tuple):
        return _indices(target), []
    if isinstance(target, list):
        many = (each if isinstance(each, tuple) else (each,) for each in target)
        return None, list(map(_indices, many))
    return _indices((target,)), []


def _as_tensor(target: np.ndarray[Any, Any]) -> Tensor:
    try:
        native = np.array(target, dtype=target.dtype.newbyteorder("="))  # a copy without strides
        return torch.as_tensor(native, device="cpu")
    except TypeError as error:  # an array of objects or strings
        raise TargetError(f"a target must hold integers, got {target!r}") from error


def _indices(values: tuple[Any, ...]) -> tuple[Index, ...]:
    try:
        if any(isinstance(value, (bool, np.bool_)) for value in values):
            raise TypeError
        return tuple(
            value if isinstance(value, slice) else operator.index(value) for value in values
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise TargetError(
            f"a target must be an int, a tuple of ints, a 1-D tensor or a list of these, got {values!r}"
        ) from error


def _places(indices: tuple[Index, ...], sizes: tuple[int, ...]) -> list[int]:
    while len(indices) < len(sizes) and sizes[-1] == 1:  # as in Captum, a size of 1 needs no index
        sizes = sizes[:-1]
    if len(indices) != len(sizes):
        raise TargetError(
            f"the target {indices} has {len(indices)} indices, but a sample of the output has "
            f"{len(sizes)} dimensions, of sizes {sizes} (the output's first one is the batch)"
        )
    places = [0]
    for index, size in zip(indices, sizes, strict=True):
        places = [place * size + each for place in places for each in _chosen(index, size)]
    return places


def _chosen(index: Index, size: int) -> Sequence[int]:
    """The positions that an index or a slice selects along a dimension."""
    if isinstance(index, slice):
        try:
            chosen = range(size)[index]
        except (TypeError, ValueError) as error:
            raise TargetError(
                f"target {index} is not a slice of {size} outputs: {error}"
            ) from error
        if not chosen:
            raise TargetError(f"target {index} selects none of {size} outputs")
        return chosen
    if not -size <= index < size:
        raise TargetError(f"target index {index} is out of range for {size} outputs")
    return (index % size,)
