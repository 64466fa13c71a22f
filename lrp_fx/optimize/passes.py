"""Optimizations: their switches, and the passes over an LRP graph in the order in which they run.

An optimization consists of a function on a :class:`~lrp_fx.optimize.draft.Draft` in a file of its
own, a field of :class:`Optimizations` that switches it on, and a line of :data:`PASSES`. Two
optimizations are not passes: ``stand_ins`` is decided before the graph is written, and ``stacked``
when it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from lrp_fx._common import check_choice, check_flag
from lrp_fx.optimize.attention import attend_in_blocks
from lrp_fx.optimize.draft import Draft
from lrp_fx.optimize.in_place import activate_in_place, overwrite_relevance
from lrp_fx.optimize.kernels import take_kernels
from lrp_fx.optimize.layout import prefer_layout
from lrp_fx.optimize.recompute import recompute
from lrp_fx.optimize.residuals import take_differences
from lrp_fx.optimize.sparse import restrict_filtered

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
        sparse: after a filter, skip multiplications by zero in each layer where this is faster.
        blocks: compute attention between many tokens in blocks of queries, once more in the
            relevance pass, so that no matrix over all pairs of tokens is held.
        stacked: run the targets of :meth:`~lrp_fx.LRPFx.attribute_many` for a single sample as a
            batch, as many at a time as fit the cache.
        recompute: keep activations only at about √n cuts of the graph, and compute the others again.
            This saves memory, and costs a second forward pass.
        precision: the dtype of the relevance pass, such as ``torch.bfloat16``, which is faster if the
            processor supports it, and less exact; None for the dtype of the activations.
        compiled: compile the LRP graph as a whole by ``torch.compile``. The first call with new shapes
            then takes about a minute. :meth:`~lrp_fx.LRPFx.attribute_many`,
            :meth:`~lrp_fx.LRPFx.audit` and ``create_graph`` run uncompiled. So does a batch of several
            samples in which a filter meets values whose layout hides the batch.

    Raises:
        OptionError: for a value that a field cannot have.
    """

    stand_ins: bool = True
    in_place: bool = True
    channels_last: bool = True
    kernels: bool = True
    sparse: bool = True
    blocks: bool = True
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


_off: dict[str, Any] = {each.name: False for each in fields(Optimizations) if each.default is True}
NOTHING = Optimizations(**_off)
"""No optimizations: the LRP graph as it is written."""


@dataclass(frozen=True)
class Pass:
    """A change of an LRP graph that keeps its results up to rounding.

    Args:
        name: the field of :class:`Optimizations` that switches it on.
        run: changes the draft in place.
        text: its effect, in words.
    """

    name: str
    run: Callable[[Draft], None]
    text: str


PASSES = (
    Pass("blocks", attend_in_blocks, "attention between many tokens runs in blocks of queries"),
    Pass("channels_last", prefer_layout, "images and kernels come in the layout of the backend"),
    Pass("recompute", recompute, "activations between cuts are computed again"),
    Pass("sparse", restrict_filtered, "one node leaves out what is multiplied with zero"),
    Pass("in_place", activate_in_place, "activations overwrite what they alone read"),
    Pass("in_place", take_differences, "sums overwrite a summand that can be recovered"),
    Pass("kernels", take_kernels, "dense layers take the fastest kernels"),
    Pass("in_place", overwrite_relevance, "relevance overwrites what it alone reads"),
)
"""The passes in their order.

``recompute`` copies forward nodes, so it runs before they may overwrite each other. It runs after
the layout pass, whose nodes it need not repeat. ``overwrite_relevance`` runs last, when the readers
of each value are final.
"""


def optimize(draft: Draft, names: Collection[str]) -> None:
    """Run the passes with these names."""
    for each in PASSES:
        if each.name in names:
            each.run(draft)
