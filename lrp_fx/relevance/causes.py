"""What a relevance node keeps of the relevance that comes in, by cause: the entries of the ledger.

For every relevance node, ``Σ R_in = Σ R_out + Σ taken``. The causes:

- ``bias``: the share of a bias, of the β of a norm, of the shift of an affine map.
- ``constant``: the share of an operand that does not depend on the inputs, of an initial state; the
  relevance of entries that a mask or a zero factor took from the forward pass, and of what a rule
  treats as constant (the attention weights in CP-LRP).
- ``stabilizer``: ``R (1 − z / S(z))``.
- ``filter``: what relevance filters and hooks took away.
- ``linearization``: the remainder of an operation's first-order expansion (AttnLRP's softmax).
- ``empty_branch``: where a rule of one sign (z⁺, α-β) finds no contribution of that sign.
- ``dead``: where a denominator is exactly zero, and the quotient counts as zero.
- ``padding``: the relevance of padded entries that are no input.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from lrp_fx.stabilizer import Stabilizer

Cause = Literal[
    "bias",
    "constant",
    "stabilizer",
    "filter",
    "linearization",
    "empty_branch",
    "dead",
    "padding",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)

Taken = dict[Cause, Tensor]
"""Sums over all entries, one number each."""


def by_stabilizer(stabilizer: Stabilizer, relevance: Tensor, z: Tensor) -> Taken:
    """What ``z · R / S(z)`` is short of ``R``, of one shape with ``z``."""
    z = z if z.is_floating_point() else z.to(relevance.dtype)
    return by_denominator(stabilizer, relevance, stabilizer.apply(z))


def by_denominator(stabilizer: Stabilizer, relevance: Tensor, denominator: Tensor) -> Taken:
    """The same from ``S(z)``."""
    quotient = stabilizer.divided(relevance, denominator)
    return {
        "stabilizer": (quotient * stabilizer.added_to(denominator)).sum(),
        "dead": relevance.masked_fill(denominator != 0, 0).sum(),
    }


def together(*parts: Taken) -> Taken:
    """The sum of several."""
    total: Taken = {}
    for part in parts:
        for cause, amount in part.items():
            total[cause] = total[cause] + amount if cause in total else amount
    return total
