"""The switches of the optimizations."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from lrp_fx._checks import check_choice, check_flag

PRECISIONS = (None, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Optimizations:
    """Which optimizations of the LRP graph are on.

    Only ``precision`` changes a result by more than rounding.

    Args:
        stand_ins: use the output of a ReLU in place of its input, where relevance can be nonzero
            only if both are equal. The input then need not be kept.
        in_place: overwrite activations and relevance that are not read again.
        channels_last: run convolutions in the memory layout that is fastest on their backend.
        kernels: run dense layers and 1×1 convolutions in oneDNN where torch would use a slower
            BLAS.
        sparse: behind a filter, skip multiplications by zero in each layer where this is faster.
        stacked: run the targets of :meth:`~lrp_fx.LRPFx.attribute_many` for a single sample as a
            batch, as many at a time as fit the cache.
        recompute: only the activations at about √n cuts of the graph are kept, and the others computed
            again: less memory, for a second forward pass.
        precision: the dtype of the relevance pass, such as ``torch.bfloat16``, which is faster where the
            processor has it and has an error of its own; None for that of the activations.
        compiled: ``torch.compile`` makes one piece of the LRP graph. The first call with new shapes then
            takes a minute or so. :meth:`~lrp_fx.LRPFx.attribute_many`, :meth:`~lrp_fx.LRPFx.audit` and
            ``create_graph`` run uncompiled, and so does a batch of several samples where a filter
            meets values whose layout hides the batch.

    Raises:
        OptionError: for a value that a field cannot have.
    """

    stand_ins: bool = True
    in_place: bool = True
    channels_last: bool = True
    kernels: bool = True
    sparse: bool = True
    stacked: bool = True
    recompute: bool = False
    precision: torch.dtype | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "precision":
                check_flag(field.name, getattr(self, field.name))
        check_choice("precision", self.precision, PRECISIONS)

    @property
    def passes(self) -> tuple[str, ...]:
        """The names of the optimizations that are on."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is True)

    def as_written(self) -> Optimizations:
        """The same precision and memory on the nodes as they are written, which the ledger audits."""
        return replace(NOTHING, recompute=self.recompute, precision=self.precision)


NOTHING = Optimizations(
    stand_ins=False,
    in_place=False,
    channels_last=False,
    kernels=False,
    sparse=False,
    stacked=False,
)
"""No optimizations: the LRP graph as it is written."""
