"""Contrastive starts: what speaks for one class and against others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lrp_fx._common import is_int
from lrp_fx.errors import InputError, OptionError
from lrp_fx.relevance import Target, contrast_with_rest, target_places


def against(target: Target, other: Target) -> Callable[[Tensor], Tensor]:
    """A start for one output against another: ``LRPFx(model, start=against(3, 7))``.

    Relevance starts with ``y_a`` at ``target`` and ``−y_b`` at ``other``. It sums up to
    ``y_a − y_b`` if the rules conserve.

    Args:
        target: as in :meth:`lrp_fx.LRPFx.attribute`.
        other: as in :meth:`lrp_fx.LRPFx.attribute`.

    Returns:
        A function from the output (N, …) to the relevance of the output, of the same shape.

    Raises:
        TargetError: in the run, if a target does not fit the output.
    """

    def start(output: Tensor) -> Tensor:
        flat = output.reshape(output.shape[0], -1)
        total = torch.zeros_like(flat)
        for each, sign in ((target, 1), (other, -1)):
            places = target_places(each, output.shape).to(output.device)
            total = total.scatter_add(1, places, sign * flat.gather(1, places))
        return total.reshape(output.shape)

    return start


def against_rest(target: Target, dim: int = 1) -> Callable[[Tensor], Tensor]:
    """A start for one class against the softmax of all others: ``start=against_rest((4, 7), dim=2)``.

    As ``start="against_rest"``, with the target in the start, and for classes in any dimension:
    ``R = y ⊙ (e − p)``, with one at the target in ``e``, and in ``p`` the softmax over the other
    classes of the same place.

    Args:
        target: as in :meth:`lrp_fx.LRPFx.attribute`.
        dim: the dimension of the output that holds the classes; 2 for words (N, T, vocabulary).

    Returns:
        A function from the output (N, …) to the relevance of the output, of the same shape.

    Raises:
        OptionError: if ``dim`` is not an int, or the dimension of the batch.
        InputError: in the run, if the output has no such dimension, or no other class.
        TargetError: in the run, if the target does not fit the output.
    """
    if not is_int(dim) or dim == 0:
        raise OptionError(f"dim must be a dimension after that of the batch, got {dim!r}")

    def start(output: Tensor) -> Tensor:
        if not -output.dim() < dim < output.dim():
            raise InputError(f"the output {tuple(output.shape)} has no dimension {dim} of classes")
        places = target_places(target, output.shape).to(output.device)
        flat = torch.zeros(output.shape, dtype=torch.bool, device=output.device).flatten(1)
        return contrast_with_rest(output, flat.scatter(1, places, True).reshape(output.shape), dim)

    return start


def against_all(target: Target) -> Callable[[Tensor], Tensor]:
    """A start for one class against all others together (CLRP, Gu et al. 2018, sec. 3.2).

    Relevance starts with ``y_t`` at the target and ``−y_t / (C − 1)`` at each other class. It sums
    up to zero, so evidence that all classes share cancels. The paper shows the positive part of the
    map, ``relevance.clamp(min=0)``.

    Args:
        target: as in :meth:`lrp_fx.LRPFx.attribute`, for an output (N, C).

    Returns:
        A function from the output (N, C) to the relevance of the output, of the same shape.

    Raises:
        InputError: in the run, if the output is not (N, C), or if there is no other class.
        TargetError: in the run, if the target does not fit the output.
    """

    def start(output: Tensor) -> Tensor:
        if output.dim() != 2:
            raise InputError(
                f"against_all needs an output of (N, classes), got {tuple(output.shape)}"
            )
        places = target_places(target, output.shape).to(output.device)
        count = output.shape[1] - places.shape[1]
        if count == 0:
            raise InputError(f"against_all needs other classes than the target, got {target!r}")
        values = output.gather(1, places)
        others = (-values.sum(1, keepdim=True) / count).expand_as(output)
        return others.scatter(1, places, values)

    return start
