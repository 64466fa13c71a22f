"""Recurrent cells: a call of a cell becomes one step of the recurrent layer."""

from __future__ import annotations

from torch import fx

from lrp_fx.graph import arguments, aten, call_like, call_like_getitem, name_of, replace_by


def one_step(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """Write ``lstm_cell(x, (h, c))`` as ``lstm`` on a sequence of one step; GRU and RNN cells too."""
    b = arguments(node)
    states = b["hx"] if isinstance(b["hx"], (list, tuple)) else [b["hx"]]
    parameters = [p for p in (b["w_ih"], b["w_hh"], b["b_ih"], b["b_hh"]) if p is not None]
    sequence, *before = (
        call_like(graph, node, aten.unsqueeze, t, 0) for t in (b["input"], *states)
    )
    layer = call_like(
        graph,
        node,
        getattr(aten, name_of(node).removesuffix("_cell")),
        sequence,
        before if len(before) > 1 else before[0],
        parameters,
        len(parameters) == 4,
        1,
        0.0,
        False,
        False,
        False,
    )
    after = [  # the first result is the output sequence
        call_like(graph, node, aten.squeeze, call_like_getitem(graph, layer, index), 0)
        for index in range(1, 1 + len(states))
    ]
    if len(after) == 1:
        replace_by(node, after[0])
        return
    for user in list(node.users):
        index = user.args[1]
        assert isinstance(index, int)
        replace_by(user, after[index])
    graph.erase_node(node)
