"""Shorthand operations written out: cosine similarity, and splits by rows and columns."""

from __future__ import annotations

from torch import fx

from lrp_fx.graph import arguments, aten, call_like, name_of, replace_by

_SPLITS = {"hsplit": 1, "vsplit": 0, "dsplit": 2}
"""The dimension that each one splits. ``hsplit`` of a vector, without a batch, is not covered."""


def write_out(graph: fx.Graph) -> None:
    """Write shorthand operations out, in place."""
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        with graph.inserting_before(node):
            if name_of(node) == "cosine_similarity":
                _cosine_similarity(node, graph)
            elif name_of(node) in _SPLITS:
                source, sections = arguments(node).values()
                node.args = (source, sections, _SPLITS[name_of(node)])
                node.target, node.kwargs = aten.tensor_split, {}


def _cosine_similarity(node: fx.Node, graph: fx.Graph) -> None:
    """``Σ u / max(‖u‖, eps) · v / max(‖v‖, eps)``: a product of two normalized vectors, summed."""
    b = arguments(node)
    units = []
    for x in (b["x1"], b["x2"]):
        norm = call_like(graph, node, aten.linalg_vector_norm, x, 2, [b["dim"]], True)
        least = call_like(graph, node, aten.clamp_min, norm, b["eps"])
        units.append(call_like(graph, node, aten.div, x, least))
    product = call_like(graph, node, aten.mul, *units)
    replace_by(node, call_like(graph, node, aten.sum, product, [b["dim"]]))
