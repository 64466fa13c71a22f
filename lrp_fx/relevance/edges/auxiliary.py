"""Nodes of the relevance pass that belong to no operation of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from lrp_fx.errors import InputError
from lrp_fx.relevance.causes import Taken
from lrp_fx.relevance.node import RelevanceNode


class BoundRelevance(RelevanceNode):
    """A bound of the model's input, spread to the input's shape; a value, not a relevance."""

    books = "nothing"

    def __init__(self, bound: float | Tensor) -> None:
        super().__init__()
        # in float64: a number would be rounded to float32
        self.register_buffer("bound", torch.as_tensor(bound, dtype=torch.float64))

    def propagate(self, input: Tensor) -> Tensor:
        """The bound, of the input's shape (N, …).

        Raises:
            InputError: if it does not broadcast to that shape.
        """
        assert isinstance(self.bound, Tensor)
        try:
            return self.bound.to(input).expand_as(input)
        except RuntimeError as error:
            raise InputError(
                f"a bound of ZBox has shape {tuple(self.bound.shape)}, which does not broadcast to the "
                f"input's {tuple(input.shape)}"
            ) from error


class KeepRelevance(RelevanceNode):
    """The relevance of a value that its rule treats as a constant: it goes nowhere."""

    def propagate(self, relevance: Tensor) -> list[Tensor]:
        """Nothing."""
        return []

    def taken(self, relevance: Tensor) -> Taken:
        """All of it."""
        return {"constant": relevance.sum()}
