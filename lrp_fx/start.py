"""Where the propagation starts: the target's place in the output, and the relevance put there."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lrp_fx.errors import InputError, OptionError, TargetError
from lrp_fx.relevance import RelevanceNode
from lrp_fx.relevance.engines import vjp

StartMode = Literal["logit", "one_hot", "softmax"]
Start = StartMode | Callable[[Tensor], Tensor]
Index = int | slice
Place = Index | tuple[Index, ...]
Target = Place | Tensor | list[int] | list[tuple[Index, ...]] | None
MODES: tuple[StartMode, ...] = ("logit", "one_hot", "softmax")


class Places(NamedTuple):
    """A target that was checked against the output: each sample's places in it, flattened; (N, K)."""

    flat: Tensor


@dataclass(frozen=True)
class Together:
    """Several targets that are explained as one: relevance starts at the places of all of them."""

    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Selected:
    """A function of the explained value ``y`` (N, …) to one number for each sample, (N,)."""

    function: Callable[[Tensor], Tensor]

    def relevance(self, output: Tensor, weighted: bool) -> Tensor:
        """``y ⊙ ∂f/∂y``, what each entry adds to a sum of entries; ``∂f/∂y`` where not weighted.

        Raises:
            TargetError: if the function returns anything but (N,).
        """

        def checked(y: Tensor) -> Tensor:
            value = self.function(y)
            if not isinstance(value, Tensor) or value.shape != output.shape[:1]:
                raise TargetError(
                    f"a selector must return one number for each of the {output.shape[0]} samples, got "
                    f"{tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
                )
            return value

        value, pullback = vjp(checked, output)
        (gradient,) = pullback(torch.ones_like(value))
        return output * gradient if weighted else gradient


class StartRelevance(RelevanceNode):
    """The relevance of the explained output.

    ``logit``: the output at the target, zero elsewhere. ``one_hot``: one at the target. ``softmax``:
    the softmax over dimension 1, no target (the blog post's unsupervised mode). A callable gets the
    output (N, …) and returns the relevance of the same shape.
    """

    def __init__(self, start: Start) -> None:
        super().__init__()
        if not callable(start) and not (isinstance(start, str) and start in MODES):
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

    def propagate(self, output: Tensor, target: Target | Together | Selected | Places) -> Tensor:
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
            return relevance.to(output.dtype, copy=True)
        if self.start == "softmax":
            if target is not None:
                raise TargetError("start='softmax' explains all classes at once: pass no target")
            if output.dim() < 2:
                raise InputError("start='softmax' needs an output of (N, classes, ...)")
            return output.softmax(1)
        if isinstance(target, Selected):
            return target.relevance(output, self.start == "logit")
        return self.at_target(output, target)

    def at_target(self, output: Tensor, target: Target | Together | Places) -> Tensor:
        """The output, or one, at the target and zero elsewhere, of the shape of ``output``."""
        if isinstance(target, Places):
            places = target.flat
        else:
            places = target_places(target, output.shape).to(output.device)
        flat = output.reshape(output.shape[0], -1)
        values = flat.gather(1, places) if self.start == "logit" else flat.new_ones(places.shape)
        return torch.zeros_like(flat).scatter(1, places, values).reshape(output.shape)


class TensorStart(StartRelevance):
    """The same for a target that is an input of an exported program: nobody looks at its values.

    A negative index counts from the end. One that is out of range is no place: no relevance starts.
    """

    def at_target(self, output: Tensor, target: Target | Together | Places) -> Tensor:
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


def target_places(target: Target | Together, shape: Sequence[int]) -> Tensor:
    """The places of each sample's target in its flattened output, (N, K); K is 1 without slices.

    Args:
        target: as in Captum: None where there is one value per sample; an int or a one-element
            tensor for all samples; a list of ints or a 1-D tensor, one for each; for outputs of more
            dimensions a tuple of indices for all samples, or a list of such tuples. A slice in the
            place of an index stands for several places at once.
        shape: the output's shape, (N, …).

    Raises:
        TargetError: if the target does not fit, with what would.
    """
    if isinstance(target, Together):
        return torch.cat([target_places(each, shape) for each in target.targets], 1)
    samples, sizes = shape[0], tuple(shape[1:])
    if target is None:
        if torch.Size(sizes).numel() != 1:
            raise TargetError(
                f"a target is needed: the output {tuple(shape)} has more than one value per sample"
            )
        return torch.zeros(samples, 1, dtype=torch.long, device="cpu")
    per_sample = _per_sample(target, samples)
    if len(per_sample) != samples:
        raise TargetError(f"{len(per_sample)} targets for a batch of {samples}")
    places = [_places(indices, sizes) for indices in per_sample]
    if len({len(each) for each in places}) > 1:
        raise TargetError("the slices of the targets select different numbers of outputs")
    return torch.tensor(places, dtype=torch.long, device="cpu")


def _per_sample(target: Any, samples: int) -> list[tuple[Index, ...]]:
    """One tuple of indices per sample."""
    if isinstance(target, np.ndarray):
        target = _as_tensor(target)
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


def _as_tensor(target: np.ndarray[Any, Any]) -> Tensor:
    try:
        return torch.as_tensor(target, device="cpu")
    except TypeError as error:  # of objects, of strings
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
    while len(indices) < len(sizes) and sizes[-1] == 1:  # as in Captum, only one value is left
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
    """The places along one dimension."""
    if isinstance(index, slice):
        try:
            chosen = range(size)[index]
        except (TypeError, ValueError) as error:
            raise TargetError(f"target {index} is no slice of {size} outputs: {error}") from error
        if not chosen:
            raise TargetError(f"target {index} selects none of {size} outputs")
        return chosen
    if not -size <= index < size:
        raise TargetError(f"target index {index} is out of range for {size} outputs")
    return (index % size,)
