"""The figures of a ledger and of an attribution graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrp_fx._common import needed
from lrp_fx.attribution import Ledger
from lrp_fx.concepts import AttributionGraph
from lrp_fx.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ledger_figure(ledger: Ledger) -> Figure:
    """Where relevance went, from the output (left) to the inputs: the same as ``ledger.plot()``.

    The upper panel shows what is left of the start after each node, and Σ |R| that each node
    passed on, with explosions marked by name. The lower panel shows what each node took, by cause.
    All values are shares of the start, averaged over the samples.

    Args:
        ledger: what ``lrp.audit(x, target)`` returns.

    Raises:
        InputError: if it is not a ledger.
        OptionError: if matplotlib is missing.
    """
    if not isinstance(ledger, Ledger):
        raise InputError(
            f"ledger_figure needs a ledger, lrp.audit(x, target), not {type(ledger).__name__}"
        )
    with needed("pictures need"):
        return ledger.plot()


def concept_figure(graph: AttributionGraph) -> Figure:
    """A column of channels for each layer, the output on the left: the same as ``graph.plot()``.

    Args:
        graph: what ``ConceptLRPFx.attribution_graph`` returns.

    Raises:
        InputError: if it is not an attribution graph.
        OptionError: if matplotlib is missing.
    """
    if not isinstance(graph, AttributionGraph):
        raise InputError(
            "concept_figure needs an attribution graph, ConceptLRPFx(model).attribution_graph(...), "
            f"not {type(graph).__name__}"
        )
    with needed("pictures need"):
        return graph.plot()
