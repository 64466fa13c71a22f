"""Masks: values that are true or false at each position, of any dtype."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from lrp_fx.canonize.constants import TRUTHS
from lrp_fx.canonize.numbers import unwound
from lrp_fx.graph import CASTS, arguments, is_call, literal, name_of, operand, row_of, shapes_of


def is_mask(value: Any, *, given: bool = False) -> bool:
    """Whether a value is known to hold only zeros and ones, or true and false.

    Args:
        value: a node, or anything else that an operation reads.
        given: count integers that the model gets as an input, such as ``attention_mask``.
    """
    while isinstance(value, fx.Node):
        known = shapes_of(value.graph.owning_module)(value)
        if row_of(value).says == "masks" or (known is not None and known.dtype == torch.bool):
            return True
        if is_call(value, "tril", "triu"):
            return literal(value.args[0]) == 1
        if value.meta.get(TRUTHS):
            return True
        if is_call(value, "where"):  # of numbers
            b = arguments(value)
            return all(literal(b[n]) in (0, 1) or is_mask(b[n]) for n in ("self", "other"))
        scale, shift, inner = unwound(value)
        if (scale, shift) == (-1, 1):
            value = inner
            continue
        if given and value.op == "placeholder" and known is not None:
            return not (known.is_floating_point() or known.is_complex())
        if not (name_of(value) in CASTS or row_of(value).arranges):
            return False
        value = operand(value)
    return False
