"""Auxiliary nodes of the relevance pass: bounds of the input, and the end at a constant."""

from __future__ import annotations

import torch
from torch import Tensor

from lrp_fx.errors import InputError
from lrp_fx.relevance.causes import Taken
from lrp_fx.relevance.node import RelevanceNode


class BoundRelevance(RelevanceNode):
    """A bound of the model's input for the zᴮ rule (Montavon et al. 2017), expanded to its shape.

    The node returns a value and no relevance, ``l`` or ``h`` in the formula of :class:`ZBox`.

    Args:
        bound: the bound; it broadcasts to the input without its batch dimension.
    """

    books = "nothing"

    def __init__(self, bound: float | Tensor) -> None:
        super().__init__()
        # float64, because a Python number would become a float32 tensor
        self.register_buffer("bound", torch.as_tensor(bound, dtype=torch.float64))

    def propagate(self, input: Tensor) -> Tensor:
        """The bound in the shape of the input, (N, …).

        Raises:
            InputError: if the bound does not broadcast to that shape.
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
    """``R_in = 0``: a value that a rule treats as a constant keeps its relevance."""

    def propagate(self, relevance: Tensor) -> list[Tensor]:
        """An empty list: there are no inputs."""
        return []

    def taken(self, relevance: Tensor) -> Taken:
        """All of the relevance, as ``constant``."""
        return {"constant": relevance.sum()}
