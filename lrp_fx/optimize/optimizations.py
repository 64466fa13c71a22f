"""The switches of the optimizations."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lrp_fx._checks import check_flag


@dataclass(frozen=True)
class Optimizations:
    """Which optimizations of the LRP graph are on. None changes a result by more than rounding.

    Args:
        stand_ins: use the output of a ReLU in place of its input, where relevance can be nonzero
            only
            if both are equal. The input then need not be kept.
        in_place: overwrite activations and relevance that are not read again.
        channels_last: run convolutions in the memory layout that is fastest on their backend.
        kernels: run dense layers and 1×1 convolutions in oneDNN where torch would use a slower
            BLAS.
        sparse: behind a filter, skip multiplications by zero in each layer where this is faster.
        stacked: run the targets of :meth:`~lrp_fx.LRPFx.attribute_many` for a single sample as a
            batch, as many at a time as fit the cache.

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
        """The names of the optimizations that are on."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name))


NOTHING = Optimizations(**{field.name: False for field in fields(Optimizations)})
"""No optimizations: the LRP graph as it is written."""
