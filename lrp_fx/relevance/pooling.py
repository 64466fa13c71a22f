"""Relevance through pooling, means, sums over dimensions, maxima and interpolation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.errors import CompositeError
from lrp_fx.graph import Packet, as_tuple, aten, called, name_of, row_named
from lrp_fx.relevance.adjoints import AVERAGING, UPSAMPLES, Adjoint
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, always, first, others
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Proportional, Rule, Stabilizer, Uniform, Winner


class AverageRelevance(RelevanceNode):
    """``R_in = x ⊙ Jᵀ[R / S(y)]`` or, for Uniform, ``R_in = Jᵀ[R / J1]``, with ``y = Jx``.

    ``J`` are the constant weights of the operation. The first formula is the ε rule of Bach et al.
    2015.

    Args:
        packet: the operation.
        adjoint: its adjoint.
        rule: the rule.
        engine: the engine that computes the adjoint.
        nonnegative: whether ``y`` is known to have no negative entries.
    """

    result = "new"

    def __init__(
        self,
        packet: Packet,
        adjoint: Adjoint,
        rule: Proportional | Uniform,
        engine: Engine,
        *,
        nonnegative: bool = False,
    ) -> None:
        super().__init__()
        self.packet, self.adjoint, self.rule = packet, adjoint, rule
        self.engine: Engine = engine
        self.nonnegative = nonnegative

    def propagate(
        self, relevance: Tensor, input: Tensor, output: Tensor | None, **options: Any
    ) -> Tensor:
        """The relevance of the input, (N, …).

        Args:
            relevance: the relevance of the output.
            input: the input ``x``, (N, …).
            output: the output ``y``, or None to compute it.
            options: the other arguments of the operation.
        """
        x = self._contributions(input)
        if not x.is_floating_point():
            x = x.to(relevance.dtype)
        y, pullback = linearize(
            self.engine,
            lambda value: self.packet(value, **options),
            lambda q: self.adjoint(q, x.shape, **options),
            x,
            output,
        )
        q = self._stabilizer.quotient(
            relevance, y, nonnegative=self.nonnegative, overwrite=self._may_overwrite()
        )
        return x * pullback(q)

    def taken(
        self, relevance: Tensor, input: Tensor, output: Tensor | None, **options: Any
    ) -> Taken:
        """The share of the stabilizer, and the relevance of windows without entries."""
        y = self.packet(self._contributions(input), **options) if output is None else output
        return by_stabilizer(self._stabilizer, relevance, y)

    def _contributions(self, input: Tensor) -> Tensor:
        return torch.ones_like(input) if isinstance(self.rule, Uniform) else input

    @property
    def _stabilizer(self) -> Stabilizer:
        return Stabilizer(0.0) if isinstance(self.rule, Uniform) else self.rule.stabilizer


class WinnerRelevance(RelevanceNode):
    """``R_i = Σ_j R_j`` over the windows ``j`` whose maximum is the entry ``i``: winner takes all.

    Bach et al. 2015; Montavon et al. 2019. If the rule has a stabilizer, ``R_j`` is multiplied by
    ``x_i / S(x_i)``, as in Captum.

    Args:
        rule: the rule.
        dims: how many of the last dimensions are pooled.
    """

    result = "new"

    def __init__(self, rule: Winner, dims: int) -> None:
        super().__init__()
        self.rule, self.dims = rule, dims

    def propagate(
        self,
        relevance: Tensor,
        shape: torch.Size,
        indices: Tensor,
        output: Tensor | None,
        **window: Any,
    ) -> Tensor:
        """The relevance of the input, of ``shape``.

        Args:
            relevance: the relevance of the output, (N, …).
            shape: the shape of the input, (N, …).
            indices: the position of each maximum within the flattened pooled dimensions of the
                input; of the shape of the output.
            output: the maxima, if the rule has a stabilizer.
            window: kernel size, stride … of max_pool2d, for which torch has an adjoint kernel.
        """
        relevance = _by_value(self.rule, relevance, output)
        if self.dims == 2 and window and not torch.are_deterministic_algorithms_enabled():
            layout = torch.contiguous_format
            if len(shape) == 4 and indices.is_contiguous(memory_format=torch.channels_last):
                layout = torch.channels_last
            # uninitialized memory: the kernel reads only its shape and layout
            like = torch.empty(
                shape, dtype=relevance.dtype, device=relevance.device, memory_format=layout
            )
            return aten.max_pool2d_with_indices_backward(relevance, like, **window, indices=indices)
        lead = relevance.shape[: relevance.dim() - self.dims]
        flat = relevance.new_zeros((*lead, shape[-self.dims :].numel()))
        return flat.scatter_add(
            -1, indices.reshape(*lead, -1), relevance.reshape(*lead, -1)
        ).reshape(shape)

    def taken(self, relevance: Tensor, *operands: Any, **window: Any) -> Taken:
        """The stabilizer's share, in Captum's form of the rule."""
        return _taken_by_value(self.rule, relevance, operands[2])


class WinnerOfDimRelevance(RelevanceNode):
    """Winner takes all for ``max``, ``amax``, ``min`` and ``amin``: ``R_i = R`` for the winner ``i``.

    All other entries get zero, and so do further entries that equal the winner. Source and
    stabilizer are as in :class:`WinnerRelevance`.

    Args:
        rule: the rule.
        least: whether the smallest entry wins.
    """

    result = "new"

    def __init__(self, rule: Winner, *, least: bool = False) -> None:
        super().__init__()
        self.rule, self.least = rule, least

    def propagate(
        self,
        relevance: Tensor,
        input: Tensor,
        output: Tensor | None,
        dim: Any = (),
        keepdim: bool = False,
    ) -> Tensor:
        """The relevance of the input, (N, …).

        Args:
            relevance: the relevance of the output.
            input: the input, (N, …).
            output: the output, if the rule has a stabilizer.
            dim: the dimensions that are reduced; all if empty.
            keepdim: whether they are kept with size one.
        """
        relevance = _by_value(self.rule, relevance, output)
        dims = [d % input.dim() for d in as_tuple(dim, 1)] or list(range(input.dim()))
        kept = [d for d in range(input.dim()) if d not in dims]
        flat = input.permute(*kept, *dims).flatten(len(kept))
        indices = (flat.argmin if self.least else flat.argmax)(-1, keepdim=True)
        spread = relevance.new_zeros(flat.shape)  # not of the input, which may be integer
        spread = spread.scatter(-1, indices, relevance.reshape(indices.shape))
        order = [*kept, *dims]
        inverse = [order.index(d) for d in range(input.dim())]
        return spread.reshape([input.shape[d] for d in order]).permute(inverse)

    def taken(self, relevance: Tensor, input: Tensor, output: Tensor | None, **dims: Any) -> Taken:
        """The stabilizer's share, in Captum's form of the rule."""
        return _taken_by_value(self.rule, relevance, output)


def _by_value(rule: Winner, relevance: Tensor, output: Tensor | None) -> Tensor:
    """``R``, or ``x R / S(x)`` with the winner ``x`` if the rule has a stabilizer (as in Captum)."""
    if rule.stabilizer is None:
        return relevance
    assert output is not None
    return output * rule.stabilizer.quotient(relevance, output)


def _taken_by_value(rule: Winner, relevance: Tensor, output: Tensor | None) -> Taken:
    if rule.stabilizer is None:
        return {}
    assert output is not None
    return by_stabilizer(rule.stabilizer, relevance, output)


class WindowShareRelevance(RelevanceNode):
    """``R_in = x ⊙ Jᵀ[R / S(Jx)]``: max pooling treated as average pooling ``J``.

    For Uniform, ``R_in = Jᵀ[R / J1]``.

    Args:
        dims: the number of pooled dimensions.
        rule: the rule.
        engine: the engine that computes the adjoint.
    """

    result = "new"

    def __init__(self, dims: int, rule: Proportional | Uniform, engine: Engine) -> None:
        super().__init__()
        self.dims, self.rule = dims, rule
        packet = getattr(aten, f"avg_pool{dims}d")
        self.average = AverageRelevance(packet, AVERAGING[f"avg_pool{dims}d"], rule, engine)

    def propagate(self, relevance: Tensor, input: Tensor, **window: Any) -> Tensor:
        """The relevance of the input, (N, …); ``window`` are the arguments of the max pooling."""
        return self.average.propagate(relevance, input, None, **self._averaged(**window))

    def taken(self, relevance: Tensor, input: Tensor, **window: Any) -> Taken:
        """The share of the stabilizer, and the relevance of windows without entries."""
        return self.average.taken(relevance, input, None, **self._averaged(**window))

    def _averaged(
        self, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False
    ) -> dict[str, Any]:
        """The arguments of the average pooling over the same windows."""
        return {
            "kernel_size": as_tuple(kernel_size, self.dims),
            "stride": as_tuple(stride if stride else kernel_size, self.dims),
            "padding": as_tuple(padding, self.dims),
            "ceil_mode": ceil_mode,
        }


def _write_average(site: Site) -> Received:
    node, rule = site.node, site.rule
    (operand,) = first(node)
    assert isinstance(rule, (Proportional, Uniform))
    output, nonnegative = None, False
    if isinstance(rule, Proportional):
        output, nonnegative = site.output(), site.output_is_nonnegative()
    adjoint = AVERAGING[name_of(node)]
    module = AverageRelevance(called(node), adjoint, rule, site.engine, nonnegative=nonnegative)
    options = site.value(others(node))
    return {operand: [site.call(module, site.relevance, site.value(operand), output, **options)]}


def _write_max_pool(site: Site) -> Received:
    node, rule = site.node, site.rule
    (operand,) = first(node)
    dims = int(name_of(node)[name_of(node).index("pool") + 4])
    if isinstance(rule, Winner):
        output = site.item(node, 0) if rule.stabilizer is not None else None
        inputs = (site.shape(operand), site.item(node, 1), output)
        window = site.value(others(node)) if name_of(node).startswith("max_pool2d") else {}
        winner = WinnerRelevance(rule, dims)
        return {operand: [site.call(winner, site.relevance, *inputs, **window)]}
    assert isinstance(rule, (Proportional, Uniform))
    module = WindowShareRelevance(dims, rule, site.engine)
    options = dict(site.value(others(node)))
    if any(d != 1 for d in as_tuple(options.pop("dilation"), dims)):
        raise CompositeError(f"{rule} is not defined for the dilated max pooling '{node.name}'")
    return {operand: [site.call(module, site.relevance, site.value(operand), **options)]}


def _write_max_of_dim(site: Site) -> Received:
    node, rule = site.node, site.rule
    assert isinstance(rule, Winner)
    (operand,) = first(node)
    output = None
    if rule.stabilizer is not None:
        output = site.item(node, 0) if name_of(node) in ("max", "min") else site.value(node)
    options = {k: v for k, v in others(node).items() if k in ("dim", "keepdim")}
    winner = WinnerOfDimRelevance(rule, least=name_of(node) in ("amin", "min"))
    call = site.call(winner, site.relevance, site.value(operand), output, **options)
    return {operand: [call]}


def _default(node: fx.Node, facts: Facts) -> Rule:
    return Uniform() if facts.is_categorical(node) else Proportional()


def _kind_of_average(name: str) -> str:
    if name in UPSAMPLES:
        return "interpolation"
    return "average pooling" if row_named(name).inside else "sum"


_WINNER = "winner takes all (Bach et al. 2015; Montavon et al. 2019)"

OPERATIONS = [
    *(
        Operation(
            name=name,
            kind=_kind_of_average(name),
            operands=first,
            default=_default,
            default_label="Proportional",
            alternatives=(Proportional, Uniform),
            write=_write_average,
            source="x · Jᵀ[R / S(y)]: the ε rule on the operation's own weights",
        )
        for name in AVERAGING
    ),
    *(
        Operation(
            name=name,
            kind="max pooling",
            operands=first,
            default=always(Winner()),
            alternatives=(Winner, Proportional, Uniform)
            if name.startswith("max_pool")
            else (Winner,),
            write=_write_max_pool,
            source=_WINNER,
        )
        for name in (
            *(f"max_pool{dims}d_with_indices" for dims in (1, 2, 3)),
            *(f"adaptive_max_pool{dims}d" for dims in (1, 2, 3)),
        )
    ),
    *(
        Operation(
            name=name,
            kind="max pooling",
            operands=first,
            default=always(Winner()),
            alternatives=(Winner,),
            write=_write_max_of_dim,
            source=_WINNER,
        )
        for name in ("amax", "max", "amin", "min")
    ),
]
