"""The start of the relevance pass: the relevance of the explained output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lrp_fx.errors import InputError, OptionError, TargetError
from lrp_fx.relevance.engines import vjp
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.target import (
    JointTarget,
    LargestTarget,
    Places,
    Target,
    indexed_sizes,
    places_on,
)

StartMode = Literal["logit", "one_hot", "against_rest", "softmax"]
Start = StartMode | Callable[[Tensor], Tensor]

MODES: tuple[StartMode, ...] = ("logit", "one_hot", "against_rest", "softmax")


def vanishes_with_output(start: Start) -> bool:
    """Whether the relevance at the start is zero wherever the output is zero."""
    return start in ("logit", "against_rest")


def contrast_with_rest(output: Tensor, chosen: Tensor, dim: int = 1) -> Tensor:
    """``R = y ⊙ (e − p)``: what speaks for the chosen classes and against the rest.

    ``e`` is one at the chosen classes, and ``p`` is the softmax over the other classes of the same
    place, times the number of chosen ones there. It is ``R = y ⊙ ∂f/∂y`` for
    ``f = Σ_t (y_t − log Σ_j exp y_j)``, where ``t`` runs over the chosen classes and ``j`` over the
    others: the log-odds of ``t``. The softmax over all classes would round to one at a class that
    the model is sure of, and nothing would be left.

    Classes that a mask excludes, with an output of −∞, get nothing.

    Args:
        output: ``y``, (N, …, C, …).
        chosen: the mask of the chosen classes, of the shape of ``y``.
        dim: the dimension of the classes.

    Raises:
        InputError: if there are no other classes.
    """
    if output.dim() < 2 or output.shape[dim] < 2:
        raise InputError(
            "against_rest contrasts a class with the other ones, so it needs an output of "
            f"(N, classes, ...) with two classes or more, got {tuple(output.shape)}"
        )
    count = chosen.sum(dim, keepdim=True)
    rest = output.masked_fill(chosen, -torch.inf).softmax(dim)
    # where no other class is possible there is no rest, and the softmax is NaN
    rest = torch.where((count == 0) | rest.isnan(), 0, rest * count)
    coefficient = chosen.to(output.dtype) - rest
    return output.masked_fill(coefficient == 0, 0) * coefficient


def _against_rest(output: Tensor, chosen: Tensor) -> Tensor:
    """:func:`contrast_with_rest` where the shape says which dimension holds the classes."""
    if output.dim() == 3:
        raise InputError(
            "start='against_rest' cannot tell (N, classes, length) from (N, length, classes) in an "
            f"output of shape {tuple(output.shape)}: use start=lrp_fx.against_rest(target, dim=...)"
        )
    return contrast_with_rest(output, chosen)


@dataclass(frozen=True)
class SelectorTarget:
    """A target given by a function ``f`` from the output ``y`` (N, …) to one number per sample, (N,).

    Args:
        function: the function ``f``.
    """

    function: Callable[[Tensor], Tensor]

    def relevance(self, output: Tensor, weighted: bool) -> Tensor:
        """``R = y ⊙ ∂f/∂y``, or ``R = ∂f/∂y`` if not ``weighted``.

        If ``f`` is a sum of entries, the first one is the contribution of each entry.

        Raises:
            TargetError: if the function does not return a tensor of shape (N,).
        """

        def checked(y: Tensor) -> Tensor:
            value = self.function(y.clone())  # the function may write to it
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
    """The relevance ``R`` of the explained output ``y``, at which the relevance pass starts.

    With ``e`` one at the target and zero elsewhere:

    - ``logit``: ``R = e ⊙ y``.
    - ``one_hot``: ``R = e``.
    - ``against_rest``: ``R = y ⊙ (e − p)`` with the softmax ``p`` over the other classes, see
      :func:`contrast_with_rest`.
    - ``softmax``: ``R = softmax(y)`` over dimension 1, without a target; the unsupervised mode of
      the blog post of 2021.
    - a callable ``f``: ``R = f(y)``, of the shape of ``y``, (N, …). It gets a copy of ``y``.

    Args:
        start: the mode, or the callable.

    Raises:
        OptionError: if ``start`` is neither a mode nor a callable.
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
        return self.start in ("logit", "one_hot", "against_rest")

    def propagate(
        self, output: Tensor, target: Target | JointTarget | SelectorTarget | LargestTarget | Places
    ) -> Tensor:
        """The relevance of ``output``, (N, …), of its shape.

        Raises:
            TargetError: if the target does not fit the output, or if the mode takes no target.
            InputError: if the output has too few dimensions, or if a callable does not return a
                tensor of the output's shape.
        """
        if output.dim() == 0:
            raise InputError(
                "the model's output is one number for the whole batch, not one per sample"
            )
        if callable(self.start):
            if target is not None:
                raise TargetError("a callable start decides the relevance itself: pass no target")
            relevance = self.start(output.clone())  # the function may write to it
            if not isinstance(relevance, Tensor) or relevance.shape != output.shape:
                raise InputError(
                    f"the callable start must return relevance of the output's shape "
                    f"{tuple(output.shape)}, got {getattr(relevance, 'shape', type(relevance))}"
                )
            # a copy, because the tensor may belong to the caller and could become the final result
            return relevance.to(output.dtype, copy=True)
        if self.start == "softmax":
            if target is not None:
                raise TargetError("start='softmax' explains all classes at once: pass no target")
            if output.dim() < 2:
                raise InputError("start='softmax' needs an output of (N, classes, ...)")
            return output.softmax(1)
        if isinstance(target, SelectorTarget):
            if self.start == "against_rest":
                raise TargetError(
                    "start='against_rest' needs a class as target, and a selector is none"
                )
            return target.relevance(output, self.start == "logit")
        if isinstance(target, LargestTarget):
            target = target.places(output)
        return self.at_target(output, target)

    def at_target(self, output: Tensor, target: Target | JointTarget | Places) -> Tensor:
        """``e ⊙ y``, ``e`` or ``y ⊙ (e − p)`` by the mode; of the shape of ``output``."""
        if not isinstance(target, Places):
            target = places_on(output.device, target, output.shape)
        start = self._at(target.flat, output)
        if target.known is None:
            return start
        # NaN is found when the result is read, and the target is blamed then
        missing = ~target.known.reshape(-1, *[1] * (output.dim() - 1))
        return start.masked_fill(missing, torch.nan)

    def _at(self, places: Tensor, output: Tensor) -> Tensor:
        flat = output.reshape(output.shape[0], -1)
        if self.start == "against_rest":
            chosen = torch.zeros_like(flat, dtype=torch.bool).scatter(1, places, True)
            return _against_rest(output, chosen.reshape(output.shape))
        values = flat.gather(1, places) if self.start == "logit" else flat.new_ones(places.shape)
        return torch.zeros_like(flat).scatter(1, places, values).reshape(output.shape)


class TensorStart(StartRelevance):
    """The relevance of :class:`StartRelevance` for a target that is a graph input.

    Compiled and exported programs use it: the values of the target are not known while the program
    is made, so they cannot be checked. A negative index counts from the end. If an index is out of
    range, ``e`` is zero.
    """

    def at_target(self, output: Tensor, target: Target | JointTarget | Places) -> Tensor:
        """As :class:`StartRelevance` does; ``target`` has shape (N,) or (N, K)."""
        assert isinstance(target, Tensor)
        sizes = indexed_sizes(output.shape)
        indices = target.reshape(-1, len(sizes))
        chosen = output.new_ones(output.shape, dtype=torch.bool)
        for dim, size in enumerate(sizes):
            index = indices[:, dim : dim + 1]
            index = torch.where(index < 0, index + size, index)
            here = torch.arange(size, device=output.device) == index
            around = output.dim() - 2 - dim  # the dimensions after this one
            chosen = chosen & here.reshape(-1, *[1] * dim, size, *[1] * around)
        if self.start == "against_rest":
            return _against_rest(output, chosen)
        values = output if self.start == "logit" else torch.ones_like(output)
        return values.masked_fill(~chosen, 0)
