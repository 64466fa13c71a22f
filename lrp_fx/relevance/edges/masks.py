"""Channel masks: only the relevance of chosen channels of a layer goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lrp_fx.errors import InputError
from lrp_fx.relevance.node import EdgeRelevance

Channels = Sequence[int]


class MaskRelevance(EdgeRelevance):
    """``R_in = m ⊙ R`` with ``m`` one in the chosen channels of a layer and zero in all others.

    This is the conditional relevance of CRP (Achtibat et al. 2023). If a run chooses no channels
    for the layer, all relevance goes on.

    Args:
        layer: the name of the layer, for messages.
        dim: the dimension of the channels.
    """

    kind = "mask"

    def __init__(self, layer: str, dim: int) -> None:
        super().__init__()
        self.layer, self.dim = layer, dim

    def extra_repr(self) -> str:
        """The name of the layer."""
        return self.layer

    def propagate(self, relevance: Tensor, channels: Channels | None) -> Tensor:
        """The relevance with all other channels set to zero, of the same shape.

        Args:
            relevance: the relevance of the layer's output, (N, …).
            channels: the chosen channels, or None for all. Negative ones count from the end.

        Raises:
            InputError: if the layer does not have a channel or the dimension of the channels.
        """
        if channels is None:
            return relevance
        dim = check_dim(self.layer, relevance, self.dim)
        count = relevance.shape[dim]
        wrong = [channel for channel in channels if not -count <= channel < count]
        if wrong:
            raise InputError(
                f"the layer '{self.layer}' has {count} channels, but no channel {wrong[0]}"
            )
        places = torch.tensor([c % count for c in channels], device=relevance.device)
        places = torch.unique(places.long())
        kept = relevance.index_select(dim, places)
        return torch.zeros_like(relevance).index_copy(dim, places, kept)


class BypassRelevance(EdgeRelevance):
    """``R_in = R``, or zero if a run chooses channels of the layer that this relevance bypasses.

    It masks the branches parallel to a layer, so that all relevance goes through the chosen
    channels of the layer (Achtibat et al. 2023).
    """

    kind = "mask"

    def propagate(self, relevance: Tensor, channels: Channels | None) -> Tensor:
        """The relevance if ``channels`` is None, else zeros of its shape."""
        return relevance if channels is None else torch.zeros_like(relevance)


def check_dim(layer: str, relevance: Tensor, dim: int) -> int:
    """The dimension of the channels as a nonnegative number.

    Raises:
        InputError: if the values of the layer have no such dimension, or if it is the batch
            dimension.
    """
    if not -relevance.dim() <= dim < relevance.dim() or dim % relevance.dim() == 0:
        raise InputError(
            f"channel_dim={dim} is not a channel dimension of the layer '{layer}', whose values have "
            f"shape {tuple(relevance.shape)} with the batch in front"
        )
    return dim % relevance.dim()
