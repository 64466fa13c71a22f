"""Relevance hooks: functions of the user that see, and may change, the relevance at an edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from lrp_fx.errors import InputError
from lrp_fx.relevance import RelevanceNode

if TYPE_CHECKING:
    from lrp_fx.composites import Matcher
    from lrp_fx.plan import Step

HookFunction = Callable[[Tensor, "Step"], Tensor | None]
"""Gets the relevance that enters a node and the node's line of the plan; returns what goes on, of the
same shape, or None for no change."""


@dataclass(frozen=True)
class Hook:
    """A function and the nodes that it is for."""

    matcher: Matcher
    function: HookFunction


class HookRelevance(RelevanceNode):
    """A hook as a node of the LRP graph."""

    def __init__(self, hook: Hook, step: Step) -> None:
        super().__init__()
        self.hook, self.step = hook, step

    def extra_repr(self) -> str:
        """The function."""
        return getattr(self.hook.function, "__qualname__", repr(self.hook.function))

    def propagate(self, relevance: Tensor) -> Tensor:
        """What the function returns, or the relevance itself.

        Raises:
            InputError: if the function returns anything but a tensor of the relevance's shape.
        """
        changed = self.hook.function(relevance, self.step)
        if changed is None:
            return relevance
        if not isinstance(changed, Tensor) or changed.shape != relevance.shape:
            got = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise InputError(
                f"the relevance hook {self.extra_repr()} at '{self.step.node.name}' must return None or "
                f"a tensor of the relevance's shape {tuple(relevance.shape)}, got {got}"
            )
        return changed.to(relevance)
