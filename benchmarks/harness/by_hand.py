"""LRP written by hand: the adjoint of a layer, and a VGG, by somebody who needs just that."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG

aten = torch.ops.aten
EPS = 1e-6


def quotient(r: Tensor, z: Tensor) -> Tensor:
    return r / torch.where(z >= 0, z + EPS, z - EPS)


class HandWrittenVGG:
    """ε or z⁺ on all layers of a VGG, for one target.

    Dropout does nothing, and a ReLU passes relevance on: where its output is zero no relevance
    arrives, so the output stands in for its input. Images have 224 pixels a side.
    """

    def __init__(self, model: VGG, rule: Literal["epsilon", "z_plus"]) -> None:
        layers: list[nn.Module] = [*model.features, nn.Flatten(1), *model.classifier]
        self.layers = [each for each in layers if not isinstance(each, (nn.ReLU, nn.Dropout))]
        self.positive = {}
        if rule == "z_plus":
            for i, layer in enumerate(self.layers):
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    self.positive[i] = (layer.weight.clamp(min=0), layer.bias.clamp(min=0))
            self.negative = self.layers[0].weight.clamp(max=0)

    @torch.no_grad()
    def __call__(self, x: Tensor, target: int) -> Tensor:
        inputs, indices = [], {}
        for i, layer in enumerate(self.layers):
            inputs.append(x)
            if isinstance(layer, nn.MaxPool2d):
                x, indices[i] = aten.max_pool2d_with_indices(x, 2, 2)
            else:
                x = layer(x)
                if isinstance(layer, nn.Conv2d) or (
                    isinstance(layer, nn.Linear) and i < len(self.layers) - 1
                ):
                    x = x.relu_()
        r = torch.zeros_like(x)
        r[:, target] = x[:, target]
        y = x
        for i in reversed(range(len(self.layers))):
            layer, x = self.layers[i], inputs.pop()
            if isinstance(layer, nn.Flatten):
                r = x * quotient(r.reshape(x.shape), x)  # the pooling, from 7×7 to 7×7
            elif isinstance(layer, nn.MaxPool2d):
                r = aten.max_pool2d_with_indices_backward(
                    r, x, (2, 2), (2, 2), (0, 0), (1, 1), False, indices.pop(i)
                )
            elif self.positive:
                r = self.z_plus(i, layer, x, r)
            else:
                r = x * adjoint(layer, quotient(r, y), x, layer.weight)
            y = x
        return r

    def z_plus(self, i: int, layer: Any, x: Tensor, r: Tensor) -> Tensor:
        weight, bias = self.positive[i]
        if i > 0:
            return x * adjoint(layer, quotient(r, apply(layer, x, weight, bias)), x, weight)
        up, down = x.clamp(min=0), x.clamp(max=0)  # the image has both signs
        z = apply(layer, up, weight, bias) + apply(layer, down, self.negative, None)
        q = quotient(r, z)
        return up * adjoint(layer, q, x, weight) + down * adjoint(layer, q, x, self.negative)


def apply(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=1)


def adjoint(layer: Any, q: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Of a linear layer a product; of a convolution the kernel that autograd would call."""
    if isinstance(layer, nn.Linear):
        return q @ weight
    places = layer.stride, layer.padding, layer.dilation, False, (0, 0), layer.groups
    result: Tensor = aten.convolution_backward(q, x, weight, None, *places, (True, False, False))[0]
    return result
