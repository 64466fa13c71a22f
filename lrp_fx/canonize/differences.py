"""A layer that is subtracted: the layer of negative weights, added.

What speaks for ``a - W x`` are the negative parts of ``W x``. So it is with ``a + (-W x)`` and with
``a + W' x`` of ``W' = -W``, and all of them are one map.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.canonize.affine import AFFINE, BEHIND, LINEAR
from lrp_fx.canonize.sums import is_whole, sum_of, write_sum
from lrp_fx.graph import depends_on_inputs, name_of, replace_by

_LAYERS = LINEAR | {"product"}


def add_negatives(graph: fx.Graph) -> None:
    """Write sums of which a layer's output is taken away with its negative, in place."""
    for node in [each for each in graph.nodes if is_whole(each)]:
        whole = sum_of(node)
        turned = [term for term in whole.terms if term.is_turned and _is_layer(term.value)]
        moves = (depends_on_inputs(term.value) for term in whole.terms)
        if any(depends_on_inputs(term.value) for term in turned) and sum(moves) > 1:
            with graph.inserting_before(node):
                total = write_sum(graph, node, whole)
            replace_by(node, total)


def _is_layer(value: Any) -> bool:
    """Whether a value is a layer's output, behind constant scales and shifts and views of it."""
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
