"""Recurrent cells: a call of a cell becomes one step of the recurrent layer."""

from __future__ import annotations

from torch import fx

from lrp_fx.canonize.call_writer import Bound, Writer
from lrp_fx.graph import aten, name_of

STEP = (1, 0.0, False, False, False)
"""The options of a layer that runs one step: one layer, no dropout, eval mode, one way, time first."""


def one_step(write: Writer, b: Bound) -> fx.Node | list[fx.Node]:
    """Write ``lstm_cell(x, (h, c))`` as ``lstm`` on a sequence of one step; GRU and RNN cells too."""
    states = b["hx"] if isinstance(b["hx"], (list, tuple)) else [b["hx"]]
    parameters = [p for p in (b["w_ih"], b["w_hh"], b["b_ih"], b["b_hh"]) if p is not None]
    sequence, *before = (write(aten.unsqueeze, t, 0) for t in (b["input"], *states))
    packet = getattr(aten, name_of(write.node).removesuffix("_cell"))
    first = before if len(before) > 1 else before[0]
    layer = write(packet, sequence, first, parameters, len(parameters) == 4, *STEP)
    after = [  # the first result is the output sequence
        write(aten.squeeze, write.result(layer, index), 0) for index in range(1, 1 + len(states))
    ]
    return after if len(after) > 1 else after[0]
