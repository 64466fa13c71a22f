"""Rewrites values that have an operation of their own but are written with others.

Examples are a sigmoid written by its exponential, a softmax by its sum, and a dot product by a
matrix product. Each then gets the rule of what it is, not of the operations that it was written
with.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import fx

from lrp_fx.canonize.dot_products import DOT_PRODUCTS
from lrp_fx.canonize.log_space import exponential_of, logarithm
from lrp_fx.canonize.numbers import scaled_by, unwound
from lrp_fx.canonize.pieces import (
    entry_kept,
    joined_again,
    only_entry_selected,
    only_entry_unbound,
    pieces_of_joined,
    whole_slice,
)
from lrp_fx.canonize.roots import root
from lrp_fx.canonize.sigmoids import divided, multiplied, reciprocal, shifted
from lrp_fx.canonize.softmaxes import plain_softmax
from lrp_fx.graph import (
    ADDITIONS,
    arguments,
    aten,
    call_like,
    name_of,
    packet_of,
    replace_by,
    row_of,
)

Rewriting = Callable[[fx.Node, fx.Graph], "fx.Node | None"]


def one_spelling(graph: fx.Graph) -> None:
    """Rewrite every call in ``_SPELLINGS``, in place; runs after :func:`one_vocabulary`."""
    for node in list(graph.nodes):
        if node.op != "call_function" or packet_of(node.target) is None:
            continue
        rewriting = _SPELLINGS.get(name_of(node))
        if rewriting is None:
            continue
        last = node.prev
        with graph.inserting_before(node):
            substitute = rewriting(node, graph)
        _erase_attempts(graph, last, node, substitute)
        if substitute is not None:
            replace_by(node, substitute)


def _erase_attempts(
    graph: fx.Graph, last: fx.Node, node: fx.Node, substitute: fx.Node | None
) -> None:
    """Erase what was written between two nodes and is not needed: it counts as a reader of values."""
    written = node.prev
    while written is not last:
        before = written.prev
        if not written.users and written is not substitute:
            graph.erase_node(written)
        written = before


def _finite(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """Remove ``nan_to_num`` of a bounded function. Of a softmax it concerns fully masked rows."""
    b = arguments(node)
    source: fx.Node = b["self"]
    row = row_of(source)
    if b["nan"] not in (None, 0) or not math.isfinite(row.high - row.low):
        return None
    if row.normalizes:
        of_source = arguments(source)
        dtype = {} if of_source.get("dtype") is None else {"dtype": of_source["dtype"]}
        values = (of_source["self"], of_source["dim"])
        safe = call_like(graph, node, aten._safe_softmax, *values, **dtype)
        return safe
    return source


def _least(node: fx.Node, graph: fx.Graph) -> fx.Node | None:
    """``amin(-x)`` as ``-amax(x)``, ``minimum(-x, -y)`` as ``-maximum(x, y)``, and vice versa."""
    count = 2 if name_of(node) in ("minimum", "maximum") else 1
    (scale, shift, _), *rest = parts = [unwound(value) for value in node.args[:count]]
    if scale >= 0 or shift != 0 or any((own, more) != (scale, 0) for own, more, _ in rest):
        return None
    inner = [value for *_, value in parts]
    opposite = call_like(graph, node, _OPPOSITE[name_of(node)], *inner, *node.args[count:])
    return scaled_by(graph, node, opposite, scale)


_OPPOSITE = {
    **{"amin": aten.amax, "amax": aten.amin},
    **{"minimum": aten.maximum, "maximum": aten.minimum},
}


_SPELLINGS: dict[str, Rewriting] = {
    "unbind": only_entry_unbound,
    **dict.fromkeys(["split", "split_with_sizes", "chunk", "tensor_split"], pieces_of_joined),
    "cat": joined_again,
    "nan_to_num": _finite,
    **dict.fromkeys(["sqrt", "rsqrt"], root),
    **dict.fromkeys(_OPPOSITE, _least),
    "slice": whole_slice,
    "select": only_entry_selected,
    **dict.fromkeys(["unsqueeze", "reshape"], entry_kept),
    "reciprocal": reciprocal,
    **dict.fromkeys([*ADDITIONS, "neg"], shifted),
    "mul": multiplied,
    "div": divided,
    "exp": exponential_of,
    **dict.fromkeys(["log", "log1p"], logarithm),
    **dict.fromkeys(["softmax", "_softmax", "log_softmax", "_log_softmax"], plain_softmax),
    **DOT_PRODUCTS,
}
