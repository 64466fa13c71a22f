"""Relevance through norms: layer, RMS, group and instance norms, batch norms not folded.

The statistic by which a norm divides counts as a constant. The rest of the norm is one affine map,
to which the ε rule applies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import NORMS, arguments, name_of
from lrp_fx.relevance.activation import PassRelevance
from lrp_fx.relevance.causes import Taken, by_stabilizer, together
from lrp_fx.relevance.engines import Engine, linearize
from lrp_fx.relevance.handling import Facts, Operation, Received, Site, argument
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Epsilon, Pass, Rule


class AffineRelevance(RelevanceNode):
    """``R_in = s x ⊙ R / S(y)`` for a batch norm ``y = s x + t``, with ``s`` and ``t`` per channel.

    This is the ε rule (Bach et al. 2015) with ``s = γ / sqrt(running_var + eps)``. The shift ``t``
    absorbs its share, like a bias.
    """

    def __init__(self, rule: Epsilon) -> None:
        super().__init__()
        self.rule = rule

    def propagate(
        self,
        relevance: Tensor,
        input: Tensor,
        output: Tensor,
        weight: Tensor | None,
        running_var: Tensor,
        eps: float,
    ) -> Tensor:
        """The relevance of the input, (N, C, …).

        Args:
            relevance: the relevance of the output, (N, C, …).
            input: the input ``x``, (N, C, …).
            output: the output ``y``, (N, C, …).
            weight: γ, (C,), or None for ones.
            running_var: the running variance, (C,).
            eps: added to the variance.
        """
        scale = _batch_scale(input, weight, running_var, eps)
        return input * scale * self.rule.stabilizer.quotient(relevance, output)

    def taken(self, relevance: Tensor, input: Tensor, output: Tensor, *parameters: Any) -> Taken:
        """The shares of the shift ``t = y − s x`` and of the stabilizer."""
        shift = output - input * _batch_scale(input, *parameters)
        quotient = self.rule.stabilizer.quotient(relevance, output)
        taken = by_stabilizer(self.rule.stabilizer, relevance, output)
        return together(taken, {"bias": (quotient * shift).sum()})


def _batch_scale(input: Tensor, weight: Tensor | None, running_var: Tensor, eps: float) -> Tensor:
    scale = (running_var + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    return scale.reshape(-1, *[1] * (input.dim() - 2))


class StandardizeRelevance(RelevanceNode):
    """``R_in = x ⊙ Jᵀ[R / S(y)]`` for ``y = γ (x − mean) / σ + β`` with σ as a constant.

    The ε rule (Bach et al. 2015) with ``J = diag(γ/σ)(I − 11ᵀ/n)`` over the ``n`` entries that are
    normalized together. RMS norm subtracts no mean: ``J = diag(γ/σ)``.

    Args:
        rule: the ε rule.
        name: the ATen name of the operation.
        engine: the engine that computes the adjoint.
    """

    result = "new"

    def __init__(self, rule: Epsilon, name: str, engine: Engine) -> None:
        super().__init__()
        self.rule, self.name = rule, name
        self.engine: Engine = engine

    def propagate(
        self,
        relevance: Tensor,
        input: Tensor,
        output: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float | None,
        extent: Any = None,
    ) -> Tensor:
        """The relevance of the input, of its shape.

        Args:
            relevance: the relevance of the output, (N, …).
            input: the input ``x``, (N, …).
            output: the output ``y``, (N, …).
            weight: γ, if any.
            bias: β, if any.
            eps: added to the variance; None for the machine epsilon of the dtype.
            extent: the normalized shape (layer and RMS norm), or the number of groups (group norm).
        """
        per_channel = self.name in ("group_norm", "instance_norm")
        frame = _grouped(input, extent) if per_channel else input
        dims = list(range(2, frame.dim())) if per_channel else list(range(-len(extent), 0))
        eps = torch.finfo(input.dtype).eps if eps is None else eps
        centre: Callable[[Tensor], Tensor] = _identity
        if self.name != "rms_norm":
            centre = _centre(frame.shape if per_channel else None, dims)
        scale = (centre(input).reshape(frame.shape).square().mean(dims, keepdim=True) + eps).rsqrt()
        scale = scale.expand(frame.shape).reshape(input.shape)
        if weight is not None:
            scale = scale * _along(weight, input, per_channel)

        def forward(x: Tensor) -> Tensor:
            y = scale * centre(x)
            return y if bias is None else y + _along(bias, input, per_channel)

        _, pullback = linearize(self.engine, forward, lambda q: centre(q * scale), input, output)
        return input * pullback(self.rule.stabilizer.quotient(relevance, output))

    def taken(
        self,
        relevance: Tensor,
        input: Tensor,
        output: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        *options: Any,
    ) -> Taken:
        """The shares of β and of the stabilizer."""
        taken = by_stabilizer(self.rule.stabilizer, relevance, output)
        if bias is None:
            return taken
        shift = _along(bias, input, self.name in ("group_norm", "instance_norm"))
        quotient = self.rule.stabilizer.quotient(relevance, output)
        return together(taken, {"bias": (quotient * shift).sum()})


def _identity(x: Tensor) -> Tensor:
    return x


def _centre(shape: torch.Size | None, dims: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """The map ``x ↦ (I − 11ᵀ/n) x`` over ``dims`` of ``x`` reshaped to ``shape``.

    It is symmetric, and so its own adjoint.
    """

    def centre(x: Tensor) -> Tensor:
        frame = x if shape is None else x.reshape(shape)
        return (frame - frame.mean(list(dims), keepdim=True)).reshape(x.shape)

    return centre


def _grouped(x: Tensor, groups: int | None) -> Tensor:
    """Reshape (N, C, …) to (N, groups, …). For instance norm, each channel is a group."""
    return x.reshape(x.shape[0], x.shape[1] if groups is None else groups, -1)


def _along(parameter: Tensor, input: Tensor, per_channel: bool) -> Tensor:
    """γ or β, reshaped so that it broadcasts to the input."""
    return parameter.reshape(-1, *[1] * (input.dim() - 2)) if per_channel else parameter


def _default(node: fx.Node, facts: Facts) -> Rule:
    return Pass() if facts.is_preprocessing(node) else Epsilon()


def _write_batch_norm(site: Site) -> Received:
    bound: dict[str, Any] = arguments(site.node)
    operand = bound["input"]
    if isinstance(site.rule, Pass):
        return {operand: [site.call(PassRelevance(), site.relevance)]}
    assert isinstance(site.rule, Epsilon)
    values = site.value((operand, site.node, bound["weight"], bound["running_var"]))
    call = site.call(AffineRelevance(site.rule), site.relevance, *values, bound["eps"])
    return {operand: [call]}


def _write_standardize(site: Site) -> Received:
    bound: dict[str, Any] = arguments(site.node)
    operand = bound["input"]
    if isinstance(site.rule, Pass):
        return {operand: [site.call(PassRelevance(), site.relevance)]}
    assert isinstance(site.rule, Epsilon)
    extent = bound.get("normalized_shape", bound.get("num_groups"))
    values = (operand, site.node, bound["weight"], bound.get("bias"), bound["eps"], extent)
    module = StandardizeRelevance(site.rule, name_of(site.node), site.engine)
    return {operand: [site.call(module, site.relevance, *site.value(values))]}


OPERATIONS = [
    Operation(
        name="batch_norm",
        kind="normalization",
        operands=argument("input"),
        default=_default,
        default_label="Epsilon on the affine map; Pass on a model input",
        alternatives=(Epsilon, Pass),
        write=_write_batch_norm,
        source="ε rule on y = s x + t",
    ),
    *(
        Operation(
            name=name,
            kind="normalization",
            operands=argument("input"),
            default=_default,
            default_label="Epsilon with the statistic as a constant; Pass on a model input",
            alternatives=(Epsilon, Pass),
            write=_write_standardize,
            source="ε rule on diag(γ/σ)(I − 11ᵀ/n) x + β as one map; Pass: Achtibat et al. 2024",
        )
        for name in sorted(NORMS)
    ),
]
