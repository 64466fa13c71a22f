"""Dense layers and 1×1 convolutions by oneDNN, forward and adjoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph import as_tuple, aten, name_of
from lrp_fx.optimize.draft import Draft
from lrp_fx.optimize.onednn import by_onednn, linear, linear_adjoint, takes_onednn
from lrp_fx.relevance import ADJOINTS, Step


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **options: Any
) -> Tensor:
    """``torch.conv2d``. A 1×1 kernel on a channels-last image is a dense layer on the pixels."""
    bound = dict(zip(("stride", "padding", "dilation", "groups"), args, strict=False)) | options
    if _is_pointwise(weight, **bound) and _pixels_take_onednn(input, weight.flatten(1)):
        return _on_pixels(input, weight.flatten(1), bias)
    return aten.conv2d(input, weight, bias, **bound)


def conv2d_adjoint(q: Tensor, input: Tensor, weight: Tensor, **options: Any) -> Tensor:
    """The adjoint of :func:`conv2d`, of the shape of ``input``."""
    if _is_pointwise(weight, **options) and _pixels_take_onednn(q, weight.flatten(1).t()):
        return _on_pixels(q, weight.flatten(1).t(), None)
    return ADJOINTS["conv2d"](q, input, weight, **options)


_KERNELS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "linear": (linear, linear_adjoint),
    "conv2d": (conv2d, conv2d_adjoint),
}


def take_kernels(draft: Draft) -> None:
    """Use these kernels in the forward nodes and in the relevance nodes of the direct engine."""
    for node in draft.graph.nodes:
        if node.op == "call_function" and node.target in _TARGETS:
            node.target, _ = _KERNELS[name_of(node)]
    for path, module in draft.modules.items():
        if isinstance(module, Step) and module.formula.name in _KERNELS:
            kernel, adjoint = _KERNELS[module.formula.name]
            if module.engine == "direct":
                formula = replace(module.formula, kernel=kernel, adjoint=adjoint)
                draft.modules[path] = module.with_formula(formula)


_TARGETS = {
    target
    for name in _KERNELS
    for packet in [getattr(aten, name)]
    for target in (packet, *(getattr(packet, overload) for overload in packet.overloads()))
}


def _is_pointwise(
    weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> bool:
    """Whether a convolution computes each output pixel from the input pixel at the same position."""
    return (
        weight.shape[-1] == weight.shape[-2] == 1
        and groups == 1
        and as_tuple(stride, 2) == (1, 1)
        and as_tuple(padding, 2) == (0, 0)
    )


def _pixels_take_onednn(image: Tensor, matrix: Tensor) -> bool:
    """Whether an image (N, C, H, W) is in channels-last layout and its product suits oneDNN."""
    return (
        takes_onednn(image, matrix)
        and image.dim() == 4
        and image.is_contiguous(memory_format=torch.channels_last)
    )


def _on_pixels(image: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a dense layer to each pixel of an image (N, C, H, W)."""
    return by_onednn(image.permute(0, 2, 3, 1), matrix, bias).permute(0, 3, 1, 2)
