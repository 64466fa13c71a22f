"""Public functions to register operations that the library does not know.

    from lrp_fx import operations

    operations.register(*operations.passing("special_bessel_j0", "special_airy_ai"))

An :class:`Operation` describes how relevance goes back through one ATen operation: its name, its
operands, its default rule, and a function that writes its relevance nodes. ``docs/guide.md``,
section "Operations of your own", has an example.
"""

from __future__ import annotations

import torch

from lrp_fx.errors import OptionError
from lrp_fx.graph import aten
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
    register as _register,
    registry,
)

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
    """Register operations for all models in this process.

    Args:
        operations: the descriptions to register.

    Raises:
        OptionError: if an argument is not an :class:`Operation`, or if the library already has a
            description of that operation.
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
    """Describe element-wise functions through which relevance passes unchanged: ``R_in = R``.

    Args:
        names: the ATen names of the operations. The operand must be the first argument.

    Returns:
        One description for each name, to be passed to :func:`register`.

    Raises:
        OptionError: if torch has no operation of a name.
    """
    for name in names:
        _check_name(name)
    return tuple(described_as_passing(name, "function") for name in names)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise OptionError(f"the name of an operation is a string, got {name!r}")
    spaces = [space for space in vars(torch.ops).values() if isinstance(space, type(aten))]
    if not any(hasattr(space, name) for space in spaces):
        raise OptionError(f"torch has no operation '{name}': take the name that the error shows")


def known() -> tuple[str, ...]:
    """The sorted names of all operations that the library can propagate relevance through."""
    return tuple(sorted(registry()))
