"""Other forms of layers: norms, convolutions, padding, pooling, attention and recurrent cells."""

from __future__ import annotations

import operator

from torch import fx

from lrp_fx.canonize.arithmetic_forms import Rewrite
from lrp_fx.canonize.attention import take_apart
from lrp_fx.canonize.padding import SURPLUS, Surplus
from lrp_fx.canonize.recurrent_cells import one_step
from lrp_fx.capture import where
from lrp_fx.errors import CaptureError
from lrp_fx.graph import (
    Packet,
    arguments,
    as_tuple,
    aten,
    call_like,
    call_like_getitem,
    index_of,
    name_of,
    replace_by,
    shape_of,
    shapes_of,
)


def _legit_batch_norm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    if _is_of_each_sample(node, module):
        values = (
            b["input"],
            b["weight"],
            b["bias"],
            None,
            None,
            True,
            b["momentum"],
            b["eps"],
            False,
        )
        _replace_first(node, call_like(graph, node, aten.instance_norm, *values))
        return
    statistics = (b.get("running_mean"), b.get("running_var"), b.get("training", False))
    values = (b["input"], b["weight"], b["bias"], *statistics, b["momentum"], b["eps"], False)
    _replace_first(node, call_like(graph, node, aten.batch_norm, *values))


def _is_of_each_sample(node: fx.Node, module: fx.GraphModule) -> bool:
    """Whether a batch norm is an instance norm, which torch computes with all samples as channels."""
    b = arguments(node)
    known = shapes_of(module)(b["input"])
    has_own = b.get("running_mean") is None and b.get("training", False)
    return has_own and known is not None and known.dim() > 2 and known.shape[0] == 1


def _max_pool(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    packet = getattr(aten, f"{name_of(node)}_with_indices")
    both = call_like(graph, node, packet, *node.args, **node.kwargs)
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


def _constant_pad(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    replace_by(node, call_like(graph, node, aten.pad, b["self"], b["pad"], "constant", b["value"]))


def _mode_pad(mode: str) -> Rewrite:
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


def _first_of(packet: Packet, names: str) -> Rewrite:
    """The first result of a call, as a call of ``packet`` with the arguments of these names."""

    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        b = arguments(node)
        _replace_first(node, call_like(graph, node, packet, *(b[name] for name in names.split())))

    return rewrite


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
    heads = {
        known.shape[-3]
        for name in ("query", "key")
        if (known := shapes_of(module)(b[name])) is not None
    }
    options = {"scale": b.get("scale"), "enable_gqa": len(heads) > 1}
    whole = call_like(graph, node, aten.scaled_dot_product_attention, *values, **options)
    _replace_first(node, whole)
    with graph.inserting_before(whole):
        take_apart(whole, graph, module)


def _glu(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    halves = call_like(graph, node, aten.chunk, b["self"], 2, b["dim"])
    signal, gate = (call_like_getitem(graph, halves, index) for index in (0, 1))
    gate = call_like(graph, node, aten.sigmoid, gate)
    replace_by(node, call_like(graph, node, aten.mul, signal, gate))


def _rrelu(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """The kernels of recorded graphs, which take a tensor for noise that they do not use in eval mode."""
    b = arguments(node)
    values = (b["self"], b["lower"], b["upper"], b["training"])
    function = call_like(graph, node, aten.rrelu, *values)
    if name_of(node) == "rrelu_with_noise":
        replace_by(node, function)
    else:  # it returns the noise too
        _replace_first(node, function)


LAYER_FORMS: dict[str, Rewrite] = {
    "_native_batch_norm_legit_no_training": _legit_batch_norm,
    "_native_batch_norm_legit": _legit_batch_norm,
    "_native_batch_norm_legit_functional": _legit_batch_norm,
    "native_batch_norm": _legit_batch_norm,
    "max_pool1d": _max_pool,
    "max_pool2d": _max_pool,
    "max_pool3d": _max_pool,
    "constant_pad_nd": _constant_pad,
    "reflection_pad1d": _mode_pad("reflect"),
    "reflection_pad2d": _mode_pad("reflect"),
    "reflection_pad3d": _mode_pad("reflect"),
    "replication_pad1d": _mode_pad("replicate"),
    "replication_pad2d": _mode_pad("replicate"),
    "replication_pad3d": _mode_pad("replicate"),
    "convolution": _convolution,
    "mkldnn_rnn_layer": _mkldnn_lstm,
    "_convolution": _convolution,
    "conv1d": _convolution_padding,
    "conv2d": _convolution_padding,
    "conv3d": _convolution_padding,
    "native_layer_norm": _first_of(aten.layer_norm, "input normalized_shape weight bias eps"),
    "_fused_rms_norm": _first_of(aten.rms_norm, "input normalized_shape weight eps"),
    "native_group_norm": _first_of(aten.group_norm, "input group weight bias eps"),
    "instance_norm": _instance_norm,
    "glu": _glu,
    **dict.fromkeys(["rrelu_with_noise", "rrelu_with_noise_functional"], _rrelu),
    "scaled_dot_product_attention": take_apart,
    "_scaled_dot_product_flash_attention_for_cpu": _fused_attention,
    "_scaled_dot_product_flash_attention": _fused_attention,
    "_scaled_dot_product_efficient_attention": _fused_attention,
    **dict.fromkeys(["lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"], one_step),
}
