"""Relevance hooks: functions of the user that see, and may change, the relevance at an edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, fx

from lrp_fx.errors import InputError
from lrp_fx.relevance import EdgeRelevance

if TYPE_CHECKING:
    from lrp_fx.composites import Matcher
    from lrp_fx.plan import Step

Channels = Sequence[int]
HookFunction = Callable[[Tensor, "Step"], Tensor | None]
"""Gets the relevance that enters a node and the node's line of the plan; returns what goes on, of the
same shape, or None for no change."""


@dataclass(frozen=True)
class Hook:
    """A function and the nodes that it is for."""

    matcher: Matcher
    function: HookFunction


class Hooked(Protocol):
    """What a hook is told of: a line of the plan, with the node that relevance enters."""

    @property
    def node(self) -> fx.Node:
        """The node."""


class HookRelevance(EdgeRelevance):
    """A function of the user as a node of the LRP graph.

    Args:
        function: gets the relevance and ``step``.
        step: the line of the plan.
    """

    kind = "hook"

    def __init__(self, function: Callable[[Tensor, Any], Tensor | None], step: Hooked) -> None:
        super().__init__()
        self.function, self.step = function, step

    def extra_repr(self) -> str:
        """The function."""
        return getattr(self.function, "__qualname__", repr(self.function))

    def propagate(self, relevance: Tensor) -> Tensor:
        """What the function returns, or the relevance itself.

        Raises:
            InputError: if the function returns anything but a tensor of the relevance's shape.
        """
        changed = self.function(relevance, self.step)
        if changed is None:
            return relevance
        if not isinstance(changed, Tensor) or changed.shape != relevance.shape:
            got = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise InputError(
                f"the relevance hook {self.extra_repr()} at '{self.step.node.name}' must return None or "
                f"a tensor of the relevance's shape {tuple(relevance.shape)}, got {got}"
            )
        return changed.to(relevance)


class MaskRelevance(EdgeRelevance):
    """Only the relevance of some channels goes on; of all, where a run names none.

    Args:
        layer: the layer whose channels they are, for messages.
        dim: the dimension of the channels.
    """

    kind = "mask"

    def __init__(self, layer: str, dim: int) -> None:
        super().__init__()
        self.layer, self.dim = layer, dim

    def extra_repr(self) -> str:
        """The layer."""
        return self.layer

    def propagate(self, relevance: Tensor, channels: Channels | None) -> Tensor:
        """The relevance with the other channels set to zero, of the same shape.

        Raises:
            InputError: for a channel that the layer does not have.
        """
        if channels is None:
            return relevance
        dim = check_dim(self.layer, relevance, self.dim)
        count = relevance.shape[dim]
        wrong = [channel for channel in channels if not -count <= channel < count]
        if wrong:
            raise InputError(f"the layer '{self.layer}' has {count} channels, and no {wrong[0]}")
        places = torch.tensor([c % count for c in channels], device=relevance.device)
        places = places.long().unique()  # type: ignore[no-untyped-call]
        kept = relevance.index_select(dim, places)
        return torch.zeros_like(relevance).index_copy(dim, places, kept)


class BypassRelevance(EdgeRelevance):
    """Relevance that goes round a masked layer: none goes on where a run names channels there."""

    kind = "mask"

    def propagate(self, relevance: Tensor, channels: Channels | None) -> Tensor:
        """The relevance, or zeros of its shape."""
        return relevance if channels is None else torch.zeros_like(relevance)


def check_dim(layer: str, relevance: Tensor, dim: int) -> int:
    """The dimension of the channels, from the front.

    Raises:
        InputError: if the layer's values have no such dimension.
    """
    if not -relevance.dim() <= dim < relevance.dim() or dim % relevance.dim() == 0:
        raise InputError(
            f"channel_dim={dim} is no dimension of channels of the layer '{layer}', whose values have "
            f"shape {tuple(relevance.shape)} with the batch in front"
        )
    return dim % relevance.dim()
