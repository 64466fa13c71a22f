"""The treatment of operations without a description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import fx

from lrp_fx.errors import OptionError, blamed, name_of_function
from lrp_fx.graph import name_of, where
from lrp_fx.relevance import UNKNOWN
from lrp_fx.rules import Rule

UnknownPolicy = Literal["error", "vjp"]


Unknown = UnknownPolicy | Callable[[str], Rule | None]
"""What to do at operations without a description.

"error" raises an error, "vjp" divides relevance by the operands' contributions. A function gets
ATen's name of the operation and returns a rule, or None for an error.
"""


UNKNOWN_POLICIES: tuple[UnknownPolicy, ...] = ("error", "vjp")


ASKED = "unknown="
"""The ``chosen_by`` of a rule that a function of the user returned."""


def asked_for(node: fx.Node, unknown: Callable[[str], Rule | None]) -> tuple[Rule, str] | None:
    """The rule that a function of the user returns for an operation without a description."""
    with blamed(
        f"the function unknown={name_of_function(unknown)}, for '{name_of(node)}' {where(node)},"
    ):
        rule = unknown(name_of(node))
    if rule is None:
        return None
    if not UNKNOWN.accepts(rule):
        kinds = " or ".join(kind.__name__ for kind in UNKNOWN.alternatives)
        raise OptionError(
            f"unknown= must return {kinds} or None for '{name_of(node)}' {where(node)}, got {rule!r}"
        )
    return rule, ASKED
