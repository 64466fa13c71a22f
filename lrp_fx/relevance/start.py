"""Where the propagation starts: the target's place in the output, and the relevance put there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lrp_fx.errors import InputError, OptionError, TargetError
from lrp_fx.relevance.engines import vjp
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.target import Places, Target, Together, indexed_sizes, target_places

StartMode = Literal["logit", "one_hot", "softmax"]
Start = StartMode | Callable[[Tensor], Tensor]

MODES: tuple[StartMode, ...] = ("logit", "one_hot", "softmax")


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
