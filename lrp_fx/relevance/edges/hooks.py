"""Relevance hooks: functions of the user that read, and may change, the relevance at a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, fx

from lrp_fx.errors import InputError, name_of_function
from lrp_fx.relevance.node import EdgeRelevance


class Hooked(Protocol):
    """The second argument of a hook: the step of the plan whose node the relevance enters."""

    @property
    def node(self) -> fx.Node:
        """The node of the model's graph whose relevance the hook gets."""


class HookRelevance(EdgeRelevance):
    """``R_in = f(R)``: a function of the user as a node of the LRP graph.

    The function gets a copy of the relevance. So if it writes to it and returns None, nothing changes.

    Args:
        function: called with a copy of the relevance and ``step``.
        step: the step of the plan at which the hook is registered.
    """

    kind = "hook"

    def __init__(self, function: Callable[[Tensor, Any], Tensor | None], step: Hooked) -> None:
        super().__init__()
        self.function, self.step = function, step

    def extra_repr(self) -> str:
        """The name of the function."""
        return name_of_function(self.function)

    def propagate(self, relevance: Tensor) -> Tensor:
        """The relevance that the function returns, or the relevance itself if it returns None.

        Raises:
            InputError: if the function returns anything but None or a tensor of the relevance's
                shape.
        """
        changed = self.function(relevance.clone(), self.step)  # the function may write to it
        if changed is None:
            return relevance
        if not isinstance(changed, Tensor) or changed.shape != relevance.shape:
            got = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise InputError(
                f"the relevance hook {self.extra_repr()} at '{self.step.node.name}' must return None or "
                f"a tensor of the relevance's shape {tuple(relevance.shape)}, got {got}"
            )
        return changed.to(relevance)
