"""Masks: values that are true or false at each position, of any dtype."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from lrp_fx.canonize.numbers import unwound
from lrp_fx.graph import CASTS, arguments, is_call, literal, name_of, row_of, shapes_of
from lrp_fx.meaning import TRUTHS


def is_mask(value: Any, *, given: bool = False) -> bool:
    """Whether a value is known to hold only zeros and ones, or true and false.

    Args:
        value: a node, or anything else that an operation reads.
        given: count integers that the model gets as an input, such as ``attention_mask``.
    """
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, fx.Node):
            return False
        known = shapes_of(value.graph.owning_module)(value)
        if row_of(value).says == "masks" or (known is not None and known.dtype == torch.bool):
            continue
        if value.meta.get(TRUTHS):
            continue
        if is_call(value, "tril", "triu"):
            if literal(value.args[0]) != 1:
                return False
            continue
        if is_call(value, "where"):  # of numbers
            b = arguments(value)
            waiting += [b[n] for n in ("self", "other") if literal(b[n]) not in (0, 1)]
            continue
        scale, shift, inner = unwound(value)
        if (scale, shift) == (-1, 1):
            waiting.append(inner)
        elif given and value.op == "placeholder" and known is not None:
            if known.is_floating_point() or known.is_complex():
                return False
        elif name_of(value) in CASTS or row_of(value).arranges:
            read = value.args[0]
            waiting += read if isinstance(read, (list, tuple)) else [read]
        else:
            return False
    return True
