"""The door to operations: describe one that the library does not know.

    from lrp_fx import operations

    operations.register(operations.passing("erfc", "sinc"))   # functions of single entries

A description is an :class:`Operation`: the name, the operands, the default rule, and a function that
writes its relevance nodes. ``docs/guide.md``, "Operations of your own", has an example.
"""

from __future__ import annotations

from lrp_fx.errors import OptionError
from lrp_fx.relevance import (
    Facts,
    Operation,
    Received,
    RelevanceNode,
    Site,
    always,
    argument,
    by_operand,
    described_as_passing,
    first,
    registry,
)
from lrp_fx.relevance import register as _register

__all__ = [
    "Facts",
    "Operation",
    "Received",
    "RelevanceNode",
    "Site",
    "always",
    "argument",
    "by_operand",
    "first",
    "known",
    "passing",
    "register",
]


def register(*operations: Operation) -> None:
    """Make operations known, for all models of the process.

    Args:
        operations: their descriptions.

    Raises:
        OptionError: for anything but a description, or an operation that is described already.
    """
    for operation in operations:
        if not isinstance(operation, Operation):
            raise OptionError(f"register() takes descriptions of operations, got {operation!r}")
        if operation.name in registry():
            raise OptionError(
                f"'{operation.name}' is described already; a composite gives it another rule"
            )
        _register([operation])


def passing(*names: str) -> tuple[Operation, ...]:
    """``R_in = R``: functions of single entries, through which relevance passes unchanged.

    Args:
        names: ATen's names of the operations, each with one operand in front.
    """
    return tuple(described_as_passing(name, "function") for name in names)


def known() -> tuple[str, ...]:
    """The names of all operations that are described."""
    return tuple(sorted(registry()))
