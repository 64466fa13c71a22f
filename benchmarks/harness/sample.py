"""A sample of a suite: a model, its inputs, and which of its outputs is explained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

BATCH = 2


@dataclass(frozen=True)
class Sample:
    """A model with what is to be explained of it."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    output: str | int | None = None

    def to(self, dtype: torch.dtype) -> Sample:
        inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in self.inputs)
        return replace(self, model=self.model.to(dtype), inputs=inputs)

    @torch.no_grad()
    def outputs(self) -> Tensor:
        own = self.model(*self.inputs)
        return own if self.output is None else own[self.output]
