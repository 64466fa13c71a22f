"""Folds batch norm, and any constant scale and shift, into the neighbouring linear operation.

In eval mode batch norm is ``y = s x + t`` with ``s = γ / sqrt(var + eps)`` and
``t = β − s · mean``. The folded weights are nodes that compute from the parameters, so they follow
the parameters.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.canonize.affine import LINEAR, fits, fold_affine, fold_into_previous
from lrp_fx.canonize.carrying import Factor, before_views, carried_before
from lrp_fx.canonize.forward import TAKING, fold_forward, what_stays
from lrp_fx.canonize.padding import fold_padding
from lrp_fx.errors import CaptureError
from lrp_fx.graph import (
    Constants,
    arguments,
    aten,
    call_like,
    depends_on_inputs,
    is_call,
    name_of,
    replace_by,
    shapes_of,
    where,
)


def fold_batch_norm(
    graph: fx.Graph,
    module: fx.GraphModule,
    *,
    dense: bool = True,
    kept: frozenset[fx.Node] = frozenset(),
) -> None:
    """Fold every batch norm, and every constant scale and shift, where that is exact.

    It is folded into the operation before it if nothing else reads that operation's output.
    Otherwise it is folded into the convolution or linear layer after it (see
    :func:`fold_forward`). What cannot be folded exactly stays.

    Args:
        graph: the graph to edit.
        module: holds the parameters of the graph.
        dense: fold into linear layers too. This is exact only for values of shape (N, C): for (N,
            L, C) the norm takes L for the channels. Also assume that values have a batch dimension.
        kept: nodes whose values have to stay. Backward folding would replace the value of the
            linear operation by that of the norm; forward folding would remove the value of the
            norm.

    Raises:
        CaptureError: for a batch norm without running statistics, which mixes the samples of a
            batch.
    """
    _norm_each_part(graph, module, kept)
    constants, stays = Constants(module), what_stays(graph)
    for node in list(graph.nodes):
        fold_padding(node, kept)
        if name_of(node) in TAKING:
            fold_forward(graph, constants, node, _scale_and_shift, stays, dense=dense, kept=kept)
        elif name_of(node) == "batch_norm" and depends_on_inputs(node):
            _fold_backward(graph, constants, node, dense=dense, kept=kept)
        else:  # a batch norm of weights (weight standardization) is a constant
            fold_affine(graph, constants, node, batched=dense, kept=kept)


def _norm_each_part(graph: fx.Graph, module: fx.GraphModule, kept: frozenset[fx.Node]) -> None:
    """Replace the batch norm of a concatenation by norms of its parts, if all of them can be folded."""
    shapes = shapes_of(module)
    for norm in list(graph.nodes):
        joined: Any = arguments(norm)["input"] if name_of(norm) == "batch_norm" else None
        if not is_call(joined, "cat") or len(joined.users) != 1 or arguments(norm)["training"]:
            continue
        if norm in kept or joined in kept:
            continue
        parts = arguments(joined)["tensors"]
        if not all(map(_may_fold, parts)):
            continue
        whole, sizes = shapes.shape_of(joined), [shapes.shape_of(part) for part in parts]
        if whole is None or None in sizes:
            continue
        by_channels = arguments(joined)["dim"] % len(whole) == 1
        first, normed = 0, []
        for part, size in zip(parts, sizes, strict=True):
            channels = (first, first + size[1]) if by_channels and size is not None else None
            normed.append(_norm_of(graph, norm, part, channels))
            first += size[1] if size is not None else 0
        with graph.inserting_before(norm):
            replace_by(norm, call_like(graph, joined, aten.cat, normed, arguments(joined)["dim"]))
        graph.erase_node(joined)


def _may_fold(value: fx.Node) -> bool:
    before, views = before_views(value)
    return name_of(before) in LINEAR and all(len(each.users) == 1 for each in (before, *views))


def _norm_of(
    graph: fx.Graph, norm: fx.Node, part: fx.Node, channels: tuple[int, int] | None
) -> fx.Node:
    """The norm of one part, restricted to ``channels`` if the part has channels of its own."""
    b = arguments(norm)
    b["input"] = part
    with graph.inserting_before(norm):
        for name in ("weight", "bias", "running_mean", "running_var"):
            if channels is not None and b[name] is not None:
                b[name] = call_like(graph, norm, aten.slice, b[name], 0, *channels)
        return call_like(graph, norm, aten.batch_norm, *b.values())


def _fold_backward(
    graph: fx.Graph, constants: Constants, norm: fx.Node, *, dense: bool, kept: frozenset[fx.Node]
) -> None:
    bound = arguments(norm)
    if bound["training"] or bound["running_mean"] is None or bound["running_var"] is None:
        raise CaptureError(
            f"batch norm {where(norm)} has no running statistics, so each sample's output depends "
            "on the other samples of the batch and cannot be explained alone."
        )
    foldable = LINEAR if dense else LINEAR - {"linear"}
    before, views = before_views(bound["input"])
    if name_of(before) not in foldable:
        return
    if any(each in kept or len(each.users) != 1 for each in (before, *views)):
        return
    weight = constants(arguments(before)["weight"])
    if weight is None:
        return
    parts: tuple[Factor, Factor] | None
    if views:
        parts = _behind_views(graph, constants, norm, before, views, dense)
    else:
        with graph.inserting_before(norm):
            parts = _scale_and_shift(graph, norm)
    if parts is not None:
        fold_into_previous(
            graph, norm, before, weight.shape, *parts, constants=constants, views=views
        )


def _behind_views(
    graph: fx.Graph,
    constants: Constants,
    norm: fx.Node,
    linear: fx.Node,
    views: list[fx.Node],
    dense: bool,
) -> tuple[Factor, Factor] | None:
    """Carry the scale and shift of a norm back through views, to the linear operation before them."""
    values = shapes_of(constants.module).shape_of(views[-1])
    weight = constants(arguments(linear)["weight"])
    if values is None or weight is None:
        return None
    sizes = [-1] + [1] * (len(values) - 2)
    with graph.inserting_before(norm):
        scale, shift = (
            call_like(graph, norm, aten.reshape, part, sizes)
            for part in _scale_and_shift(graph, norm)
        )
    parts = carried_before(graph, norm, (scale, shift), views, constants)
    tensors = [part for part in parts or () if isinstance(part, fx.Node)]
    return parts if all(fits(each, linear, weight, constants, dense) for each in tensors) else None


def _scale_and_shift(graph: fx.Graph, norm: fx.Node) -> tuple[fx.Node, fx.Node]:
    """The nodes of ``s`` and ``t``, each of shape (C,)."""
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
