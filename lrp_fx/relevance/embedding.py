"""Embeddings: relevance of tokens stops at the embedding's output."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.aten import arguments, name_of
from lrp_fx.relevance.adjoints import ROUTING


def embeds(node: fx.Node, tokens: fx.Node) -> bool:
    """Whether ``node`` is an embedding that looks up ``tokens``, or a re-arrangement of them."""
    if node.op != "call_function" or name_of(node) != "embedding":
        return False
    indices: Any = arguments(node)["indices"]
    while isinstance(indices, fx.Node) and name_of(indices) in ROUTING:
        indices = indices.args[0]
    return indices is tokens
