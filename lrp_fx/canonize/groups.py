"""Reductions by index or by segment: sums and means by ``scatter_add``, others by ``scatter_reduce``."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import Packet, arguments, aten, call_like, replace_by, shapes_of

_NEUTRAL = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": float("-inf"), "amin": float("inf")}


def scatter_reduce(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """Sums and means of groups, as ``scatter_add`` and a division by a count."""
    b = arguments(node)
    if b["reduce"] not in ("sum", "mean"):
        return

    def write(packet: Packet, *args: Any) -> fx.Node:
        return call_like(graph, node, packet, *args)

    place, target = (b["dim"], b["index"]), b["self"]
    if not b["include_self"]:
        target = write(aten.scatter, target, *place, 0)
    total = write(aten.scatter_add, target, *place, b["src"])
    if b["reduce"] == "mean":
        first = write(aten.ones_like, b["self"])
        if not b["include_self"]:
            first = write(aten.scatter, first, *place, 0)
        count = write(aten.scatter_add, first, *place, write(aten.ones_like, b["src"]))
        total = write(aten.div, total, write(aten.clamp_min, count, 1))
    replace_by(node, total)


def scatter(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``scatter`` with ``reduce``, as the reduction that it is."""
    b = arguments(node)
    reduce = {"add": "sum", "multiply": "prod"}.get(b.get("reduce") or "")
    if reduce is None or not isinstance(b.get("src"), fx.Node):
        return
    values = (b["self"], b["dim"], b["index"], b["src"])
    if reduce == "sum":
        replace_by(node, call_like(graph, node, aten.scatter_add, *values))
    else:
        replace_by(node, call_like(graph, node, aten.scatter_reduce, *values, reduce))


def index_reduce(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``index_reduce``, whose index is the same for all entries beside its dimension."""
    b = arguments(node)
    source = shapes_of(module)(b["source"])
    if source is None:
        return
    index = _spread(
        node, graph, b["index"], b["source"], b["dim"] % max(source.dim(), 1), source.dim()
    )
    values = (b["self"], b["dim"], index, b["source"], b["reduce"])
    new = call_like(graph, node, aten.scatter_reduce, *values)
    new.kwargs = {"include_self": b["include_self"]}
    replace_by(node, new)
    with graph.inserting_before(new):
        scatter_reduce(new, graph, module)


def segment_reduce(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``segment_reduce`` along the first dimension: the segments are the groups."""
    b = arguments(node)
    shapes = shapes_of(module)
    data, lengths = shapes(b["data"]), b["lengths"]

    def write(packet: Packet, *args: Any) -> fx.Node:
        return call_like(graph, node, packet, *args)

    if lengths is None and b["offsets"] is not None:
        ahead = write(aten.slice, b["offsets"], 0, 1, 2**63 - 1, 1)
        lengths = write(aten.sub, ahead, write(aten.slice, b["offsets"], 0, 0, -1, 1))
    if data is None or lengths is None or b["axis"] != 0:
        return
    sizes = shapes(lengths)
    if sizes is None or sizes.dim() != 1:
        return
    reduce = {"max": "amax", "min": "amin"}.get(b["reduce"], b["reduce"])
    rest = [write(aten.sym_size, b["data"], dim) for dim in range(1, data.dim())]
    shape = [write(aten.sym_size, lengths, 0), *rest]
    first = _NEUTRAL[reduce] if b["initial"] is None else b["initial"]
    start = write(aten.new_full, b["data"], shape, first)
    groups = write(aten.repeat_interleave, lengths)
    index = _spread(node, graph, groups, b["data"], 0, data.dim())
    new = write(aten.scatter_reduce, start, 0, index, b["data"], reduce)
    new.kwargs = {"include_self": b["initial"] is not None}
    replace_by(node, new)
    with graph.inserting_before(new):
        scatter_reduce(new, graph, module)


def _spread(node: fx.Node, graph: fx.Graph, index: Any, like: Any, dim: int, rank: int) -> fx.Node:
    """An index of one dimension in the shape of ``like``."""
    for place in range(rank):
        if place != dim:
            index = call_like(graph, node, aten.unsqueeze, index, place)
    return call_like(graph, node, aten.expand_as, index, like)


GROUPS = {
    "scatter": scatter,
    "scatter_reduce": scatter_reduce,
    "index_reduce": index_reduce,
    "segment_reduce": segment_reduce,
}
"""The rewriting of each reduction."""
