"""Relevance through convolutions, transposed convolutions, linear layers and constant matmuls.

One executor for every rule: it runs the rule's table of branches (see ``lrp_fx.rules``) on the
operation's own kernels, forward and adjoint.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

from lrp_fx.aten import Packet, arguments, as_tuple, aten, name_of, packet_of
from lrp_fx.errors import InputError
from lrp_fx.relevance import sparse
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import Facts, Operation, Received, Site, argument
from lrp_fx.relevance.taken import Taken, by_stabilizer, together
from lrp_fx.rules import (
    FULL,
    ONES,
    Branch,
    Epsilon,
    Group,
    LinearRule,
    Part,
    Pass,
    Rule,
    Table,
    ZBox,
    may_write,
)

BiasPolicy = Literal["absorb", "ignore", "distribute"]
BIAS_POLICIES: tuple[BiasPolicy, ...] = ("absorb", "ignore", "distribute")


def _linear_adjoint(q: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return q @ weight


def _convolution_adjoint(dims: int, transposed: bool) -> Callable[..., Tensor]:
    def adjoint(
        q: Tensor,
        x: Tensor,
        weight: Tensor,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        output_padding: Any = 0,
    ) -> Tensor:
        return aten.convolution_backward(  # type: ignore[no-any-return]
            *(q, x, weight, None),
            *(as_tuple(value, dims) for value in (stride, padding, dilation)),
            transposed,
            as_tuple(output_padding, dims),
            groups,
            (True, False, False),
        )[0]

    return adjoint


ADJOINTS: dict[str, Callable[..., Tensor]] = {
    "linear": _linear_adjoint,
    **{f"conv{dims}d": _convolution_adjoint(dims, False) for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _convolution_adjoint(dims, True) for dims in (1, 2, 3)},
}


class LinearRelevance(RelevanceNode):
    """A rule's table on one linear operation.

    ``prepare`` computes the modified weights (W⁺, W², …) and keeps them as buffers, which costs the
    weight's memory once for each; without it they are computed in every call.

    Where ``filtered`` is set, the relevance is zero for the most part, and what is multiplied with
    zero is left out as far as that is faster (see :mod:`lrp_fx.relevance.sparse`).

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
        self.packet = packet
        self.name = str(packet.__name__)
        self.adjoint = ADJOINTS[self.name]
        self.rule = rule
        self.bias_policy = bias
        self.engine: Engine = engine
        self.nonnegative, self.nonnegative_output = nonnegative, nonnegative_output
        self.filtered = False
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
            setattr(self, name, part.of(weight))

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
        operands = _Operands(input, output, weight, bias, low, high, options)
        if self.filtered and denominators is None:
            restricted = self._restricted(relevance, operands)
            if restricted is not None:
                return restricted
        total: Tensor | None = None
        known = list(denominators or [None] * len(self.table))
        if denominators and self._may_overwrite():
            denominators.clear()  # so that each can go before the adjoint needs memory of its own
        for group in self.table:
            masked = _masked(relevance, group, output)
            is_own = masked is not relevance or (self.overwrites and group is self.table[-1])
            share = self._group_share(group, masked, operands, known.pop(0), is_own)
            total = share if total is None else total + share
        assert total is not None
        return total

    def can_be_restricted(self, channel_groups: int) -> bool:
        """Whether the rule can be run on the part of the relevance that is not zero."""
        if self.engine != "direct" or self.bias_policy == "distribute":
            return False
        if self.name == "linear":
            return len(self.table) == 1 and self._is_own_output(self.table[0].branches)
        branches = [branch for group in self.table for branch in group.branches]
        # gathered windows do not tell ones at real inputs from ones in the padding
        has_ones = any(branch.input.power == 0 for branch in branches)
        return "transpose" not in self.name and channel_groups == 1 and not has_ones

    def _restricted(self, relevance: Tensor, operands: _Operands) -> Tensor | None:
        """The relevance of the input from what is not zero; None where all of it is faster.

        The values decide about the form: autograd and compilers could not follow, and a graphics
        card would be waited for.
        """
        follows = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if follows or relevance.device.type != "cpu":
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
        operands = _Operands(input, output, weight, bias, low, high, options)
        unmasked = relevance  # a unit may belong to no group, such as one whose output is zero
        parts: list[Taken] = []
        for group in self.table:
            masked = _masked(relevance, group, output) * group.coefficient
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
        operands: _Operands,
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
        total: Any = 0
        for sign, x, pullback in terms:
            total = _add(total, sign, self._times(x, pullback(q)), in_place=True)
        if self.bias_policy == "distribute" and isinstance(offset, Tensor):
            total = total + self._distributed(q, offset, operands)
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
        operands = _Operands(input, output, weight, bias, low, high, options)
        return [self._stabilized(group, operands) for group in self.table]

    def _stabilized(self, group: Group, operands: _Operands) -> Tensor:
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
        operands: _Operands,
        known: Tensor | None = None,
        *,
        shift: float = 0.0,
    ) -> tuple[Tensor, Any, list[tuple[float, Tensor, Callable[[Tensor], Tensor]]]]:
        """``Σ_k s_k z_k``, its part from biases, and of each branch ``s_k``, ``x_k`` and ``W_kᵀ``.

        What is ``known`` is not computed; a ``shift`` is added to the first branch.
        """
        if known is None and self._is_own_output(group.branches):
            known = operands.output
        z: Any = 0
        offset: Any = 0
        terms = []
        for branch in group.branches:
            x = branch.input.of(operands.source(branch.source))
            w, b = self._weight(branch.weight, operands.weight), self._bias(branch, operands)
            if shift:
                b = w.new_full((self._units(w, operands),), shift) if b is None else b + shift
                shift = 0.0
            z_branch, pullback = self._linearize(x, w, b, known, operands.options)
            z = known if known is not None else _add(z, branch.sign, z_branch, in_place=True)
            offset = offset if b is None else _add(offset, branch.sign, b)
            terms.append((branch.sign, x, pullback))
        return z, offset, terms

    def _units(self, weight: Tensor, operands: _Operands) -> int:
        """The number of output channels."""
        if self.name.startswith("conv_transpose"):
            return int(weight.shape[1] * operands.options.get("groups", 1))
        return weight.shape[0]

    def _weight(self, part: Part, weight: Tensor) -> Tensor:
        if part == FULL:
            return weight
        kept = getattr(self, self.parts[part])
        return part.of(weight) if kept is None else kept.to(weight.dtype)

    def _bias(self, branch: Branch, operands: _Operands) -> Tensor | None:
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
            return self.packet(value, weight, bias, **options)  # type: ignore[no-any-return]

        def adjoint(q: Tensor) -> Tensor:
            return self.adjoint(q, x, weight, **options)

        return linearize(self.engine, forward, adjoint, x, output)

    def _distributed(self, q: Tensor, offset: Tensor, operands: _Operands) -> Tensor:
        """``b_j q_j / n_j`` to each real input of window j, of which there are ``n_j``.

        Eq. 4 of the blog post of 2021, with the inputs counted by a convolution of ones: the fan-in
        would lose relevance at padded borders.
        """
        counts, pullback = self._counts(operands)
        offset = self._along_channels(offset, operands.weight)
        return pullback(offset * q / counts.clamp(min=1))

    def _counts(self, operands: _Operands) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """How many real inputs each unit has, and the adjoint of that counting."""
        ones = torch.ones_like(operands.input)
        weight = self._weight(ONES, operands.weight)
        return self._linearize(ones, weight, None, None, operands.options)

    def _along_channels(self, offset: Tensor, weight: Tensor) -> Tensor:
        """A bias in a shape that broadcasts to the output."""
        if self.name == "linear":
            return offset
        return offset.reshape(-1, *[1] * (weight.dim() - 2))


class SameShapeRelevance(RelevanceNode):
    """The relevance itself, for a layer whose output has the shape of its input (Captum's identity)."""

    def propagate(self, relevance: Tensor, shape: torch.Size) -> Tensor:
        """The relevance.

        Raises:
            InputError: where the shapes differ, so that it is nobody's.
        """
        if relevance.shape != shape:
            raise InputError(
                f"Pass() hands relevance of shape {tuple(relevance.shape)} to an input of shape "
                f"{tuple(shape)}: it is for layers that keep the shape"
            )
        return relevance


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


@dataclass(frozen=True)
class _Operands:
    """The arguments of :meth:`LinearRelevance.propagate` but for the relevance."""

    input: Tensor
    output: Tensor | None
    weight: Tensor
    bias: Tensor | None
    low: Tensor | None
    high: Tensor | None
    options: dict[str, Any]

    def source(self, name: Literal["input", "low", "high"]) -> Tensor:
        """What a branch takes its part of."""
        found: Tensor | None = getattr(self, name)
        assert found is not None, name
        return found


def _masked(relevance: Tensor, group: Group, output: Tensor | None) -> Tensor:
    """The relevance of the units that a group is for."""
    if group.mask == "all":
        return relevance
    assert output is not None
    return relevance * (output > 0 if group.mask == "positive" else output < 0)


def _add(total: Any, sign: float, term: Tensor, *, in_place: bool = False) -> Tensor:
    """``total + sign · term`` without needless passes; ``in_place`` where ``total`` was made for it."""
    if isinstance(total, int):
        return term if sign == 1 else term * sign
    if in_place and may_write():
        return total.add_(term, alpha=sign)  # type: ignore[no-any-return]
    return total + (term if sign == 1 else term * sign)  # type: ignore[no-any-return]


def simplified(table: Table, *, nonnegative: bool) -> Table:
    """The table without the branches that vanish; with ``x ≥ 0`` also those in x⁻."""
    groups = []
    for group in table:
        branches = []
        for branch in group.branches:
            part = branch.input
            if nonnegative and branch.source == "input":
                part = part.of_nonnegative()
            if not part.vanishes:
                branches.append(
                    Branch(part, branch.weight, branch.bias, branch.sign, branch.source)
                )
        if branches:
            groups.append(type(group)(tuple(branches), group.coefficient, group.mask))
    return tuple(groups)


def _default(node: fx.Node, facts: Facts) -> Rule:
    return Epsilon()


def _write(site: Site) -> Received:
    node, rule = site.node, site.rule
    bound = arguments(node)
    input, weight, bias = (bound.pop(name) for name in ("input", "weight", "bias"))
    if isinstance(rule, Pass):
        return {input: [site.call(SameShapeRelevance(), site.relevance, site.shape(input))]}
    assert isinstance(rule, LinearRule)
    packet = packet_of(node.target)
    assert packet is not None
    module = LinearRelevance(
        packet,
        rule,
        nonnegative=site.facts.is_nonnegative(input),
        nonnegative_output=site.output_is_nonnegative(),
        bias=site.bias,  # type: ignore[arg-type]
        engine=site.engine,
    )
    module.filtered = site.filtered and module.can_be_restricted(bound.get("groups", 1))
    options = dict(site.value(bound))
    if isinstance(rule, ZBox):
        options["low"], options["high"] = site.bound(input, rule.low, rule.high)
    output = site.output() if module.reads_output else None
    x, w, b = site.value((input, weight, bias))
    if site.engine == "direct" and not module.filtered:
        operands = (x, output, w, b)
        denominators = site.call(Denominators(module), *operands, suffix="denominators", **options)
        options["denominators"] = denominators
    return {input: [site.call(module, site.relevance, x, output, w, b, **options)]}


OPERATIONS = [
    Operation(
        name=name,
        kind="dense" if name == "linear" else "convolution",
        operands=argument("input"),
        default=_default,
        default_label="Epsilon",
        alternatives=(LinearRule, Pass),
        write=_write,
        source="table of branches, lrp_fx.rules",
    )
    for name in ADJOINTS
]


def is_linear(node: fx.Node) -> bool:
    """Whether rules for linear operations apply to the node."""
    return node.op == "call_function" and name_of(node) in ADJOINTS
