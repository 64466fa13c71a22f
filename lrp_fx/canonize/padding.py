"""Merges separate zero padding into the convolution after it.

Rules that look only at the weights would otherwise count the padded zeros as inputs.
"""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass

from torch import fx

from lrp_fx.graph import (
    CONVOLUTIONS,
    arguments,
    as_tuple,
    aten,
    call_like,
    literal,
    name_of,
    shape_of,
)

SURPLUS = "surplus"
"""Key in a convolution's ``meta`` for the outputs that are cut off, a list of :class:`Surplus`."""


@dataclass(frozen=True)
class Surplus:
    """Outputs along one dimension of a convolution that was padded more than the model pads.

    Args:
        dim: the dimension, counted from the end.
        first: how many outputs at the front are cut off.
        last: how many at the end; None if this depends on the size of the input.
        more: the number of zeros that the model adds, less the reach of the kernel.
        stride: the stride.
    """

    dim: int
    first: int
    last: int | None = 0
    more: int = 0
    stride: int = 1

    def end(self, convolution: fx.Node) -> int | fx.Node:
        """The place after the last output that is kept."""
        if self.last is not None:
            return -self.last if self.last else sys.maxsize
        graph = convolution.graph
        sizes = graph.call_function(getattr, (arguments(convolution)["input"], "shape"))
        size = graph.call_function(operator.getitem, (sizes, self.dim))
        steps = graph.call_function(operator.add, (size, self.more))
        steps = graph.call_function(operator.floordiv, (steps, self.stride))
        return graph.call_function(operator.add, (steps, self.first + 1))


def fold_padding(convolution: fx.Node, kept: frozenset[fx.Node]) -> None:
    """Merge zero pads before a convolution into the convolution's own padding.

    That padding is symmetric. Where the pads are not, it becomes as large as the larger side needs,
    and the surplus outputs are cut off (see :func:`cut_surplus`).

    Args:
        convolution: the candidate, any node.
        kept: nodes whose values have to stay.
    """
    if name_of(convolution) not in CONVOLUTIONS or SURPLUS in convolution.meta:
        return
    bound = arguments(convolution)
    dims = int(name_of(convolution)[-2])  # the 2 of conv2d
    own = as_tuple(bound["padding"], dims)
    sides = [(size, size) for size in own]
    pads: list[fx.Node] = []
    while name_of(bound["input"]) == "pad" and bound["input"] not in kept:
        added = _zeros(bound["input"], dims)
        if added is None:
            break
        sides = [(a + c, b + d) for (a, b), (c, d) in zip(sides, added, strict=True)]
        pads.append(bound["input"])
        bound["input"] = arguments(bound["input"])["self"]
    even = _even(convolution, sides) if pads else None
    if even is None:
        return
    bound["padding"], surplus = even
    convolution.args, convolution.kwargs = tuple(bound.values()), {}
    if surplus:
        convolution.meta[SURPLUS] = surplus
    for pad in pads:
        for key in ("module_calls", "merged_calls"):
            known = convolution.meta.get("merged_into_input", ())
            convolution.meta["merged_into_input"] = known + pad.meta.get(key, ())


def _even(
    convolution: fx.Node, sides: list[tuple[int, int]]
) -> tuple[list[int], list[Surplus]] | None:
    """The symmetric padding in place of the given one, and the outputs that it adds."""
    bound, dims, module = arguments(convolution), len(sides), convolution.graph.owning_module
    if all(low == high for low, high in sides):
        return [low for low, _ in sides], []
    shape = None if module is None else shape_of(bound["weight"], module)
    if shape is None:
        return None
    strides, dilations = (as_tuple(bound[name], dims) for name in ("stride", "dilation"))
    padding, surplus = list[int](), list[Surplus]()
    for place, (low, high) in enumerate(sides):
        stride, reach = strides[place], dilations[place] * (shape[place + 2] - 1) + 1
        first = max(0, -((low - high) // stride))  # whole strides, so that the grid stays
        padding.append(low + first * stride)
        uneven, rest = divmod(low - high, stride)
        last = first + uneven if rest == 0 else None
        if first or last != 0:
            more = low + high - reach
            surplus.append(Surplus(place - dims, first, last, more, stride))
    return padding, surplus


def cut_surplus(graph: fx.Graph) -> None:
    """Cut off the outputs of convolutions that were padded too much.

    Runs after batch norm was folded into the convolutions.
    """
    for node in list(graph.nodes):
        cut = node
        for surplus in node.meta.pop(SURPLUS, ()) if name_of(node) in CONVOLUTIONS else ():
            with graph.inserting_before(cut.next):
                part = (surplus.dim, surplus.first, surplus.end(node))
                shorter = call_like(graph, node, aten.slice, cut, *part)
            cut.replace_all_uses_with(shorter, lambda user, new=shorter: user is not new)
            cut = shorter


def _zeros(pad: fx.Node, dims: int) -> list[tuple[int, int]] | None:
    """The numbers of zeros on both sides of each of the last ``dims`` dimensions; None for other pads."""
    bound = arguments(pad)
    sizes = bound["pad"]
    is_zero = bound["mode"] == "constant" and literal(bound["value"] or 0) == 0
    if not is_zero or not isinstance(sizes, (list, tuple)):
        return None
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        return None
    pairs = [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)]
    if any(low or high for low, high in pairs[dims:]):
        return None
    found = pairs[:dims]
    return [*[(0, 0)] * (dims - len(found)), *found[::-1]]  # a pad lists the last dimension first
