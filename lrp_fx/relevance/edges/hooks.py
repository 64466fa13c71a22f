"""Relevance hooks: functions of the user that see, and may change, the relevance at an edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, fx

from lrp_fx.errors import InputError
from lrp_fx.relevance.node import EdgeRelevance


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
