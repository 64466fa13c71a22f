"""A small model around a function, explained, and by input × gradient with parts held."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.numbers import numbers

Function = Callable[[Tensor], Tensor]


class Model(nn.Module):
    """``out(function(self, x))`` with three linear maps without biases to choose from."""

    def __init__(self, function: Callable[..., Tensor], outputs: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name in ("a", "b", "c"):
            setattr(self, name, nn.Linear(4, 5, bias=False))
        self.out = nn.Linear(outputs, 2, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.function(self, x))


def relevance(function: Callable[..., Tensor], x: Tensor, outputs: int = 5, **options) -> Tensor:
    composite = options.pop("composite", "zero")
    model = Model(function, outputs).double()
    return LRPFx(model, composite, **options).attribute(x, target=1)


def held(function: Callable[..., Tensor], x: Tensor, outputs: int = 5) -> Tensor:
    """Input times gradient; the function holds what gets nothing with ``detach``."""
    leaf = x.clone().requires_grad_()
    output = Model(function, outputs).double()(leaf)[:, 1].sum()
    return leaf.detach() * torch.autograd.grad(output, leaf)[0]


X = numbers(3, 4)


def share(z: Tensor) -> Tensor:
    positive = (z - z.amax(1, keepdim=True)).exp()
    return positive / positive.sum(1, keepdim=True)


def two(function: Callable[[Tensor, Tensor], Tensor], **options) -> tuple[Tensor, ...]:
    """The relevance of two inputs of a function, (N, 5), that is summed up."""

    class Two(nn.Module):
        def forward(self, u: Tensor, v: Tensor) -> Tensor:
            return function(u * 1, v * 1)

    composite = options.pop("composite", "zero")
    lrp = LRPFx(Two(), composite, start=lambda output: torch.ones_like(output), **options)
    return lrp.attribute((numbers(2, 5, seed=3), numbers(2, 5, seed=4)))
