"""Relevance hooks of the user: a function, and the nodes that it applies to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lrp_fx.composites import Matcher
    from lrp_fx.plan.plan import Step


HookFunction = Callable[[Tensor, "Step"], Tensor | None]
"""The type of a hook.

It gets the relevance that enters a node, and the node's step of the plan. It returns the relevance
that goes on, of the same shape, or None to change nothing.
"""


@dataclass(frozen=True)
class Hook:
    """A function and a matcher of the nodes that it applies to."""

    matcher: Matcher
    function: HookFunction
