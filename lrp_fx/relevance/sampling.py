"""Relevance through operations that are linear in one operand, with weights that others choose.

Examples are sampling at positions, pooling in boxes, and deformable convolutions. Positions, boxes
and masks say where values are taken from; they get no relevance. Nor does a weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph import Packet, called, name_of
from lrp_fx.relevance.causes import Taken, by_stabilizer
from lrp_fx.relevance.handling import Operation, Received, Site, always, first, others
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.rules import Proportional, Winner

Map = Callable[..., Tensor]
"""A function from its linear operand and from other tensors to the result."""


class _Transposed(torch.autograd.Function):
    """``Jᵀ q`` for a function that is linear in its first operand, with a derivative.

    ``⟨v, Jᵀ q⟩ = ⟨J v, q⟩``. So the derivative with respect to ``q`` is the function itself, and that
    with respect to the other tensors is the function's own. Kernels need no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, function: Map, x: Tensor, q: Tensor, *more: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(q, *more)
        return _pulled(function, x, q, more)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        q, *more = ctx.saved_tensors
        (v,) = cotangents
        with torch.enable_grad():
            others = [_variable(tensor) for tensor in more]
            value = ctx.function(v.detach(), *others)
            wanted = [tensor for tensor in others if tensor.requires_grad]
            found = iter(
                torch.autograd.grad(value, wanted, q, allow_unused=True)
                if wanted and value.requires_grad
                else [None] * len(wanted)
            )
        gradients = [next(found) if tensor.requires_grad else None for tensor in others]
        return None, None, value.detach(), *gradients


def _variable(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.is_floating_point())


def _pulled(function: Map, x: Tensor, q: Tensor, more: tuple[Tensor, ...]) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        variable = torch.zeros_like(x, requires_grad=True)
        value = function(variable, *(tensor.detach().clone() for tensor in more))
        (pulled,) = torch.autograd.grad(value, variable, q.clone())
    return pulled


def transposed(function: Map, x: Tensor, q: Tensor, *more: Tensor) -> Tensor:
    """``Jᵀ q`` for ``y = J(more) x + b``, by the function's own derivative; of the shape of ``x``.

    Args:
        function: a function of ``x`` and ``more``.
        x: the operand in which it is linear; only its shape, dtype and device matter.
        q: the cotangent, of the shape of the result.
        more: the other tensors on which the result depends.
    """
    if torch.is_grad_enabled():
        pulled: Tensor = _Transposed.apply(function, x.detach(), q, *more)
        return pulled
    return _pulled(function, x, q, more)


class SampledRelevance(RelevanceNode):
    """``R_in = x ⊙ Jᵀ[R / S(y)]`` for ``y = Jx + b``, the ε rule (Bach et al. 2015), or ``Jᵀ R``.

    Positions, boxes, masks and weights choose ``J``. The second form is for operations whose ``J``
    moves single entries, such as the winners of a pooling to their places.

    Args:
        packet: the operation.
        rule: the rule.
        several: whether the operation returns more than its values.
    """

    result = "new"

    def __init__(self, packet: Packet, rule: Proportional | Winner, several: bool) -> None:
        super().__init__()
        self.packet, self.rule, self.several = packet, rule, several

    def propagate(
        self, relevance: Tensor, input: Tensor, output: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """The relevance of the linear operand, (N, …).

        Args:
            relevance: the relevance of the output.
            input: the linear operand ``x``.
            output: the output ``y``.
            options: the other arguments, by name.
        """
        tensors = {name: value for name, value in options.items() if isinstance(value, Tensor)}
        plain = {name: value for name, value in options.items() if name not in tensors}

        def function(x: Tensor, *more: Tensor) -> Tensor:
            named = dict(zip(tensors, more, strict=True))
            result: Any = self.packet(x, **named, **plain)
            value: Tensor = result[0] if self.several else result
            return value

        if isinstance(self.rule, Winner):
            return transposed(function, input, relevance, *tensors.values())
        quotient = self.rule.stabilizer.quotient(relevance, output)
        return input * transposed(function, input, quotient, *tensors.values())

    def taken(
        self, relevance: Tensor, input: Tensor, output: Tensor, options: dict[str, Any]
    ) -> Taken:
        """The shares of the stabilizer and of the bias; relevance of what was taken from nowhere."""
        passed = self.propagate(relevance, input, output, options).sum()
        if isinstance(self.rule, Winner):
            return {"padding": relevance.sum() - passed}
        taken = by_stabilizer(self.rule.stabilizer, relevance, output)
        if not isinstance(options.get("bias"), Tensor):
            return taken
        quotient = self.rule.stabilizer.quotient(relevance, output)
        bias = options["bias"].reshape(-1, *[1] * (relevance.dim() - 2))
        return {**taken, "bias": (quotient * bias).sum()}


class WinnerInBoxRelevance(RelevanceNode):
    """``R_i = Σ_j R_j`` over the cells ``j`` of boxes whose maximum is the entry ``x_i``.

    Boxes get no relevance. A cell that covers no entry has the value zero, and its relevance
    is lost.
    """

    result = "new"

    def propagate(
        self, relevance: Tensor, winners: Tensor, boxes: Tensor, shape: torch.Size
    ) -> Tensor:
        """The relevance of the images.

        Args:
            relevance: that of the cells, (K, C, h, w).
            winners: the place of the maximum of each cell, counted in rows; −1 in an empty one.
            boxes: the number of its image and the corners of each box, (K, 5).
            shape: of the images, (N, C, H, W).
        """
        images = boxes[:, 0].long()[:, None, None]
        channels = torch.arange(shape[1], device=relevance.device)[None, :, None]
        places = winners.flatten(2).long().clamp_min(0)
        shares = relevance.where(winners >= 0, 0).flatten(2)
        flat = relevance.new_zeros(*shape[:2], shape[2] * shape[3])
        return flat.index_put((images, channels, places), shares, accumulate=True).reshape(shape)

    def taken(self, relevance: Tensor, winners: Tensor, boxes: Tensor, shape: torch.Size) -> Taken:
        """The relevance of empty cells."""
        return {"padding": relevance.where(winners < 0, 0).sum()}


def _write_in_boxes(site: Site) -> Received:
    (operand,) = first(site.node)
    boxes = site.value(others(site.node)["rois"])
    values = (site.item(site.node, 1), boxes, site.shape(operand))
    return {operand: [site.call(WinnerInBoxRelevance(), site.relevance, *values)]}


_OF_VALUES = ("grid_sampler", "affine_grid_generator", "roi_align", "deform_conv2d")
_WITH_MAPPING = ("ps_roi_align", "ps_roi_pool")
_OF_WINNERS = ("max_unpool2d", "max_unpool3d")


def _write(site: Site) -> Received:
    node = site.node
    (operand,) = first(node)
    several = name_of(node) in _WITH_MAPPING
    assert isinstance(site.rule, (Proportional, Winner))
    output = site.item(node, 0) if several else site.value(node)
    module = SampledRelevance(called(node), site.rule, several)
    values = (site.value(operand), output, site.value(others(node)))
    return {operand: [site.call(module, site.relevance, *values)]}


def _operation(name: str, rule: Proportional | Winner) -> Operation:
    wins = isinstance(rule, Winner)
    return Operation(
        name=name,
        kind="choice" if wins else "interpolation",
        operands=first,
        default=always(rule),
        alternatives=(type(rule),),
        write=_write,
        source="to the entries that were chosen"
        if wins
        else "x · Jᵀ[R / S(y)]: the ε rule with the weights that positions and boxes give",
    )


OPERATIONS = [
    *(_operation(name, Proportional()) for name in (*_OF_VALUES, *_WITH_MAPPING)),
    *(_operation(name, Winner()) for name in _OF_WINNERS),
    Operation(
        name="roi_pool",
        kind="max pooling",
        operands=first,
        default=always(Winner()),
        write=_write_in_boxes,
        source="winner takes all, in each cell of a box (Bach et al. 2015)",
    ),
]
