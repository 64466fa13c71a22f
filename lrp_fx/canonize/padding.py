"""Merges separate zero padding into the convolution behind it.

Rules that look only at the weights would otherwise count the padded zeros as inputs.
"""

from __future__ import annotations

from torch import fx

from lrp_fx.canonize.affine import CONVOLUTIONS
from lrp_fx.graph import arguments, as_tuple, literal, name_of


def fold_padding(convolution: fx.Node, kept: frozenset[fx.Node]) -> None:
    """Merge a symmetric zero pad before a convolution into the convolution's own padding.

    Args:
        convolution: the candidate, any node.
        kept: nodes whose values have to stay.
    """
    if name_of(convolution) not in CONVOLUTIONS:
        return
    bound = arguments(convolution)
    pad = bound["input"]
    if name_of(pad) != "pad" or pad in kept:
        return
    added = _zeros(pad, int(name_of(convolution)[-2]))  # the 2 of conv2d
    if added is None:
        return
    own = as_tuple(bound["padding"], len(added))
    bound["input"] = arguments(pad)["self"]
    bound["padding"] = [a + b for a, b in zip(own, added, strict=True)]
    convolution.args, convolution.kwargs = tuple(bound.values()), {}
    for key in ("module_calls", "merged_calls"):
        known = convolution.meta.get("merged_into_input", ())
        convolution.meta["merged_into_input"] = known + pad.meta.get(key, ())


def _zeros(pad: fx.Node, dims: int) -> list[int] | None:
    """The number of zeros on both sides of each of the last ``dims`` dimensions; None for other pads."""
    bound = arguments(pad)
    sizes = bound["pad"]
    is_zero = bound["mode"] == "constant" and literal(bound["value"] or 0) == 0
    if not is_zero or not isinstance(sizes, (list, tuple)):
        return None
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        return None
    pairs = [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)]
    if any(low != high for low, high in pairs) or any(low for low, _ in pairs[dims:]):
        return None
    found = [low for low, _ in pairs[:dims]]
    return [*[0] * (dims - len(found)), *found[::-1]]  # a pad lists the last dimension first
