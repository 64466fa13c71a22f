"""Terms and numbers that cancel each other leave a sum: ``a + (q - a)`` is ``q``, ``3 x / 3`` is ``x``.

Code that rounds or quantizes values is often written like the first one, with a detached difference,
so that gradients bypass the rounding.
"""

from __future__ import annotations

from torch import fx

from lrp_fx.canonize.numbers import are_equal
from lrp_fx.canonize.sums import Sum, Term, is_whole, sum_of, write_sum
from lrp_fx.graph import (
    aten,
    broadcast_shape,
    call_like,
    equal_calls,
    is_call,
    replace_by,
    shapes_of,
)


def cancel_terms(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Drop the terms of each sum that add up to nothing, in place.

    A sum that is one value, or its negative, becomes that: ``x + 0``, ``-(-x)``, ``x / 2 + x / 2``.

    Args:
        graph: the graph to edit.
        module: holds the parameters of the graph.
    """
    first = equal_calls(graph)
    for root in [node for node in graph.nodes if is_whole(node)]:
        whole = sum_of(root)
        scales: dict[fx.Node, float] = {}  # by the first of equal values; it may be replaced by now
        for term in whole.terms:
            key = first.get(term.value, term.value)
            scales[key] = scales.get(key, 0.0) + term.scale
        kept = tuple(t for t in whole.terms if scales[first.get(t.value, t.value)] != 0)
        left = [scale for scale in scales.values() if scale != 0]
        is_one = len(left) == 1 and whole.number == 0 and are_equal(abs(left[0]), 1)
        is_one = is_one and not _is_written(root, kept[0].value)
        if (is_one or len(kept) < len(whole.terms)) and _have_form_of(kept, root, module):
            with graph.inserting_before(root):
                if not is_one:
                    written = write_sum(graph, root, Sum(kept, whole.number))
                elif left[0] > 0:
                    written = kept[0].value
                else:
                    written = call_like(graph, root, aten.neg, kept[0].value)
                replace_by(root, written)


def _is_written(root: fx.Node, value: fx.Node) -> bool:
    """Whether a sum of one value is that value, or written as its negative already."""
    return root is value or (is_call(root, "neg") and root.args[0] is value)


def _have_form_of(terms: tuple[Term, ...], root: fx.Node, module: fx.GraphModule) -> bool:
    """Whether some terms alone add up to a value of the same shape and dtype."""
    shapes = shapes_of(module)
    total, values = shapes(root), [shapes(term.value) for term in terms]
    known = [value for value in values if value is not None]
    if total is None or not known or len(known) < len(values):
        return False
    shape = broadcast_shape(*(each.shape for each in known))
    return shape == total.shape and all(each.dtype == total.dtype for each in known)
