"""Which optimizations are on."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from lrp_fx._checks import check_choice, check_flag

PRECISIONS = (None, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Optimizations:
    """How the LRP graph is optimized; only ``precision`` changes a result by more than rounding.

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
        """The names of those that are on."""
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
"""The LRP graph as it is written."""
