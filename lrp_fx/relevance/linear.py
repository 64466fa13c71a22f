"""One executor for every rule on linear operations.

It runs the rule's table of branches (see ``lrp_fx.rules``) on the operation's own kernels, forward and
adjoint.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Literal

import torch
from torch import Tensor

from lrp_fx.contractions import product
from lrp_fx.graph.calls import Packet
from lrp_fx.relevance import sparse
from lrp_fx.relevance.branches import Operands, Term, added, masked_by, simplified
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.taken import Taken, by_stabilizer, together
from lrp_fx.relevance.weighted import ADJOINTS
from lrp_fx.rules import FULL, ONES, Branch, Group, LinearRule, Part
from lrp_fx.stabilizer import may_write

BiasPolicy = Literal["absorb", "ignore", "distribute"]
BIAS_POLICIES: tuple[BiasPolicy, ...] = ("absorb", "ignore", "distribute")


class LinearRelevance(RelevanceNode):
    """A rule's table on one linear operation.

    ``prepare`` computes the modified weights (W⁺, W², …) and keeps them as buffers, which costs the
    weight's memory once for each; without it they are computed in every call.

    Where ``filtered`` is set, the relevance is zero for the most part, and what is multiplied with
    zero is left out as far as that is faster (see :mod:`lrp_fx.relevance.sparse`). Where ``layout`` is
    set, kept weights are brought into that layout.

    Args:
        packet: the operation.
        rule: the rule.
        nonnegative: the input is known to have no negative entries.
        nonnegative_output: so is the output that is passed in.
        bias: the bias policy.
        engine: who computes adjoints.
    """

    result = "new"

    def __init__(
        self,
        packet: Packet,
        rule: LinearRule,
        *,
        nonnegative: bool,
        nonnegative_output: bool = False,
        bias: BiasPolicy,
        engine: Engine,
    ) -> None:
        super().__init__()
        self.name = str(packet.__name__)
        self.kernel: Callable[..., Tensor] = product if self.name == "product" else packet
        self.adjoint = ADJOINTS[self.name]
        self.rule = rule
        self.bias_policy = bias
        self.engine: Engine = engine
        self.nonnegative, self.nonnegative_output = nonnegative, nonnegative_output
        self.filtered = False
        self.layout: Callable[[Tensor], Tensor] | None = None
        self.table = simplified(rule.table(), nonnegative=nonnegative)
        self.parts: dict[Part, str] = {}
        for branch in (branch for group in self.table for branch in group.branches):
            if branch.weight != FULL:
                self.parts.setdefault(branch.weight, f"weight_{len(self.parts)}")
        if bias == "distribute":
            self.parts.setdefault(ONES, f"weight_{len(self.parts)}")
        for name in self.parts.values():
            self.register_buffer(name, None)

    def extra_repr(self) -> str:
        """The operation and the rule."""
        return f"{self.name}, {self.rule}, bias={self.bias_policy!r}"

    @property
    def reads_output(self) -> bool:
        """Whether the operation's own output stands in for a denominator or decides a mask."""
        return any(
            group.mask != "all" or self._is_own_output(group.branches) for group in self.table
        )

    def _is_own_output(self, branches: tuple[Branch, ...]) -> bool:
        return len(branches) == 1 and branches[0].is_forward and self.bias_policy != "ignore"

    @torch.no_grad()
    def prepare(self, weight: Tensor) -> None:
        """Compute the modified weights and keep them."""
        for part, name in self.parts.items():
            modified = part.of(weight)
            setattr(self, name, self.layout(modified) if self.layout else modified)

    def unprepared(self) -> LinearRelevance:
        """The same without the kept weights: it computes them from the weight of each call."""
        twin = copy(self)
        twin._buffers = dict.fromkeys(self._buffers)
        return twin

    def propagate(
        self,
        relevance: Tensor,
        input: Tensor,
        output: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        low: Tensor | None = None,
        high: Tensor | None = None,
        denominators: list[Tensor | None] | None = None,
        **options: Any,
    ) -> Tensor:
        """The relevance of the input.

        Args:
            relevance: (N, …) of the output's shape.
            input: the operand, (N, …).
            output: the operation's output, where :attr:`reads_output`.
            weight: the operation's weight.
            bias: its bias, if any.
            low: the lower bound of the input, for the z-box rule.
            high: the upper bound.
            denominators: ``S(Σ_k s_k z_k)`` of each group, where known already; the list is emptied where
                the node may overwrite what comes in.
            options: stride, padding, dilation, groups …
        """
        operands = Operands(input, output, weight, bias, low, high, options)
        if self.filtered and denominators is None:
            restricted = self._restricted(relevance, operands)
            if restricted is not None:
                return restricted
        total: Tensor | None = None
        known = list(denominators or [None] * len(self.table))
        if denominators and self._may_overwrite():
            denominators.clear()  # so that each can go before the adjoint needs memory of its own
        for group in self.table:
            masked = masked_by(relevance, group, output)
            is_own = masked is not relevance or (self.overwrites and group is self.table[-1])
            share = self._group_share(group, masked, operands, known.pop(0), is_own)
            total = share if total is None else total + share
        assert total is not None
        return total

    def can_be_restricted(self, channel_groups: int) -> bool:
        """Whether the rule can be run on the part of the relevance that is not zero."""
        if self.engine != "direct" or self.bias_policy == "distribute" or self.name == "product":
            return False
        if self.name == "linear":
            return len(self.table) == 1 and self._is_own_output(self.table[0].branches)
        branches = [branch for group in self.table for branch in group.branches]
        # gathered windows do not tell ones at real inputs from ones in the padding
        has_ones = any(branch.input.power == 0 for branch in branches)
        return "transpose" not in self.name and channel_groups == 1 and not has_ones

    def _restricted(self, relevance: Tensor, operands: Operands) -> Tensor | None:
        """The relevance of the input from what is not zero; None where all of it is faster.

        The values decide about the form: autograd and compilers could not follow, and a graphics
        card would be waited for.
        """
        is_single = self.name != "linear" and relevance.dim() != operands.weight.dim()
        if not may_write() or relevance.device.type != "cpu" or is_single:
            return None
        groups = [
            sparse.Weighed(
                group,
                tuple(
                    (b, self._weight(b.weight, operands.weight), self._bias(b, operands))
                    for b in group.branches
                ),
                own=self._is_own_output(group.branches),
            )
            for group in self.table
        ]
        stabilizer = self.rule.stabilizer
        if self.name == "linear":
            assert operands.output is not None
            return sparse.dense(
                relevance, operands.input, operands.output, operands.weight, stabilizer
            )
        sources: dict[str, Tensor] = {"input": operands.input}
        sources |= {b.source: operands.source(b.source) for g in self.table for b in g.branches}
        options = {key: value for key, value in operands.options.items() if key != "groups"}
        return sparse.convolution(
            relevance, sources, operands.output, groups, stabilizer, **options
        )

    def taken(
        self,
        relevance: Tensor,
        input: Tensor,
        output: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        low: Tensor | None = None,
        high: Tensor | None = None,
        denominators: list[Tensor | None] | None = None,
        **options: Any,
    ) -> Taken:
        """The bias' and the stabilizer's share, and that of units without contributions."""
        operands = Operands(input, output, weight, bias, low, high, options)
        unmasked = relevance  # a unit may belong to no group, such as one whose output is zero
        parts: list[Taken] = []
        for group in self.table:
            masked = masked_by(relevance, group, output) * group.coefficient
            unmasked = unmasked - masked
            z, offset, _ = self._denominator(group, operands)
            if all(branch.weight.is_one_sided for branch in group.branches):
                parts.append({"empty_branch": masked.masked_fill(z != 0, 0).sum()})
                masked = masked.masked_fill(z == 0, 0)
            parts.append(by_stabilizer(self.rule.stabilizer, masked, z))
            if isinstance(offset, Tensor):
                offset = self._along_channels(offset, weight)
                share = offset * self.rule.stabilizer.quotient(masked, z)
                if self.bias_policy == "distribute":  # but where there is no input to give it to
                    counts, _ = self._counts(operands)
                    share = share.masked_fill(counts != 0, 0)
                parts.append({"bias": share.sum()})
        return together(*parts, {"dead": unmasked.sum()})

    def _group_share(
        self,
        group: Group,
        relevance: Tensor,
        operands: Operands,
        denominator: Tensor | None,
        overwrite: bool,
    ) -> Tensor:
        """``c Σ_k s_k x_k ⊙ W_kᵀ q`` with ``q = R / S(Σ_k s_k z_k)``, and the bias' share."""
        z, offset, terms = self._denominator(group, operands, denominator)
        overwrite = overwrite and may_write()
        if denominator is None:
            nonnegative = self._is_nonnegative(group)
            q = self.rule.stabilizer.quotient(
                relevance, z, nonnegative=nonnegative, overwrite=overwrite
            )
        else:
            q = self.rule.stabilizer.divided(relevance, z, overwrite=overwrite)
        del z, denominator
        if group.coefficient != 1:
            q = q * group.coefficient
        total = self._shares(terms, q)
        if self.bias_policy == "distribute" and isinstance(offset, Tensor):
            total = total + self._distributed(q, offset, operands)
        return total

    def _shares(self, terms: list[Term], q: Tensor) -> Tensor:
        """``Σ_k s_k x_k ⊙ W_kᵀ q``."""
        total: Any = 0
        for term in terms:
            share = self._times(term.branch.input.of(term.source), term.pullback(q))
            total = added(total, term.branch.sign, share, in_place=True)
        return total  # type: ignore[no-any-return]

    def _times(self, x: Tensor, pulled: Tensor) -> Tensor:
        """``x ⊙ pulled``, in the memory of what an adjoint kernel has just made."""
        if self.engine == "direct" and x.dtype == pulled.dtype and may_write():
            return pulled.mul_(x)
        return x * pulled

    def denominators(
        self,
        input: Tensor,
        output: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        low: Tensor | None = None,
        high: Tensor | None = None,
        **options: Any,
    ) -> list[Tensor]:
        """``S(Σ_k s_k z_k)`` of each group."""
        operands = Operands(input, output, weight, bias, low, high, options)
        return [self._stabilized(group, operands) for group in self.table]

    def _stabilized(self, group: Group, operands: Operands) -> Tensor:
        stabilizer, nonnegative = self.rule.stabilizer, self._is_nonnegative(group)
        if nonnegative and not self._is_own_output(group.branches):
            # the operation adds ε along with the bias, which saves a pass over the data
            shift = stabilizer.shift(operands.input.dtype)
            return self._denominator(group, operands, shift=shift)[0]
        z = self._denominator(group, operands)[0]
        return stabilizer.apply(z, nonnegative=nonnegative)

    def _is_nonnegative(self, group: Group) -> bool:
        """Whether ``Σ_k s_k z_k`` is known to have no negative entries."""
        if self._is_own_output(group.branches):
            return self.nonnegative_output
        return all(
            branch.sign * self._sign_of_input(branch) * branch.weight.sign > 0
            and (branch.bias.vanishes or branch.bias.sign > 0 or self.bias_policy == "ignore")
            for branch in group.branches
        )

    def _sign_of_input(self, branch: Branch) -> int:
        if self.nonnegative and branch.source == "input" and branch.input.positive >= 0:
            return 1
        return branch.input.sign

    def _denominator(
        self,
        group: Group,
        operands: Operands,
        known: Tensor | None = None,
        *,
        shift: float = 0.0,
    ) -> tuple[Tensor, Any, list[Term]]:
        """``Σ_k s_k z_k``, its part from biases, and the branches with their ``x_k`` and ``W_kᵀ``.

        What is ``known`` is not computed; a ``shift`` is added to the first branch.
        """
        if known is None and self._is_own_output(group.branches):
            known = operands.output
        z: Any = 0
        offset: Any = 0
        terms = []
        for branch in group.branches:
            source = operands.source(branch.source)
            # a known denominator leaves the adjoint alone, which takes the operand's shape only
            x = source if known is not None else branch.input.of(source)
            w, b = self._weight(branch.weight, operands.weight), self._bias(branch, operands)
            if shift:
                b = w.new_full(self._per_unit(w, operands), shift) if b is None else b + shift
                shift = 0.0
            z_branch, pullback = self._linearize(x, w, b, known, operands.options)
            z = known if known is not None else added(z, branch.sign, z_branch, in_place=True)
            offset = offset if b is None else added(offset, branch.sign, b)
            terms.append(Term(branch, source, pullback))
        return z, offset, terms

    def _per_unit(self, weight: Tensor, operands: Operands) -> tuple[int, ...]:
        """The shape of a bias that is the same for all units."""
        if self.name == "product":
            return ()
        if self.name.startswith("conv_transpose"):
            return (int(weight.shape[1] * operands.options.get("groups", 1)),)
        return (weight.shape[0],)

    def _weight(self, part: Part, weight: Tensor) -> Tensor:
        if part == FULL:
            return weight
        kept = getattr(self, self.parts[part])
        return part.of(weight) if kept is None else kept.to(weight.dtype)

    def _bias(self, branch: Branch, operands: Operands) -> Tensor | None:
        if operands.bias is None or branch.bias.vanishes or self.bias_policy == "ignore":
            return None
        return branch.bias.of(operands.bias)

    def _linearize(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        output: Tensor | None,
        options: dict[str, Any],
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def forward(value: Tensor) -> Tensor:
            return self.kernel(value, weight, bias, **options)

        def adjoint(q: Tensor) -> Tensor:
            return self.adjoint(q, x, weight, **options)

        return linearize(self.engine, forward, adjoint, x, output)

    def _distributed(self, q: Tensor, offset: Tensor, operands: Operands) -> Tensor:
        """``b_j q_j / n_j`` to each real input of window j, of which there are ``n_j``.

        Eq. 4 of the blog post of 2021, with the inputs counted by a convolution of ones: the fan-in
        would lose relevance at padded borders.
        """
        counts, pullback = self._counts(operands)
        offset = self._along_channels(offset, operands.weight)
        return pullback(offset * q / counts.clamp(min=1))

    def _counts(self, operands: Operands) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """How many real inputs each unit has, and the adjoint of that counting."""
        ones = torch.ones_like(operands.input)
        weight = self._weight(ONES, operands.weight)
        return self._linearize(ones, weight, None, None, operands.options)

    def _along_channels(self, offset: Tensor, weight: Tensor) -> Tensor:
        """A bias in a shape that broadcasts to the output."""
        if not self.name.startswith("conv"):
            return offset
        return offset.reshape(-1, *[1] * (weight.dim() - 2))


class Denominators(RelevanceNode):
    """The stabilized denominators of a rule on one linear operation, from the forward values alone.

    A node of their own, so that the relevance of many targets shares them.
    """

    def __init__(self, of: LinearRelevance) -> None:
        super().__init__()
        self.rule = of.rule
        # not the module itself: it has its place in the graph
        self.compute, self.unprepared_of = of.denominators, of.unprepared

    def propagate(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """As :meth:`LinearRelevance.denominators`."""
        return self.compute(*args, **kwargs)

    def unprepared(self) -> Denominators:
        """Those of the unprepared node."""
        return Denominators(self.unprepared_of())
