"""The base class of all rules."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor

from lrp_fx._common import make_plain
from lrp_fx.errors import OptionError
from lrp_fx.rules.stabilizer import Stabilizer

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """Base class of all rules.

    ``str(rule)`` omits a stabilizer that is the default, and the values of tensors.

    Raises:
        OptionError: if a field has an invalid value.
    """

    for_nonnegative: ClassVar[bool] = False
    """Whether the rule is meant only for inputs without negative entries."""

    def __post_init__(self) -> None:
        make_plain(self)
        for each in fields(self):
            value = getattr(self, each.name)
            missing = value is None and each.default is None
            if each.name == "stabilizer" and not missing and not isinstance(value, Stabilizer):
                raise OptionError(f"the stabilizer of a rule must be a Stabilizer, got {value!r}")

    def __str__(self) -> str:
        shown = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "stabilizer" and value == each.default:
                continue
            if isinstance(value, Tensor):  # its values would fill several lines
                value = f"tensor{tuple(value.shape)}"
            shown.append(f"{each.name}={value}")
        return f"{type(self).__name__}({', '.join(shown)})"
