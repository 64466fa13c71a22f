"""One vocabulary for all captures: renames synonyms, removes identities."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from lrp_fx.canonize.algebra import ALGEBRA
from lrp_fx.canonize.attention import take_apart
from lrp_fx.canonize.groups import GROUPS
from lrp_fx.canonize.padding import SURPLUS, Surplus
from lrp_fx.canonize.recurrent_cells import one_step
from lrp_fx.capture import where
from lrp_fx.errors import CaptureError
from lrp_fx.graph import (
    Packet,
    arguments,
    as_tuple,
    aten,
    bind,
    call_like,
    call_like_getitem,
    index_of,
    is_call,
    literal,
    name_of,
    packet_of,
    replace_by,
    shape_of,
    shapes_of,
)

_IDENTITIES = frozenset(
    [
        "contiguous",
        "clone",
        "alias",
        "detach",
        "detach_",
        "lift_fresh_copy",
        "lift_fresh",
        "positive",
    ]
)
_DROPOUT = frozenset(
    ["dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"]
)
_SYNONYMS = {
    "view": aten.reshape,
    "_unsafe_view": aten.reshape,
    "view_copy": aten.reshape,
    "_reshape_alias": aten.reshape,
    "unsafe_split": aten.split,
    "unsafe_split_with_sizes": aten.split_with_sizes,
    "unsafe_chunk": aten.chunk,
    "concat": aten.cat,
    "concatenate": aten.cat,
    "_adaptive_avg_pool2d": aten.adaptive_avg_pool2d,
    "_adaptive_avg_pool3d": aten.adaptive_avg_pool3d,
    "swapaxes": aten.transpose,
    "swapdims": aten.transpose,
    "moveaxis": aten.movedim,
    "ravel": aten.flatten,
    "broadcast_to": aten.expand,
    "multiply": aten.mul,
    "divide": aten.div,
    "true_divide": aten.div,
    "subtract": aten.sub,
    "negative": aten.neg,
    "absolute": aten.abs,
    "clip": aten.clamp,
    "__and__": aten.bitwise_and,
    "__or__": aten.bitwise_or,
    "__xor__": aten.bitwise_xor,
    "__lshift__": aten.bitwise_left_shift,
    "__rshift__": aten.bitwise_right_shift,
}


def one_vocabulary(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Rewrite every call that has a canonical form, in place."""
    for node in list(graph.nodes):
        if packet_of(node.target) is None or node.op != "call_function":
            continue
        name = name_of(node)
        with graph.inserting_before(node):
            if name in _IDENTITIES:
                _forward_identity(node)
            elif name in _DROPOUT:
                _dropout(node)
            elif name.startswith(("_assert", "sym_constrain", "_guards")):
                if not node.users:
                    graph.erase_node(node)
            elif name in _SYNONYMS and not _reads_bits(node):
                _rename(node, _SYNONYMS[name])
            elif name in _CANONICAL:
                _CANONICAL[name](node, graph, module)


def _reads_bits(node: fx.Node) -> bool:
    """Whether a view reinterprets the bits of a tensor as another dtype."""
    if name_of(node) not in ("view", "view_copy"):
        return False
    return any(isinstance(value, torch.dtype) for value in arguments(node).values())


def _rename(node: fx.Node, packet: Packet) -> None:
    """Rename a call; its arguments become positional if the new operation names them differently."""
    if bind(packet, node.args, node.kwargs) is None:
        node.args, node.kwargs = tuple(arguments(node).values()), {}
    node.target = packet


def _reshape_as(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    source, other = arguments(node).values()
    shape = graph.call_function(getattr, (other, "shape"))
    replace_by(node, call_like(graph, node, aten.reshape, source, shape))


def _hstack(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    replace_by(node, call_like(graph, node, aten.cat, arguments(node)["tensors"], 1))


def _forward_identity(node: fx.Node) -> None:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    replace_by(node, source)


def _dropout(node: fx.Node) -> None:
    bound = arguments(node)
    if bound["train"]:  # whatever depends on it cannot be explained
        return
    for user in list(node.users):  # native_dropout returns (output, mask)
        if user.target is operator.getitem and user.args[1] == 0:
            replace_by(user, bound["input"])
    replace_by(node, bound["input"])


def _legit_batch_norm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    new = call_like(
        graph,
        node,
        aten.batch_norm,
        b["input"],
        b["weight"],
        b["bias"],
        b.get("running_mean"),
        b.get("running_var"),
        b.get("training", False),
        b["momentum"],
        b["eps"],
        False,
    )
    _replace_first(node, new)


def _extremum(packet: Packet) -> Callable[[fx.Node, fx.Graph, fx.GraphModule], None]:
    """``torch.max(a, b)`` shares its name with the maximum over a dimension, and is renamed."""

    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        if len(node.args) == 2 and isinstance(node.args[1], fx.Node):
            node.target = packet

    return rewrite


def _where(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``where(condition)``, without values, returns the places: ``nonzero(as_tuple=True)``."""
    if len(node.all_input_nodes) == 1 and len(node.args) + len(node.kwargs) == 1:
        replace_by(node, call_like(graph, node, aten.nonzero_numpy, *node.all_input_nodes))


def _pow(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``c ** x`` as ``exp(x · log c)``, also if ``c = exp(z)``; else the base would get relevance.

    Integer powers stay: the exponential would round them. ``x ** -1`` is the reciprocal.
    """
    base, exponent = arguments(node).values()
    if isinstance(base, fx.Node) and literal(exponent) == -1:
        replace_by(node, call_like(graph, node, aten.reciprocal, base))
    elif isinstance(base, (int, float)) and base > 0 and not _is_whole(exponent, module):
        scaled = call_like(graph, node, aten.mul, exponent, math.log(base))
        replace_by(node, call_like(graph, node, aten.exp, scaled))
    elif is_call(base, "exp"):
        scaled = call_like(graph, node, aten.mul, base.args[0], exponent)
        replace_by(node, call_like(graph, node, aten.exp, scaled))


def _exp2(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    scaled = call_like(graph, node, aten.mul, node.args[0], math.log(2))
    replace_by(node, call_like(graph, node, aten.exp, scaled))


def _is_whole(value: fx.Node, module: fx.GraphModule) -> bool:
    """Whether a value is known to hold integers."""
    known = shapes_of(module)(value)
    return known is not None and not (known.is_floating_point() or known.is_complex())


def _diff(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """Differences of neighbouring entries, as differences of slices."""
    b = arguments(node)
    parts = [each for each in (b["prepend"], b["self"], b["append"]) if each is not None]
    value, dim = b["self"], b["dim"]
    if len(parts) > 1:
        value = call_like(graph, node, aten.cat, parts, dim)
    for _ in range(b["n"]):
        later = call_like(graph, node, aten.slice, value, dim, 1, sys.maxsize, 1)
        earlier = call_like(graph, node, aten.slice, value, dim, 0, -1, 1)
        value = call_like(graph, node, aten.sub, later, earlier)
    replace_by(node, value)


def _max_pool(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    packet = getattr(aten, f"{name_of(node)}_with_indices")
    both = call_like(graph, node, packet, *node.args)
    both.kwargs = node.kwargs
    replace_by(node, call_like_getitem(graph, both, 0))


def _replace_first(node: fx.Node, substitute: fx.Node) -> None:
    """Let ``substitute`` replace the first of the results of ``node``."""
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            replace_by(user, substitute)
        elif not user.users:
            node.graph.erase_node(user)
    if not node.users:
        node.graph.erase_node(node)


def _copy(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``y[:] = x``, in the functional form of export: ``x`` in the shape of ``y``."""
    b = arguments(node)
    replace_by(node, call_like(graph, node, aten.expand_as, b["src"], b["self"]))


def _fill(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``y[:] = 0``, in functional form: a constant in the shape of ``y``."""
    b = arguments(node)
    packet = aten.expand_as if isinstance(b["value"], fx.Node) else aten.full_like
    operands = (b["self"], b["value"])
    if packet is aten.expand_as:
        operands = (b["value"], b["self"])
    replace_by(node, call_like(graph, node, packet, *operands))


def _lerp(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """Linear interpolation as ``a + w (b - a)``."""
    b = arguments(node)
    difference = call_like(graph, node, aten.sub, b["end"], b["self"])
    step = call_like(graph, node, aten.mul, difference, b["weight"])
    replace_by(node, call_like(graph, node, aten.add, b["self"], step))


def _constant_pad(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    replace_by(node, call_like(graph, node, aten.pad, b["self"], b["pad"], "constant", b["value"]))


def _mode_pad(mode: str) -> Callable[[fx.Node, fx.Graph, fx.GraphModule], None]:
    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        b = arguments(node)
        replace_by(node, call_like(graph, node, aten.pad, b["self"], b["padding"], mode))

    return rewrite


def _convolution(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """The general ``convolution`` of recorded graphs, as the specific convolution that it is."""
    b = arguments(node)
    dims = len(b["stride"])
    values = [b[name] for name in ("input", "weight", "bias", "stride", "padding")]
    if b["transposed"]:
        packet = getattr(aten, f"conv_transpose{dims}d")
        values += [b["output_padding"], b["groups"], b["dilation"]]
    else:
        packet = getattr(aten, f"conv{dims}d")
        values += [b["dilation"], b["groups"]]
    node.target, node.args, node.kwargs = packet, tuple(values), {}


def _mkldnn_lstm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """The oneDNN call for one layer and direction of an LSTM, in recorded graphs on CPU, as ``lstm``."""
    b = arguments(node)
    count = 4 if b["has_biases"] else 2
    parameters = [b[f"weight{place}"] for place in range(count)]
    x = call_like(graph, node, aten.flip, b["input"], [0]) if b["reverse"] else b["input"]
    states = [call_like(graph, node, aten.unsqueeze, b[name], 0) for name in ("hx_", "cx_")]
    options = (b["has_biases"], 1, 0.0, False, False, False)  # one layer, time first
    layer = call_like(graph, node, aten.lstm, x, states, parameters, *options)
    results = [call_like_getitem(graph, layer, place) for place in range(3)]
    results[1:] = [call_like(graph, node, aten.squeeze, state, 0) for state in results[1:]]
    if b["reverse"]:
        results[0] = call_like(graph, node, aten.flip, results[0], [0])
    for user in list(node.users):
        if user.users:
            replace_by(user, results[index_of(user)])
        else:
            graph.erase_node(user)
    graph.erase_node(node)


def _alpha(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``a + alpha · b`` where ``alpha`` is a node, such as a size: written with a product."""
    b = arguments(node)
    if isinstance(b.get("alpha"), fx.Node):
        place = "self" if name_of(node) == "rsub" else "other"
        b |= {place: call_like(graph, node, aten.mul, b[place], b["alpha"]), "alpha": 1}
        node.args, node.kwargs = (b["self"], b["other"]), {}


def _var_mean(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``var_mean`` and ``std_mean`` as two calls."""
    b = arguments(node)
    spread = call_like(graph, node, getattr(aten, name_of(node).removesuffix("_mean")), *node.args)
    spread.kwargs = node.kwargs
    dims = b.get("dim")
    mean = (b["self"],) if dims is None else (b["self"], dims, b.get("keepdim", False))
    results = (spread, call_like(graph, node, aten.mean, *mean))
    for user in list(node.users):
        replace_by(user, results[index_of(user)])
    graph.erase_node(node)


def _convolution_padding(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """Replace ``padding="same"`` and ``"valid"`` by numbers.

    An uneven "same" becomes the next larger symmetric padding, and the surplus outputs are cut off
    (see :func:`~lrp_fx.canonize.padding.cut_surplus`). A separate pad would not do, because its
    zeros would count as inputs.
    """
    b = arguments(node)
    if not isinstance(b["padding"], str):
        return
    dims = int(name_of(node).removeprefix("conv")[0])
    padding: list[int] = [0] * dims
    if b["padding"] == "same":
        shape = shape_of(b["weight"], module)
        if shape is None:
            raise CaptureError(
                f"padding='same' {where(node)} with a weight that depends on the input is not supported"
            )
        dilation = as_tuple(b["dilation"], dims)
        total = [d * (k - 1) for d, k in zip(dilation, shape[2:], strict=True)]
        padding = [t - t // 2 for t in total]
        node.meta[SURPLUS] = [Surplus(dim - dims, 1) for dim, t in enumerate(total) if t % 2]
    b["padding"] = padding
    node.args, node.kwargs = tuple(b.values()), {}


def _addmm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    is_plain = b["alpha"] == 1 and b["beta"] == 1
    if is_plain and _rank(b["mat2"], module) == 2 and _rank(b["self"], module) == 1:
        weight = call_like(graph, node, aten.t, b["mat2"])
        replace_by(node, call_like(graph, node, aten.linear, b["mat1"], weight, b["self"]))
        return
    _add_scaled(node, graph, call_like(graph, node, aten.mm, b["mat1"], b["mat2"]))


def _add_scaled(node: fx.Node, graph: fx.Graph, product: fx.Node) -> None:
    """``beta · self + alpha · product``."""
    b = arguments(node)
    scaled = call_like(graph, node, aten.mul, product, b["alpha"])
    other = call_like(graph, node, aten.mul, b["self"], b["beta"])
    replace_by(node, call_like(graph, node, aten.add, other, scaled))


def _rank(value: Any, module: fx.GraphModule) -> int | None:
    """The number of dimensions of a tensor that depends only on parameters; None for others."""
    shape = shape_of(value, module)
    return None if shape is None else len(shape)


def _layer_norm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    values = (b["input"], b["normalized_shape"], b["weight"], b["bias"], b["eps"])
    _replace_first(node, call_like(graph, node, aten.layer_norm, *values))


def _rms_norm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    values = (b["input"], b["normalized_shape"], b["weight"], b["eps"])
    _replace_first(node, call_like(graph, node, aten.rms_norm, *values))


def _group_norm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    values = (b["input"], b["group"], b["weight"], b["bias"], b["eps"])
    _replace_first(node, call_like(graph, node, aten.group_norm, *values))


def _instance_norm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """Instance norm with running statistics, which is batch norm in eval mode."""
    b = arguments(node)
    if not b["use_input_stats"]:
        names = ("input", "weight", "bias", "running_mean", "running_var")
        values = (*(b[name] for name in names), False, b["momentum"], b["eps"], False)
        replace_by(node, call_like(graph, node, aten.batch_norm, *values))


def _fused_attention(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """Fused attention kernels of recorded graphs, as ``scaled_dot_product_attention``, taken apart."""
    b = arguments(node)
    mask = b.get("attn_mask", b.get("attn_bias"))
    values = (b["query"], b["key"], b["value"], mask, b["dropout_p"], b["is_causal"])
    whole = call_like(graph, node, aten.scaled_dot_product_attention, *values)
    whole.kwargs = {"scale": b.get("scale")}
    _replace_first(node, whole)
    with graph.inserting_before(whole):
        take_apart(whole, graph, module)


def _type_as(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    value, other = node.args[:2]
    dtype = graph.call_function(getattr, (other, "dtype"))
    replace_by(node, call_like(graph, node, aten.to, value, dtype))


def _view_as_complex(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``view_as_complex`` written by its parts, because the view needs a certain memory layout."""
    parts = [call_like(graph, node, aten.select, node.args[0], -1, place) for place in (0, 1)]
    replace_by(node, call_like(graph, node, aten.complex, *parts))


def _narrow(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``narrow`` with known start and length, as a slice."""
    b = arguments(node)
    start, length = b["start"], b["length"]
    if isinstance(start, int) and isinstance(length, int) and start >= 0:
        part = (b["self"], b["dim"], start, start + length, 1)
        replace_by(node, call_like(graph, node, aten.slice, *part))


def _linalg_norm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``linalg.norm`` of vectors as ``linalg_vector_norm``; norms of matrices stay."""
    b = arguments(node)
    order = 2 if b["ord"] is None else b["ord"]
    dims = b["dim"] if b["dim"] is None else as_tuple(b["dim"], 1)
    if isinstance(order, str) or (b["ord"] is not None and (dims is None or len(dims) != 1)):
        return
    listed = None if dims is None else list(dims)
    norm = call_like(graph, node, aten.linalg_vector_norm, b["self"], order, listed, b["keepdim"])
    norm.kwargs = {"dtype": b["dtype"]} if b["dtype"] is not None else {}
    replace_by(node, norm)


def _special_softmax(packet: Packet) -> Callable[[fx.Node, fx.Graph, fx.GraphModule], None]:
    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        replace_by(node, call_like(graph, node, packet, *arguments(node).values()))

    return rewrite


def _addmv(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    _add_scaled(node, graph, call_like(graph, node, aten.mv, b["mat"], b["vec"]))


def _added(packet: Packet) -> Callable[[fx.Node, fx.Graph, fx.GraphModule], None]:
    """``addcmul`` and ``addcdiv``: a value plus a number times a product or quotient of two others."""

    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        b = arguments(node)
        term = call_like(graph, node, packet, b["tensor1"], b["tensor2"])
        new = call_like(graph, node, aten.add, b["self"], term)
        new.kwargs = {"alpha": b["value"]}
        replace_by(node, new)

    return rewrite


def _baddbmm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    product = call_like(graph, node, aten.bmm, b["batch1"], b["batch2"])
    if b["beta"] == 0:
        replace_by(node, call_like(graph, node, aten.mul, product, b["alpha"]))
    else:
        _add_scaled(node, graph, product)


def _glu(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    halves = call_like(graph, node, aten.chunk, b["self"], 2, b["dim"])
    signal, gate = (call_like_getitem(graph, halves, index) for index in (0, 1))
    gate = call_like(graph, node, aten.sigmoid, gate)
    replace_by(node, call_like(graph, node, aten.mul, signal, gate))


_CANONICAL: dict[str, Callable[[fx.Node, fx.Graph, fx.GraphModule], None]] = {
    **ALGEBRA,
    **GROUPS,
    "_native_batch_norm_legit_no_training": _legit_batch_norm,
    "_native_batch_norm_legit": _legit_batch_norm,
    "_native_batch_norm_legit_functional": _legit_batch_norm,
    "native_batch_norm": _legit_batch_norm,
    "max": _extremum(aten.maximum),
    "min": _extremum(aten.minimum),
    "pow": _pow,
    "where": _where,
    "diff": _diff,
    "exp2": _exp2,
    "narrow": _narrow,
    "view_as_complex": _view_as_complex,
    "linalg_norm": _linalg_norm,
    "special_softmax": _special_softmax(aten.softmax),
    "special_log_softmax": _special_softmax(aten.log_softmax),
    "max_pool1d": _max_pool,
    "max_pool2d": _max_pool,
    "max_pool3d": _max_pool,
    "constant_pad_nd": _constant_pad,
    "lerp": _lerp,
    "copy": _copy,
    "fill": _fill,
    "reflection_pad1d": _mode_pad("reflect"),
    "reflection_pad2d": _mode_pad("reflect"),
    "reflection_pad3d": _mode_pad("reflect"),
    "replication_pad1d": _mode_pad("replicate"),
    "replication_pad2d": _mode_pad("replicate"),
    "replication_pad3d": _mode_pad("replicate"),
    "convolution": _convolution,
    "mkldnn_rnn_layer": _mkldnn_lstm,
    **dict.fromkeys(("add", "sub", "rsub"), _alpha),
    **dict.fromkeys(("var_mean", "std_mean"), _var_mean),
    "_convolution": _convolution,
    "conv1d": _convolution_padding,
    "conv2d": _convolution_padding,
    "conv3d": _convolution_padding,
    "hstack": _hstack,
    "view_as": _reshape_as,
    "reshape_as": _reshape_as,
    "addmm": _addmm,
    "native_layer_norm": _layer_norm,
    "_fused_rms_norm": _rms_norm,
    "native_group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "addcmul": _added(aten.mul),
    "addcdiv": _added(aten.div),
    "addmv": _addmv,
    "baddbmm": _baddbmm,
    "glu": _glu,
    "scaled_dot_product_attention": take_apart,
    "_scaled_dot_product_flash_attention_for_cpu": _fused_attention,
    "_scaled_dot_product_flash_attention": _fused_attention,
    "_scaled_dot_product_efficient_attention": _fused_attention,
    "type_as": _type_as,
    **dict.fromkeys(["lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"], one_step),
}
