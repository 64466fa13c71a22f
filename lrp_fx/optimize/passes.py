"""The passes over a written LRP graph, in the order in which they run.

An optimization consists of a function on a :class:`~lrp_fx.optimize.draft.Draft` in a file of its
own, a field of :class:`~lrp_fx.Optimizations` that switches it on, and a line here. Two
optimizations are no passes: ``stand_ins`` is decided before the graph is written, and ``stacked``
when it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from lrp_fx.optimize.draft import Draft
from lrp_fx.optimize.in_place import activate_in_place, overwrite_relevance
from lrp_fx.optimize.kernels import take_kernels
from lrp_fx.optimize.layout import prefer_layout
from lrp_fx.optimize.recompute import recompute
from lrp_fx.optimize.residuals import take_differences
from lrp_fx.optimize.sparse import restrict_filtered


@dataclass(frozen=True)
class Pass:
    """A change of an LRP graph that keeps its results up to rounding.

    Args:
        name: the field of :class:`~lrp_fx.Optimizations` that switches it on.
        run: changes the draft in place.
        text: what it does.
    """

    name: str
    run: Callable[[Draft], None]
    text: str


PASSES = (
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
