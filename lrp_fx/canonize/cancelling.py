"""Terms that cancel each other leave a sum: ``a + (q - a)`` is ``q``.

Values that are rounded or quantized are written like this, with a detached difference, so that
gradients pass by the rounding.
"""

from __future__ import annotations

from torch import fx

from lrp_fx.canonize.sums import Sum, Term, is_whole, sum_of, write_sum
from lrp_fx.graph import broadcast_shape, equal_calls, replace_by, shapes_of


def cancel_terms(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Drop the terms of each sum that add up to nothing, in place.

    Args:
        graph: the graph to edit.
        module: holds the parameters of the graph.
    """
    first = equal_calls(graph)
    for root in [node for node in graph.nodes if is_whole(node)]:
        whole = sum_of(root)
        scales = dict.fromkeys(map(first.__getitem__, (t.value for t in whole.terms)), 0.0)
        for term in whole.terms:
            scales[first[term.value]] += term.scale
        kept = tuple(term for term in whole.terms if scales[first[term.value]] != 0)
        if len(kept) < len(whole.terms) and _have_form_of(kept, root, module):
            with graph.inserting_before(root):
                replace_by(root, write_sum(graph, root, Sum(kept, whole.number)))


def _have_form_of(terms: tuple[Term, ...], root: fx.Node, module: fx.GraphModule) -> bool:
    """Whether some terms alone add up to a value of the same shape and dtype."""
    shapes = shapes_of(module)
    total, values = shapes(root), [shapes(term.value) for term in terms]
    known = [value for value in values if value is not None]
    if total is None or not known or len(known) < len(values):
        return False
    shape = broadcast_shape(*(each.shape for each in known))
    return shape == total.shape and all(each.dtype == total.dtype for each in known)
