"""Subtracted layers: rewritten as added layers with negative weights.

The negative parts of ``W x`` speak for ``a - W x``. Written with ``W' = -W``, as ``a + W' x``,
these are the positive parts of the layer. Thus ``a - W x``, ``a + (-W x)`` and ``a + W' x`` get the
same map.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.canonize.affine import AFFINE, LINEAR
from lrp_fx.canonize.carrying import BEHIND
from lrp_fx.canonize.sums import is_whole, sum_of, write_sum
from lrp_fx.graph import depends_on_inputs, name_of, replace_by

_LAYERS = LINEAR | {"product"}


def add_negatives(graph: fx.Graph) -> None:
    """Rewrite sums that subtract a layer's output as sums that add its negative, in place."""
    for node in [each for each in graph.nodes if is_whole(each)]:
        whole = sum_of(node)
        turned = [term for term in whole.terms if term.is_turned and _is_layer(term.value)]
        moves = (depends_on_inputs(term.value) for term in whole.terms)
        if any(depends_on_inputs(term.value) for term in turned) and sum(moves) > 1:
            with graph.inserting_before(node):
                total = write_sum(graph, node, whole)
            replace_by(node, total)


def _is_layer(value: Any) -> bool:
    """Whether a value is a layer's output, behind constant scales and shifts and views."""
    while isinstance(value, fx.Node) and len(value.users) == 1:
        name = name_of(value)
        if name in _LAYERS:
            return True
        if name == "batch_norm" or name in BEHIND:
            value = value.args[0]
        elif name in AFFINE:
            moving = [source for source in value.all_input_nodes if depends_on_inputs(source)]
            if len(moving) != 1:
                return False
            (value,) = moving
        else:
            return False
    return False
