"""The user's relevance hooks: a function, and the nodes that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lrp_fx.composites import Matcher
    from lrp_fx.plan.plan import Step


HookFunction = Callable[[Tensor, "Step"], Tensor | None]
"""Gets the relevance that enters a node and the node's line of the plan; returns what goes on, of the
same shape, or None for no change."""


@dataclass(frozen=True)
class Hook:
    """A function and the nodes that it is for."""

    matcher: Matcher
    function: HookFunction
