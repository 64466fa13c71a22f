"""Channel masks: relevance goes through chosen channels of a layer alone, or round none of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lrp_fx.errors import InputError
from lrp_fx.relevance.node import EdgeRelevance

Channels = Sequence[int]


class MaskRelevance(EdgeRelevance):
    """Only the relevance of some channels goes on; of all, where a run names none.

    Args:
        layer: the layer whose channels they are, for messages.
        dim: the dimension of the channels.
    """

    kind = "mask"

    def __init__(self, layer: str, dim: int) -> None:
        super().__init__()
        self.layer, self.dim = layer, dim

    def extra_repr(self) -> str:
        """The layer."""
        return self.layer

    def propagate(self, relevance: Tensor, channels: Channels | None) -> Tensor:
        """The relevance with the other channels set to zero, of the same shape.

        Raises:
            InputError: for a channel that the layer does not have.
        """
        if channels is None:
            return relevance
        dim = check_dim(self.layer, relevance, self.dim)
        count = relevance.shape[dim]
        wrong = [channel for channel in channels if not -count <= channel < count]
        if wrong:
            raise InputError(f"the layer '{self.layer}' has {count} channels, and no {wrong[0]}")
        places = torch.tensor([c % count for c in channels], device=relevance.device)
        places = torch.unique(places.long())
        kept = relevance.index_select(dim, places)
        return torch.zeros_like(relevance).index_copy(dim, places, kept)


class BypassRelevance(EdgeRelevance):
    """Relevance that goes round a masked layer: none goes on where a run names channels there."""

    kind = "mask"

    def propagate(self, relevance: Tensor, channels: Channels | None) -> Tensor:
        """The relevance, or zeros of its shape."""
        return relevance if channels is None else torch.zeros_like(relevance)


def check_dim(layer: str, relevance: Tensor, dim: int) -> int:
    """The dimension of the channels, from the front.

    Raises:
        InputError: if the layer's values have no such dimension.
    """
    if not -relevance.dim() <= dim < relevance.dim() or dim % relevance.dim() == 0:
        raise InputError(
            f"channel_dim={dim} is no dimension of channels of the layer '{layer}', whose values have "
            f"shape {tuple(relevance.shape)} with the batch in front"
        )
    return dim % relevance.dim()
