"""Takes fused attention apart into products, a mask and a softmax."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from lrp_fx.capture import where
from lrp_fx.errors import CaptureError
from lrp_fx.graph import arguments, aten, call_like, replace_by


def take_apart(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """Write ``softmax(scale · q kᵀ + mask) v`` as single operations.

    Grouped queries, masks and causal attention are supported.

    Raises:
        CaptureError: if the attention has active dropout.
    """
    b = arguments(node)
    if b["dropout_p"]:
        raise CaptureError(
            f"attention {where(node)} drops weights at random in eval mode: pass dropout_p=0 there"
        )
    query, key, value = b["query"], b["key"], b["value"]
    if b.get("enable_gqa"):
        key, value = (_for_each_query_head(graph, node, query, each) for each in (key, value))
    scale = b.get("scale")
    if scale is None:
        scale = graph.call_function(operator.pow, (_size(graph, query, -1), -0.5))
    scaled = call_like(graph, node, aten.mul, query, scale)
    logits = call_like(
        graph, node, aten.matmul, scaled, call_like(graph, node, aten.transpose, key, -2, -1)
    )
    mask, softmax = b["attn_mask"], aten.softmax
    if b["is_causal"]:
        logits = _causal(graph, node, logits, query, key)
    elif mask is not None:
        # A row that is masked completely yields zeros, as in the fused call, and not NaN.
        logits, softmax = _masked(graph, node, logits, mask), aten._safe_softmax
    weights = call_like(graph, node, softmax, logits, -1)
    replace_by(node, call_like(graph, node, aten.matmul, weights, value))


def _size(graph: fx.Graph, node: fx.Node, dim: int) -> fx.Node:
    return graph.call_function(operator.getitem, (_attribute(graph, node, "shape"), dim))


def _attribute(graph: fx.Graph, node: fx.Node, name: str) -> fx.Node:
    return graph.call_function(getattr, (node, name))


def _for_each_query_head(graph: fx.Graph, origin: fx.Node, query: fx.Node, heads: Any) -> fx.Node:
    """Repeat keys or values for all query heads that share them."""
    many, few = _size(graph, query, -3), _size(graph, heads, -3)
    repeats = graph.call_function(operator.floordiv, (many, few))
    return call_like(graph, origin, aten.repeat_interleave, heads, repeats, -3)


def _causal(
    graph: fx.Graph, origin: fx.Node, logits: fx.Node, query: fx.Node, key: fx.Node
) -> fx.Node:
    sizes, device = (
        [_size(graph, each, -2) for each in (query, key)],
        _attribute(graph, query, "device"),
    )
    ones = call_like(graph, origin, aten.ones, sizes, dtype=torch.bool, device=device)
    hidden = call_like(graph, origin, aten.triu, ones, 1)
    return call_like(graph, origin, aten.masked_fill, logits, hidden, float("-inf"))


def _masked(graph: fx.Graph, origin: fx.Node, logits: fx.Node, mask: fx.Node) -> fx.Node:
    if mask.meta.get("dtype") == torch.bool:
        hidden = call_like(graph, origin, aten.logical_not, mask)
        return call_like(graph, origin, aten.masked_fill, logits, hidden, float("-inf"))
    return call_like(graph, origin, aten.add, logits, mask)
