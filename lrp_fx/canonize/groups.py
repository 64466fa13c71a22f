"""Reductions by index or by segment: sums and means by ``scatter_add``, others by ``scatter_reduce``."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from lrp_fx.canonize.call_writer import Bound, Form, Writer
from lrp_fx.graph import aten

_NEUTRAL: dict[Any, float] = {"sum": 0, "mean": 0, "prod": 1, "amax": -math.inf, "amin": math.inf}


def _scatter_reduce(write: Writer, b: Bound) -> fx.Node | None:
    """Sums and means of groups, as ``scatter_add`` and a division by a count."""
    return _of_groups(write, b) if b["reduce"] in ("sum", "mean") else None


def _of_groups(write: Writer, b: Bound) -> fx.Node:
    """What ``scatter_reduce`` with these arguments computes."""
    place, target = (b["dim"], b["index"]), b["self"]
    if b["reduce"] not in ("sum", "mean"):
        options = {"include_self": b["include_self"]}
        return write(aten.scatter_reduce, target, *place, b["src"], b["reduce"], **options)
    if not b["include_self"]:
        target = write(aten.scatter, target, *place, 0)
    total = write(aten.scatter_add, target, *place, b["src"])
    if b["reduce"] == "sum":
        return total
    first = write(aten.ones_like, b["self"])
    if not b["include_self"]:
        first = write(aten.scatter, first, *place, 0)
    count = write(aten.scatter_add, first, *place, write(aten.ones_like, b["src"]))
    return write(aten.div, total, write(aten.clamp_min, count, 1))


def _scatter(write: Writer, b: Bound) -> fx.Node | None:
    """``scatter`` with ``reduce``, as the reduction that it is."""
    reduce = {"add": "sum", "multiply": "prod"}.get(b.get("reduce") or "")
    if reduce is None or not isinstance(b.get("src"), fx.Node):
        return None
    return _of_groups(write, {**b, "reduce": reduce, "include_self": True})


def _index_reduce(write: Writer, b: Bound) -> fx.Node | None:
    """``index_reduce``, whose index is the same for all entries beside its dimension."""
    source = write.known(b["source"])
    if source is None:
        return None
    rank = source.dim()
    index = _spread(write, b["index"], b["source"], b["dim"] % max(rank, 1), rank)
    return _of_groups(write, {**b, "index": index, "src": b["source"]})


def _segment_reduce(write: Writer, b: Bound) -> fx.Node | None:
    """``segment_reduce`` along the first dimension: the segments are the groups."""
    data, lengths = write.known(b["data"]), b["lengths"]
    if lengths is None and b["offsets"] is not None:
        ahead = write(aten.slice, b["offsets"], 0, 1, 2**63 - 1, 1)
        lengths = write(aten.sub, ahead, write(aten.slice, b["offsets"], 0, 0, -1, 1))
    sizes = None if lengths is None else write.known(lengths)
    if data is None or sizes is None or sizes.dim() != 1 or b["axis"] != 0:
        return None
    reduce = {"max": "amax", "min": "amin"}.get(b["reduce"], b["reduce"])
    rest = [write(aten.sym_size, b["data"], dim) for dim in range(1, data.dim())]
    shape = [write(aten.sym_size, lengths, 0), *rest]
    has_first = b["initial"] is not None
    start = write(aten.new_full, b["data"], shape, b["initial"] if has_first else _NEUTRAL[reduce])
    index = _spread(write, write(aten.repeat_interleave, lengths), b["data"], 0, data.dim())
    groups = {"self": start, "dim": 0, "index": index, "src": b["data"], "reduce": reduce}
    return _of_groups(write, {**groups, "include_self": has_first})


def _spread(write: Writer, index: Any, like: Any, dim: int, rank: int) -> fx.Node:
    """An index of one dimension in the shape of ``like``."""
    for place in range(rank):
        if place != dim:
            index = write(aten.unsqueeze, index, place)
    return write(aten.expand_as, index, like)


GROUPS: dict[str, Form] = {
    "scatter": _scatter,
    "scatter_reduce": _scatter_reduce,
    "index_reduce": _index_reduce,
    "segment_reduce": _segment_reduce,
}
"""The form of each reduction."""
