"""The causes for which a relevance node keeps relevance: the entries of the ledger.

For each relevance node, ``ΣR = ΣR_in + Σ taken``: the relevance ``R`` of the output equals the
relevance ``R_in`` of the inputs plus what the node keeps. The causes:

- ``bias``: the share of a bias, of the β of a norm, or of the shift of an affine map.
- ``constant``: the share of an operand that does not depend on the inputs, or of a constant initial
  state; the relevance of entries that a mask or a zero factor removed from the forward pass; the
  relevance of what a rule treats as a constant (attention weights in CP-LRP).
- ``stabilizer``: ``R (1 − z / S(z))``.
- ``filter``: what relevance filters, masks and hooks removed.
- ``linearization``: the remainder of a first-order expansion (the softmax in AttnLRP).
- ``empty_branch``: the relevance of units without any contribution of the sign that the rule counts
  (z⁺, αβ).
- ``dead``: the relevance of units whose denominator is exactly zero, and of units that belong to no
  group of the rule.
- ``padding``: the relevance of padded entries, which belong to no input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor

from lrp_fx.rules import Stabilizer

Cause = Literal[
    "bias", "constant", "stabilizer", "filter", "linearization", "empty_branch", "dead", "padding"
]
CAUSES: tuple[Cause, ...] = get_args(Cause)

Taken = dict[Cause, Tensor]
"""The relevance that a node keeps, by cause; each value is the sum over all entries, a 0-d tensor."""


def by_stabilizer(stabilizer: Stabilizer, relevance: Tensor, z: Tensor) -> Taken:
    """The relevance that ``z R / S(z)`` lacks to ``R``; ``relevance`` and ``z`` have one shape."""
    z = z if z.is_floating_point() else z.to(relevance.dtype)
    return by_denominator(stabilizer, relevance, stabilizer.apply(z))


def by_denominator(stabilizer: Stabilizer, relevance: Tensor, denominator: Tensor) -> Taken:
    """As :func:`by_stabilizer`, given ``S(z)`` as the denominator."""
    quotient = stabilizer.divided(relevance, denominator)
    return {
        "stabilizer": (quotient * stabilizer.added_to(denominator)).sum(),
        "dead": relevance.masked_fill(denominator != 0, 0).sum(),
    }


def of_constants(shares: Iterable[Tensor]) -> Taken:
    """The sum of what operands get that are constants; nothing if there are none."""
    sums = [share.sum() for share in shares]
    return {"constant": torch.stack(sums).sum()} if sums else {}


def together(*parts: Taken) -> Taken:
    """The sum of several amounts, cause by cause."""
    total: Taken = {}
    for part in parts:
        for cause, amount in part.items():
            total[cause] = total[cause] + amount if cause in total else amount
    return total
