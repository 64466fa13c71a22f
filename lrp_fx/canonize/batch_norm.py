"""Batch norm folded into the convolution or linear layer beside it, as nodes of the graph.

In eval mode batch norm is ``y = s x + t`` with ``s = γ / sqrt(var + eps)``, ``t = β − s · mean``. The
folded weights are ordinary nodes computed from the parameters, so they follow the parameters.
"""

from __future__ import annotations

import torch
from torch import fx

from lrp_fx.aten import arguments, as_tuple, aten, name_of
from lrp_fx.canonize.affine import (
    LINEAR,
    TRANSPOSED,
    fold_affine,
    fold_into_previous,
    set_parameters,
)
from lrp_fx.canonize.graphs import Constants, call_like, depends_on_inputs
from lrp_fx.capture import where
from lrp_fx.errors import CaptureError


def fold_batch_norm(
    graph: fx.Graph,
    module: fx.GraphModule,
    *,
    dense: bool = True,
    kept: frozenset[fx.Node] = frozenset(),
) -> None:
    """Fold every batch norm, and every constant scale and shift, where that is exact; others stay.

    Into the operation before it whenever nobody else reads that one's output. Into the convolution or
    linear layer after it when nobody else reads the norm's output and no zero padding comes between
    (a zero is not what the norm would make of a zero).

    Args:
        graph: the graph to edit.
        module: holds its parameters.
        dense: also into linear layers. Exact for values of (N, C) only: of (N, L, C) the norm takes
            the dimension L for its channels. And values have a batch dimension.
        kept: nodes whose values have to stay: folded backward, a norm takes the place of the linear
            operation's value; folded forward, its own value is gone.

    Raises:
        CaptureError: for a batch norm without running statistics: it mixes the samples of a batch.
    """
    constants = Constants(module)
    for node in list(graph.nodes):
        fold_affine(graph, constants, node, batched=dense, kept=kept)
        if name_of(node) != "batch_norm" or not depends_on_inputs(node):
            continue  # a norm of weights (weight standardization) is a constant like any other
        bound = arguments(node)
        if bound["training"] or bound["running_mean"] is None or bound["running_var"] is None:
            raise CaptureError(
                f"batch norm {where(node)} has no running statistics, so each sample's output depends "
                "on the others of its batch and cannot be explained alone."
            )
        before = bound["input"]
        readers = list(node.users)
        foldable = LINEAR if dense else LINEAR - {"linear"}
        weight = _weight(before, constants) if name_of(before) in foldable else None
        if weight is not None and len(before.users) == 1:
            if before in kept:
                continue
            with graph.inserting_before(node):
                parts = _scale_and_shift(graph, node)
            fold_into_previous(graph, node, before, weight, *parts, constants=constants)
        elif (
            node not in kept
            and len(readers) == 1
            and name_of(readers[0]) in foldable - TRANSPOSED
            and _can_take(readers[0], node, constants)
        ):
            _fold_into_next(graph, constants, node, readers[0])


def _weight(node: fx.Node, constants: Constants) -> torch.Size | None:
    """The shape of the weight, if that depends on parameters alone."""
    return constants.shape_of(arguments(node)["weight"])


def _can_take(reader: fx.Node, norm: fx.Node, constants: Constants) -> bool:
    bound = arguments(reader)
    weight = _weight(reader, constants)
    if bound["input"] is not norm or weight is None:
        return False
    if name_of(reader) == "linear":
        return True
    is_depthwise = weight[1] == 1 and bound["groups"] == weight[0]
    no_padding = not any(as_tuple(bound["padding"], 1))
    return no_padding and (bound["groups"] == 1 or is_depthwise)


def _scale_and_shift(graph: fx.Graph, norm: fx.Node) -> tuple[fx.Node, fx.Node]:
    """The nodes of ``s`` and ``t``, each (C,)."""
    b = arguments(norm)
    variance = call_like(graph, norm, aten.add, b["running_var"], b["eps"])
    scale = call_like(graph, norm, aten.rsqrt, variance)
    if b["weight"] is not None:
        scale = call_like(graph, norm, aten.mul, scale, b["weight"])
    shift = call_like(graph, norm, aten.mul, b["running_mean"], scale)
    shift = call_like(graph, norm, aten.neg, shift)
    if b["bias"] is not None:
        shift = call_like(graph, norm, aten.add, shift, b["bias"])
    return scale, shift


def _fold_into_next(graph: fx.Graph, constants: Constants, norm: fx.Node, linear: fx.Node) -> None:
    bound, weight = arguments(linear), _weight(linear, constants)
    assert weight is not None
    depthwise = len(weight) > 2 and bound["groups"] > 1
    ones = [1] * (len(weight) - 2)
    shape = [-1, 1, *ones] if depthwise else [1, -1, *ones]
    with graph.inserting_before(linear):
        scale, shift = _scale_and_shift(graph, norm)
        factor = call_like(graph, linear, aten.reshape, scale, shape)
        new_weight = call_like(graph, linear, aten.mul, bound["weight"], factor)
        offsets = call_like(graph, linear, aten.reshape, shift, shape)
        shifted = call_like(graph, linear, aten.mul, bound["weight"], offsets)
        new_bias = call_like(graph, linear, aten.sum, shifted, list(range(1, len(weight))))
        if bound["bias"] is not None:
            new_bias = call_like(graph, linear, aten.add, new_bias, bound["bias"])
    bound["input"] = arguments(norm)["input"]
    set_parameters(linear, bound, new_weight, new_bias)
    known = linear.meta.get("merged_into_input", ())
    linear.meta["merged_into_input"] = known + norm.meta["module_calls"]
    graph.erase_node(norm)
