"""Rules whose two groups are mirror images, such as the generalized γ rule, at a lower price.

Each part of a weight is a combination of ``W`` and ``|W|``: ``p W⁺ + n W⁻ = m W + d |W|`` with
``m = (p + n)/2`` and ``d = (p − n)/2``. So is each part of an input. If in the table of a rule the
products ``W |x|`` and ``|W| x`` cancel, two terms are left of its denominators. Let ``z = Wx + b``
and ``A = |W||x| + |b|``. If the two groups favour opposite signs, for outputs of these signs, then

    z > 0: d = a z + g A,        z < 0: d = a z − g A,        with a, g ≥ 0.

Both have the sign ``σ`` of ``z``, and ``|d| = a|z| + g A`` is a sum without cancellation. The formula
of the module :mod:`lrp_fx.relevance.linear.formula` becomes

    R_in = a x ⊙ Wᵀ q + g |x| ⊙ |W|ᵀ (σ ⊙ q)    with    q = σ ⊙ R / (|d| + ε).

For γ, ``a = 1 + γ/2`` and ``g = γ/2``. Besides the output of the operation this takes one call of
the operation and two of its adjoint, for inputs of either sign. The groups one by one take four of
each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lrp_fx.relevance.causes import Taken, by_denominator, together
from lrp_fx.relevance.engines import Engine
from lrp_fx.relevance.handling import BiasPolicy
from lrp_fx.relevance.linear.branches import Operands
from lrp_fx.relevance.linear.formula import Formula
from lrp_fx.rules import FULL, Group, LinearRule, Part, may_write


@dataclass(frozen=True)
class Mirror:
    """The factors of a table whose two groups are mirror images.

    Args:
        own: the factor ``a`` of ``W``.
        size: the factor ``g`` of ``|W|``.
        coefficient: the factor ``c`` of both groups.
    """

    own: float
    size: float
    coefficient: float

    @property
    def magnitude(self) -> Part:
        """The part ``g |v|`` of a tensor ``v``."""
        return Part(self.size, -self.size)


def mirror_of(rule: LinearRule) -> Mirror | None:
    """The factors of a rule whose denominators are ``a z ± g A``; None for other rules."""
    table = rule.table()
    if not rule.stabilizer.signed or [group.mask for group in table] != ["positive", "negative"]:
        return None
    up, down = table
    factors = _factors(up)
    if factors is None or up.coefficient != down.coefficient:
        return None
    own, size = factors
    if _factors(down) != (own, -size) or own < 0 or size <= 0:
        return None
    return Mirror(own, size, up.coefficient)


def _factors(group: Group) -> tuple[float, float] | None:
    """``(a, g)`` if the sum of the branches is ``a (Wx + b) + g (|W||x| + |b|)``; else None."""
    own = size = crossed = mixed = own_bias = size_bias = 0.0
    for branch in group.branches:
        powers = {branch.input.power, branch.weight.power, branch.bias.power}
        if branch.source != "input" or powers != {1}:
            return None
        (m_x, d_x), (m_w, d_w), (m_b, d_b) = map(
            _halves, (branch.input, branch.weight, branch.bias)
        )
        own, size = own + branch.sign * m_x * m_w, size + branch.sign * d_x * d_w
        crossed, mixed = crossed + branch.sign * m_x * d_w, mixed + branch.sign * d_x * m_w
        own_bias, size_bias = own_bias + branch.sign * m_b, size_bias + branch.sign * d_b
    fits = crossed == mixed == 0 and own_bias == own and size_bias == size
    return (own, size) if fits else None


def _halves(part: Part) -> tuple[float, float]:
    """``(m, d)`` with ``p v⁺ + n v⁻ = m v + d |v|``."""
    return (part.positive + part.negative) / 2, (part.positive - part.negative) / 2


@dataclass(frozen=True)
class MirroredFormula(Formula):
    """The formula of a rule whose two groups are mirror images.

    Its only denominator is ``|d| + ε``, beside which stands the sign of the output. Its quotients
    are ``q`` and ``σ ⊙ q``. Where the output is zero, no group receives relevance.
    """

    mirror: Mirror = field(init=False, repr=False)
    """The factors of the rule."""

    def __post_init__(self) -> None:
        super().__post_init__()
        mirror = mirror_of(self.rule)
        assert mirror is not None and self.bias != "ignore", self
        object.__setattr__(self, "mirror", mirror)
        others = [part for part in self.parts if part.power == 0]
        object.__setattr__(self, "parts", (FULL, mirror.magnitude, *others))

    @property
    def reads_mask(self) -> bool:
        """The sign of the output stands beside the denominator."""
        return False

    @property
    def divides_by_output(self) -> bool:
        """The output is a part of the denominator."""
        return True

    @property
    def computes_denominators(self) -> bool:
        """The other part, ``A``, has to be computed."""
        return True

    def denominators(self, operands: Operands) -> tuple[Tensor, ...]:
        """``|d| + ε = a|z| + g A + ε`` and the sign ``σ`` of ``z``, of the output's shape."""
        z = operands.output
        assert z is not None
        w, x = operands.weights[self.mirror.magnitude], self._size_of_input(operands)
        b = None if operands.bias is None else self.mirror.magnitude.of(operands.bias)
        b = self._shifted(b, self.rule.stabilizer.shift(x.dtype), w, operands)
        size, sign = self.kernel(x, w, b, **operands.options), z.sgn()
        if may_write() and size.dtype == z.dtype:
            return size.addcmul_(z, sign, value=self.mirror.own), sign
        return torch.addcmul(size, z, sign, value=self.mirror.own), sign

    def quotients(
        self,
        relevance: Tensor,
        denominators: Sequence[Tensor],
        output: Tensor | None = None,
        *,
        overwrite: bool = False,
    ) -> tuple[Tensor, ...]:
        """``q = σ ⊙ R / (|d| + ε)`` and ``σ ⊙ q``, of the output's shape."""
        denominator, sign = denominators
        writes = overwrite and may_write() and relevance.dtype == sign.dtype
        signed = relevance.mul_(sign) if writes else relevance * sign
        if self.mirror.coefficient != 1:
            signed = signed * self.mirror.coefficient
        q = self.rule.stabilizer.divided(signed, denominator, overwrite=may_write())
        return q, q * sign

    def share(self, quotients: Sequence[Tensor], operands: Operands) -> Tensor:
        """``R_in = a x ⊙ Wᵀ q + g |x| ⊙ |W|ᵀ (σ ⊙ q)``, of the shape of the input.

        With the bias policy ``distribute`` the share of the bias is added to it.
        """
        x = operands.source("input")
        own, size = (
            self._pull(q, x, operands.weights[part], operands.options)
            for q, part in zip(quotients, (FULL, self.mirror.magnitude), strict=True)
        )
        writes = self.engine == "direct" and may_write() and x.dtype == own.dtype == size.dtype
        if self.nonnegative:
            both = torch.add(size, own, alpha=self.mirror.own, out=size if writes else None)
            total = both.mul_(x) if writes else both * x
        elif writes:
            total = size.mul_(x.abs()).addcmul_(own, x, value=self.mirror.own)
        else:
            total = torch.addcmul(size * x.abs(), own, x, value=self.mirror.own)
        for q, offset in zip(quotients, self._offsets(operands), strict=True):
            if self.bias == "distribute" and offset is not None:
                total = total + self._distributed(q, offset, operands)
        return total

    def taken_by_quotient(
        self, relevance: Tensor, denominators: Sequence[Tensor], output: Tensor | None = None
    ) -> Taken:
        """The share of the stabilizer, and the relevance of outputs that are zero."""
        denominator, sign = denominators
        counted = (relevance * self.mirror.coefficient).masked_fill(sign == 0, 0)
        return together(
            by_denominator(self.rule.stabilizer, counted, denominator),
            {"dead": (relevance - counted).sum()},
        )

    def _offsets(self, operands: Operands) -> list[Tensor | None]:
        """``a b`` and ``g |b|``, which belong to the two quotients."""
        b = operands.bias
        return [None, None] if b is None else [b * self.mirror.own, self.mirror.magnitude.of(b)]

    def _size_of_input(self, operands: Operands) -> Tensor:
        x = operands.source("input")
        return x if self.nonnegative else x.abs()


def cheapest_formula(
    rule: LinearRule, bias: BiasPolicy, engine: Engine, *, one_sided: bool
) -> type[Formula]:
    """The class that computes the formula of a rule with the fewest calls of the operation.

    The gradient-based engine keeps the groups as they are written, and so checks the other form.

    Args:
        rule: the rule.
        bias: the bias policy.
        engine: the engine that computes adjoints.
        one_sided: whether the input has no negative entries, and relevance arrives only where the
            output is positive. Then one group with one branch is left, which is cheaper still.
    """
    mirrored = engine == "direct" and bias != "ignore" and mirror_of(rule) is not None
    return MirroredFormula if mirrored and not one_sided else Formula
