"""Where the propagation starts: the target's place in the output, and the relevance put there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lrp_fx.errors import InputError, OptionError, TargetError
from lrp_fx.relevance import RelevanceNode

StartMode = Literal["logit", "one_hot", "softmax"]
Start = StartMode | Callable[[Tensor], Tensor]
Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None
MODES: tuple[StartMode, ...] = ("logit", "one_hot", "softmax")


class StartRelevance(RelevanceNode):
    """The relevance of the explained output.

    ``logit``: the output at the target, zero elsewhere. ``one_hot``: one at the target. ``softmax``:
    the softmax over dimension 1, no target (the blog post's unsupervised mode). A callable gets the
    output (N, …) and returns the relevance of the same shape.
    """

    def __init__(self, start: Start) -> None:
        super().__init__()
        if not callable(start) and start not in MODES:
            raise OptionError(
                f"start must be one of {', '.join(MODES)} or a callable, got {start!r}"
            )
        self.start = start

    def extra_repr(self) -> str:
        """The mode."""
        return repr(self.start)

    @property
    def takes_target(self) -> bool:
        """Whether the relevance depends on a target."""
        return self.start in ("logit", "one_hot")

    def propagate(self, output: Tensor, target: Target) -> Tensor:
        """The relevance of ``output`` (N, …), of its shape.

        Raises:
            TargetError: if the target does not fit the output, or the mode takes none.
        """
        if output.dim() == 0:
            raise InputError(
                "the model's output is one number for the whole batch, not one per sample"
            )
        if callable(self.start):
            if target is not None:
                raise TargetError("a callable start decides the relevance itself: pass no target")
            relevance = self.start(output)
            if not isinstance(relevance, Tensor) or relevance.shape != output.shape:
                raise InputError(
                    f"the callable start must return relevance of the output's shape "
                    f"{tuple(output.shape)}, got {getattr(relevance, 'shape', type(relevance))}"
                )
            # a copy: what is returned in the end may be this very tensor, which is the caller's
            return relevance.detach().to(output.dtype, copy=True)
        if self.start == "softmax":
            if target is not None:
                raise TargetError("start='softmax' explains all classes at once: pass no target")
            if output.dim() < 2:
                raise InputError("start='softmax' needs an output of (N, classes, ...)")
            return output.softmax(1)
        return self.at_target(output, target)

    def at_target(self, output: Tensor, target: Target) -> Tensor:
        """The output, or one, at the target and zero elsewhere, of the shape of ``output``."""
        places = target_places(target, output.shape).to(output.device)
        flat = output.reshape(output.shape[0], -1)
        values = flat.gather(1, places) if self.start == "logit" else flat.new_ones(places.shape)
        return torch.zeros_like(flat).scatter(1, places, values).reshape(output.shape)


class TensorStart(StartRelevance):
    """The same for a target that is an input of an exported program: nobody looks at its values.

    A negative index counts from the end. One that is out of range is no place: no relevance starts.
    """

    def at_target(self, output: Tensor, target: Target) -> Tensor:
        """The output, or one, at the target and zero elsewhere; ``target`` is (N,) or (N, K)."""
        assert isinstance(target, Tensor)
        sizes = indexed_sizes(output.shape)
        indices = target.reshape(-1, len(sizes))
        chosen = output.new_ones(output.shape, dtype=torch.bool)
        for dim, size in enumerate(sizes):
            index = indices[:, dim : dim + 1]
            index = torch.where(index < 0, index + size, index)
            here = torch.arange(size, device=output.device) == index
            around = output.dim() - 2 - dim  # the dimensions behind this one
            chosen = chosen & here.reshape(-1, *[1] * dim, size, *[1] * around)
        values = output if self.start == "logit" else torch.ones_like(output)
        return values.masked_fill(~chosen, 0)


def indexed_sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes of a sample's output (N, …) that a target has an index for: without a trailing 1."""
    sizes = tuple(shape[1:])
    while sizes and sizes[-1] == 1:
        sizes = sizes[:-1]
    return sizes


def target_places(target: Target, shape: Sequence[int]) -> Tensor:
    """The place of each sample's target in its flattened output, (N, 1).

    Args:
        target: as in Captum: None where there is one value per sample; an int or a one-element
            tensor for all samples; a list of ints or a 1-D tensor, one for each; for outputs of more
            dimensions a tuple of indices for all samples, or a list of such tuples.
        shape: the output's shape, (N, …).

    Raises:
        TargetError: if the target does not fit, with what would.
    """
    samples, sizes = shape[0], tuple(shape[1:])
    if target is None:
        if torch.Size(sizes).numel() != 1:
            raise TargetError(
                f"a target is needed: the output {tuple(shape)} has more than one value per sample"
            )
        return torch.zeros(samples, 1, dtype=torch.long)
    per_sample = _per_sample(target, samples)
    if len(per_sample) != samples:
        raise TargetError(f"{len(per_sample)} targets for a batch of {samples}")
    places = [_place(indices, sizes) for indices in per_sample]
    return torch.tensor(places, dtype=torch.long).reshape(samples, 1)


def _per_sample(target: Any, samples: int) -> list[tuple[int, ...]]:
    """One tuple of indices per sample."""
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            raise TargetError(f"a target tensor must hold integers, got {target.dtype}")
        if target.numel() == 1 and target.dim() <= 1:
            return [(int(target.item()),)] * samples
        if target.dim() != 1:
            raise TargetError(
                f"a target tensor must have one dimension, got shape {tuple(target.shape)}"
            )
        return [(int(index),) for index in target.tolist()]
    if isinstance(target, tuple):
        return [_indices(target)] * samples
    if isinstance(target, list):
        return [_indices(each if isinstance(each, tuple) else (each,)) for each in target]
    return [_indices((target,))] * samples


def _indices(values: tuple[Any, ...]) -> tuple[int, ...]:
    try:
        if any(isinstance(value, (bool, float, str)) for value in values):
            raise TypeError
        return tuple(int(value) for value in values)
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"a target must be an int, a tuple of ints, a 1-D tensor or a list of these, got {values!r}"
        ) from error


def _place(indices: tuple[int, ...], sizes: tuple[int, ...]) -> int:
    while len(indices) < len(sizes) and sizes[-1] == 1:  # as in Captum, only one value is left
        sizes = sizes[:-1]
    if len(indices) != len(sizes):
        raise TargetError(
            f"the target {indices} has {len(indices)} indices, but a sample of the output has "
            f"{len(sizes)} dimensions, of sizes {sizes} (the output's first one is the batch)"
        )
    place = 0
    for index, size in zip(indices, sizes, strict=True):
        if not -size <= index < size:
            raise TargetError(f"target index {index} is out of range for {size} outputs")
        place = place * size + index % size
    return place
