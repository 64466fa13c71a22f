"""The formula of all rules for linear operations, computed in three steps.

A rule is a table of groups and branches (see ``lrp_fx.rules``). The formula calls the operation
with the parts of input, weight and bias that the table names, and the adjoint of the operation:

1. the denominator of each group, ``d_g = S(Σ_k s_k z_k)`` with ``z_k = W_k x_k + b_k``, which
   depends on forward values only.
2. the quotient of each group, ``q_g = c_g · m_g ⊙ R / d_g``.
3. the share of the input, ``R_in = Σ_g Σ_k s_k x_k ⊙ W_kᵀ q_g``.

These are the four steps of the blog post of 2021 (forward, divide, backward, multiply), with the
last two in one. Each step is a node of the LRP graph. So the denominators are computed once for
several targets, and each value is freed as soon as the next step has read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from lrp_fx.graph import Packet, product
from lrp_fx.relevance.causes import Taken, by_denominator, together
from lrp_fx.relevance.engines import Engine, pull
from lrp_fx.relevance.handling import BiasPolicy
from lrp_fx.relevance.linear.adjoints import ADJOINTS
from lrp_fx.relevance.linear.branches import Operands, added, masked_by, simplified
from lrp_fx.rules import ONES, Branch, Group, LinearRule, Part, Table, may_write


@dataclass(frozen=True)
class Term:
    """``x ⊙ Wᵀ (f ⊙ R)``, a summand of the relevance of the input as a linear map of that of the output.

    Args:
        factor: ``f``, of the output's shape. Terms of one group share it.
        weight: ``W``.
        input: ``x``, of the input's shape; None for ones.
    """

    factor: Tensor
    weight: Tensor
    input: Tensor | None


@dataclass(frozen=True)
class Formula:
    """The formula of a rule for one linear operation.

    Args:
        name: the ATen name of the operation, or ``product``.
        rule: the rule.
        bias: the bias policy.
        engine: the engine that computes adjoints.
        nonnegative: whether the input is known to have no negative entries.
        nonnegative_output: whether the output that is passed in is known to have none.
        positive: whether relevance arrives only where the operation's own output is positive.
        kernel: the operation, a function of input, weight, bias and options.
        adjoint: the adjoint, a function of cotangent, input, weight and options.
    """

    name: str
    rule: LinearRule
    bias: BiasPolicy
    engine: Engine
    nonnegative: bool
    nonnegative_output: bool
    positive: bool
    kernel: Callable[..., Tensor]
    adjoint: Callable[..., Tensor]
    table: Table = field(init=False, repr=False)
    """The rule's table without the branches that vanish here."""
    parts: tuple[Part, ...] = field(init=False, repr=False)
    """The parts of the weight that the formula reads. They define the modified weights."""

    def __post_init__(self) -> None:
        table = simplified(self.rule.table(), nonnegative=self.nonnegative, positive=self.positive)
        found = [branch.weight for group in table for branch in group.branches]
        if self.bias == "distribute":
            found.append(ONES)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "parts", tuple(dict.fromkeys(found)))

    @classmethod
    def of(
        cls,
        packet: Packet,
        rule: LinearRule,
        *,
        nonnegative: bool,
        nonnegative_output: bool = False,
        positive: bool = False,
        bias: BiasPolicy,
        engine: Engine,
    ) -> Self:
        """The formula with torch's own kernels and adjoints."""
        name = str(packet.__name__)
        kernel = product if name == "product" else packet
        signs = (nonnegative, nonnegative_output, positive)
        return cls(name, rule, bias, engine, *signs, kernel, ADJOINTS[name])

    def __str__(self) -> str:
        return f"{self.name}, {self.rule}, bias={self.bias!r}"

    @property
    def reads_mask(self) -> bool:
        """Whether a group is restricted to outputs of one sign."""
        return any(group.mask != "all" for group in self.table)

    @property
    def divides_by_output(self) -> bool:
        """Whether at least one denominator is the stabilized output of the operation itself."""
        return any(map(self.is_own_output, self.table))

    @property
    def computes_denominators(self) -> bool:
        """Whether at least one denominator has to be computed."""
        return not all(map(self.is_own_output, self.table))

    def is_own_output(self, group: Group) -> bool:
        """Whether the denominator of a group is the stabilized output of the operation itself."""
        return len(group.branches) == 1 and group.branches[0].is_forward and self.bias != "ignore"

    def weights(self, weight: Tensor) -> list[Tensor]:
        """The modified weights, in the order of :attr:`parts`."""
        return [part.of(weight) for part in self.parts]

    def operands(
        self,
        input: Tensor | None = None,
        output: Tensor | None = None,
        weights: Sequence[Tensor] = (),
        bias: Tensor | None = None,
        low: Tensor | None = None,
        high: Tensor | None = None,
        **options: Any,
    ) -> Operands:
        """Collect the operands of the three steps.

        Args:
            input: the operand, (N, …).
            output: the operation's output, if the formula reads it.
            weights: the modified weights, in the order of :attr:`parts`.
            bias: the bias, if any.
            low: the lower bound of the input, for the zᴮ rule.
            high: the upper bound of the input, for the zᴮ rule.
            options: the other arguments of the operation: stride, padding, dilation, groups …
        """
        of_parts = dict(zip(self.parts, weights, strict=True)) if weights else {}
        return Operands(input, output, of_parts, bias, low, high, options)

    # the three steps

    def denominators(self, operands: Operands) -> tuple[Tensor, ...]:
        """``d_g = S(Σ_k s_k z_k)`` of each group, of the output's shape."""
        return tuple(self._denominator(group, operands) for group in self.table)

    def quotients(
        self,
        relevance: Tensor,
        denominators: Sequence[Tensor],
        output: Tensor | None = None,
        *,
        overwrite: bool = False,
    ) -> tuple[Tensor, ...]:
        """``q_g = c_g · m_g ⊙ R / d_g`` of each group, of the output's shape.

        Args:
            relevance: the relevance of the output, (N, …).
            denominators: the denominator of each group.
            output: the operation's output, if :attr:`reads_mask`.
            overwrite: whether ``relevance`` may be overwritten.
        """
        found = []
        for group, denominator in zip(self.table, denominators, strict=True):
            masked = masked_by(relevance, group, output)
            is_own = masked is not relevance or (overwrite and group is self.table[-1])
            q = self.rule.stabilizer.divided(masked, denominator, overwrite=is_own and may_write())
            found.append(q if group.coefficient == 1 else q * group.coefficient)
        return tuple(found)

    def share(self, quotients: Sequence[Tensor], operands: Operands) -> Tensor:
        """``R_in = Σ_g Σ_k s_k x_k ⊙ W_kᵀ q_g``, of the shape of the input.

        With the bias policy ``distribute`` the share of the bias is added to it.
        """
        total: Tensor | None = None
        offsets = self._offsets(operands)
        for group, q, offset in zip(self.table, quotients, offsets, strict=True):
            for branch in group.branches:
                source = operands.source(branch.source)
                pulled = self._pull(q, source, operands.weights[branch.weight], operands.options)
                part = self._times(branch.input.of(source), pulled)
                total = added(total, branch.sign, part, in_place=True)
            if self.bias == "distribute" and offset is not None:
                total = added(total, 1, self._distributed(q, offset, operands))
        assert total is not None
        return total

    # the relevance that the steps keep, by cause

    def taken_by_quotient(
        self, relevance: Tensor, denominators: Sequence[Tensor], output: Tensor | None = None
    ) -> Taken:
        """The share of the stabilizer, and the relevance of units without contributions."""
        stabilizer = self.rule.stabilizer
        unmasked = relevance  # a unit may belong to no group, for example if its output is zero
        parts: list[Taken] = []
        for group, denominator in zip(self.table, denominators, strict=True):
            masked = masked_by(relevance, group, output) * group.coefficient
            unmasked = unmasked - masked
            if all(branch.weight.is_one_sided for branch in group.branches):
                is_empty = stabilizer.is_of_zero(denominator)
                parts.append({"empty_branch": masked.masked_fill(~is_empty, 0).sum()})
                masked = masked.masked_fill(is_empty, 0)
            parts.append(by_denominator(stabilizer, masked, denominator))
        return together(*parts, {"dead": unmasked.sum()})

    def taken_by_share(self, quotients: Sequence[Tensor], operands: Operands) -> Taken:
        """The share of the bias, except for what is distributed to the inputs."""
        parts: list[Taken] = []
        for q, offset in zip(quotients, self._offsets(operands), strict=True):
            if offset is not None:
                share = self._along_channels(offset, operands) * q
                if self.bias == "distribute":  # except to units without inputs
                    share = share.masked_fill(self._counts(operands) != 0, 0)
                parts.append({"bias": share.sum()})
        return together(*parts)

    # all steps at once

    def relevance(self, relevance: Tensor, operands: Operands) -> Tensor:
        """The relevance of the input, given that of the output."""
        denominators = self.denominators(operands)
        return self.share(self.quotients(relevance, denominators, operands.output), operands)

    def terms(self, factor: Tensor, operands: Operands) -> tuple[Term, ...]:
        """The summands of ``R ↦ relevance(factor ⊙ R)``, which is linear in R.

        It serves where R comes step by step and all else is known before.
        """
        found = []
        quotients = self.quotients(factor, self.denominators(operands), operands.output)
        for group, q, offset in zip(self.table, quotients, self._offsets(operands), strict=True):
            for branch in group.branches:
                x = branch.input.of(operands.source(branch.source))
                x = x if branch.sign == 1 else x * branch.sign
                found.append(Term(q, operands.weights[branch.weight], x))
            if self.bias == "distribute" and offset is not None:
                each = self._of_each_input(q, offset, operands)
                found.append(Term(each, operands.weights[ONES], None))
        return tuple(found)

    def taken(self, relevance: Tensor, operands: Operands) -> Taken:
        """The relevance that :meth:`relevance` keeps, by cause."""
        denominators = self.denominators(operands)
        quotients = self.quotients(relevance, denominators, operands.output)
        return together(
            self.taken_by_quotient(relevance, denominators, operands.output),
            self.taken_by_share(quotients, operands),
        )

    # parts of the steps

    def _denominator(self, group: Group, operands: Operands) -> Tensor:
        stabilizer = self.rule.stabilizer
        is_own, nonnegative = self.is_own_output(group), self._is_nonnegative(group)
        if is_own:
            assert operands.output is not None
            return stabilizer.apply(operands.output, nonnegative=nonnegative)
        if nonnegative:
            # ε is added to the bias, which saves a pass over the data
            return self._sum(group, operands, stabilizer.shift(operands.dtype))
        return stabilizer.apply(self._sum(group, operands))

    def _sum(self, group: Group, operands: Operands, shift: float = 0.0) -> Tensor:
        """``Σ_k s_k z_k``, plus ``shift`` by way of the bias of the first branch."""
        z: Tensor | None = None
        for branch in group.branches:
            x = branch.input.of(operands.source(branch.source))
            w, b = operands.weights[branch.weight], self._bias_of(branch, operands)
            b, shift = self._shifted(b, shift, w, operands), 0.0
            z = added(z, branch.sign, self.kernel(x, w, b, **operands.options), in_place=True)
        assert z is not None
        return z

    def _shifted(
        self, bias: Tensor | None, shift: float, weight: Tensor, operands: Operands
    ) -> Tensor | None:
        """The bias plus a number for each unit."""
        if not shift:
            return bias
        if bias is None:
            return weight.new_full(self._per_unit(weight, operands), shift)
        return bias + shift

    def _is_nonnegative(self, group: Group) -> bool:
        """Whether ``Σ_k s_k z_k`` is known to have no negative entries."""
        if self.is_own_output(group):
            return self.nonnegative_output
        return all(
            branch.sign * self._sign_of_input(branch) * branch.weight.sign > 0
            and (branch.bias.vanishes or branch.bias.sign > 0 or self.bias == "ignore")
            for branch in group.branches
        )

    def _sign_of_input(self, branch: Branch) -> int:
        if self.nonnegative and branch.source == "input" and branch.input.positive >= 0:
            return 1
        return branch.input.sign

    def _per_unit(self, weight: Tensor, operands: Operands) -> tuple[int, ...]:
        """The shape that a constant bias must have."""
        if self.name == "product":
            return ()
        if self.name.startswith("conv_transpose"):
            return (int(weight.shape[1] * operands.options.get("groups", 1)),)
        return (weight.shape[0],)

    def _bias_of(self, branch: Branch, operands: Operands) -> Tensor | None:
        """The part ``b_k`` of the bias that a branch uses; None if it uses none."""
        if operands.bias is None or branch.bias.vanishes or self.bias == "ignore":
            return None
        return branch.bias.of(operands.bias)

    def _offsets(self, operands: Operands) -> list[Tensor | None]:
        """For each quotient ``Σ_k s_k b_k``; None if no branch uses the bias."""
        offsets = []
        for group in self.table:
            offset: Tensor | None = None
            for branch in group.branches:
                b = self._bias_of(branch, operands)
                offset = offset if b is None else added(offset, branch.sign, b)
            offsets.append(offset)
        return offsets

    def _pull(self, q: Tensor, x: Tensor, weight: Tensor, options: dict[str, Any]) -> Tensor:
        """``Wᵀ q``, of the shape of ``x``. The values of ``x`` are not read."""
        return pull(
            self.engine,
            lambda value: self.kernel(value, weight, None, **options),
            lambda cotangent: self.adjoint(cotangent, x, weight, **options),
            x.shape,
            q,
        )

    def _times(self, x: Tensor, pulled: Tensor) -> Tensor:
        """``x ⊙ pulled``, written into the memory of ``pulled`` if possible."""
        if self.engine == "direct" and x.dtype == pulled.dtype and may_write():
            return pulled.mul_(x)
        return x * pulled

    def _distributed(self, q: Tensor, offset: Tensor, operands: Operands) -> Tensor:
        """Give ``b_j q_j / n_j`` to each of the ``n_j`` inputs of unit ``j``; padding is not an input.

        This is eq. 4 of the blog post of 2021, except that the inputs are counted by a convolution
        of ones. Dividing by the fan-in would lose relevance at padded borders.
        """
        each = self._of_each_input(q, offset, operands)
        return self._pull(each, operands.source("input"), operands.weights[ONES], operands.options)

    def _of_each_input(self, q: Tensor, offset: Tensor, operands: Operands) -> Tensor:
        """``b_j q_j / n_j``, of the output's shape."""
        offset = self._along_channels(offset, operands)
        return offset * q / self._counts(operands).clamp(min=1)

    def _counts(self, operands: Operands) -> Tensor:
        """The number of inputs of each unit, without padding."""
        ones = torch.ones_like(operands.source("input"))
        return self.kernel(ones, operands.weights[ONES], None, **operands.options)

    def _along_channels(self, offset: Tensor, operands: Operands) -> Tensor:
        """A bias, reshaped so that it broadcasts to the output."""
        if not self.name.startswith("conv"):
            return offset
        weight = next(iter(operands.weights.values()))
        return offset.reshape(-1, *[1] * (weight.dim() - 2))
