"""Which optimizations are on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lrp_fx._checks import check_flag


@dataclass(frozen=True)
class Optimizations:
    """What of the LRP graph is optimized; no choice changes a result by more than rounding.

    Args:
        stand_ins: the output of a ReLU stands in for its input wherever relevance can only be where
            both are equal, so that the input need not be kept.
        in_place: activations and relevance are overwritten where nobody reads them again.
        channels_last: convolutions run in the memory layout that their backend is fastest in.
        kernels: dense layers and 1×1 convolutions run in oneDNN where torch would take its BLAS, and
            that is slower.
        sparse: behind a filter, what is multiplied with zero is left out, in each layer where that is
            faster.
        stacked: the targets that :meth:`~lrp_fx.LRPFx.attribute_many` explains for a single sample run
            as a batch, as many at once as fit the cache.

    Raises:
        OptionError: for anything but True and False.
    """

    stand_ins: bool = True
    in_place: bool = True
    channels_last: bool = True
    kernels: bool = True
    sparse: bool = True
    stacked: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            check_flag(field.name, getattr(self, field.name))

    @property
    def passes(self) -> tuple[str, ...]:
        """The names of those that are on."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name))


NOTHING = Optimizations(**{field.name: False for field in fields(Optimizations)})
"""The LRP graph as it is written."""
