"""Less memory for more time: activations are computed again when the relevance pass needs them.

The forward nodes are cut into about √n segments. Only values that cross a cut are kept. The other
values of a segment are recomputed from these when the relevance pass reaches them (Chen et al.
2016).
"""

from __future__ import annotations

import math

from torch import fx

from lrp_fx.optimize.draft import Draft


def recompute(draft: Draft) -> None:
    """Keep only the values at the cuts."""
    graph, start = draft.graph, draft.start
    nodes = list(graph.nodes)
    forward = [node for node in nodes[: nodes.index(start)] if _holds_memory(node)]
    segment = _segments(forward)
    last = max(segment.values(), default=0)
    crossing = {
        node
        for node in forward
        if any(segment.get(user, segment[node]) != segment[node] for user in node.users)
    }
    again = {node for node in forward if node not in crossing and segment[node] != last}
    copies: dict[fx.Node, fx.Node] = {}
    for reader in nodes[nodes.index(start) :]:
        for value in reader.all_input_nodes:
            if value in again:
                with graph.inserting_before(reader):
                    reader.replace_input_with(value, _copy(graph, value, again, copies))


def _holds_memory(node: fx.Node) -> bool:
    """Whether a node computes a tensor, not only a shape."""
    return node.op in ("call_function", "call_module") and node.target is not getattr


def _segments(forward: list[fx.Node]) -> dict[fx.Node, int]:
    """The index of each node's segment.

    Segments have similar lengths, and the cuts are placed where the fewest values cross.
    """
    place = {node: i for i, node in enumerate(forward)}
    crossing = [0] * (len(forward) + 1)  # number of values that cross each cut
    for node, first in place.items():
        for cut in range(
            first + 1, max((place.get(u, first) for u in node.users), default=first) + 1
        ):
            crossing[cut] += 1
    count = max(1, math.isqrt(len(forward)))
    length = len(forward) / count
    cuts = []
    for i in range(1, count):
        near = range(math.ceil((i - 0.5) * length), math.ceil((i + 0.5) * length))
        cuts.append(min(near, key=lambda cut: (crossing[cut], abs(cut - i * length))))
    return {node: sum(cut <= i for cut in cuts) for node, i in place.items()}


def _copy(
    graph: fx.Graph, node: fx.Node, again: set[fx.Node], copies: dict[fx.Node, fx.Node]
) -> fx.Node:
    """A copy of the node before its reader, with copies of operands that are not kept either."""
    if node not in copies:
        for source in node.all_input_nodes:
            if source in again:
                _copy(graph, source, again, copies)
        copies[node] = graph.node_copy(node, lambda n: copies.get(n, n))
    return copies[node]
