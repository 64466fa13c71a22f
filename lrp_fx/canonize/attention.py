"""Takes fused attention apart into products, a mask and a softmax."""

from __future__ import annotations

import operator

import torch
from torch import fx

from lrp_fx.canonize.call_writer import Bound, Writer
from lrp_fx.errors import CaptureError
from lrp_fx.graph import aten, where


def take_apart(write: Writer, b: Bound) -> fx.Node:
    """Write ``softmax(scale · q kᵀ + mask) v`` as single operations.

    Grouped queries, masks and causal attention are supported.

    Raises:
        CaptureError: if the attention has active dropout.
    """
    if b["dropout_p"]:
        raise CaptureError(
            f"attention {where(write.node)} drops weights at random in eval mode: pass dropout_p=0 there"
        )
    query, key, value = b["query"], b["key"], b["value"]
    if b.get("enable_gqa"):
        key, value = (_for_each_query_head(write, query, each) for each in (key, value))
    scale = b.get("scale")
    if scale is None:
        scale = write.node.graph.call_function(operator.pow, (_size(query, -1), -0.5))
    scaled = write(aten.mul, query, scale)
    logits = write(aten.matmul, scaled, write(aten.transpose, key, -2, -1))
    softmax = aten.softmax
    if b["is_causal"]:
        ones = [_size(query, -2), _size(key, -2)]
        hidden = write(aten.ones, ones, dtype=torch.bool, device=_attribute(query, "device"))
        logits = _without(write, logits, write(aten.triu, hidden, 1))
    elif b["attn_mask"] is not None:
        # A row that is masked completely yields zeros, as in the fused call, and not NaN.
        logits, softmax = _masked(write, logits, b["attn_mask"]), aten._safe_softmax
    return write(aten.matmul, write(softmax, logits, -1), value)


def _size(node: fx.Node, dim: int) -> fx.Node:
    return node.graph.call_function(operator.getitem, (_attribute(node, "shape"), dim))


def _attribute(node: fx.Node, name: str) -> fx.Node:
    return node.graph.call_function(getattr, (node, name))


def _for_each_query_head(write: Writer, query: fx.Node, heads: fx.Node) -> fx.Node:
    """Repeat keys or values for all query heads that share them."""
    sizes = (_size(query, -3), _size(heads, -3))
    repeats = write.node.graph.call_function(operator.floordiv, sizes)
    return write(aten.repeat_interleave, heads, repeats, -3)


def _masked(write: Writer, logits: fx.Node, mask: fx.Node) -> fx.Node:
    if mask.meta.get("dtype") == torch.bool:
        return _without(write, logits, write(aten.logical_not, mask))
    return write(aten.add, logits, mask)


def _without(write: Writer, logits: fx.Node, hidden: fx.Node) -> fx.Node:
    return write(aten.masked_fill, logits, hidden, float("-inf"))
