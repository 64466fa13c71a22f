"""Other forms of layers: norms, convolutions, padding, pooling, attention and recurrent cells."""

from __future__ import annotations

from torch import fx

from lrp_fx.canonize.attention import take_apart
from lrp_fx.canonize.call_writer import Bound, Form, Writer
from lrp_fx.canonize.padding import SURPLUS, Surplus
from lrp_fx.canonize.recurrent_cells import STEP, one_step
from lrp_fx.errors import CaptureError
from lrp_fx.graph import Packet, as_tuple, aten, called, name_of, shape_of, where


def _batch_norm(write: Writer, b: Bound) -> list[fx.Node]:
    """The kernels of batch norm, of which only the first result is read."""
    parameters = (b["input"], b["weight"], b["bias"])
    options = (b["momentum"], b["eps"], False)
    if _is_of_each_sample(write, b):
        return [write(aten.instance_norm, *parameters, None, None, True, *options)]
    statistics = (b.get("running_mean"), b.get("running_var"), b.get("training", False))
    return [write(aten.batch_norm, *parameters, *statistics, *options)]


def _is_of_each_sample(write: Writer, b: Bound) -> bool:
    """Whether a batch norm is an instance norm, which torch computes with all samples as channels."""
    known = write.known(b["input"])
    has_own = b.get("running_mean") is None and b.get("training", False)
    return has_own and known is not None and known.dim() > 2 and known.shape[0] == 1


def _max_pool(packet: Packet) -> Form:
    return lambda write, b: write.result(write(packet, *write.node.args, **write.node.kwargs), 0)


def _constant_pad(write: Writer, b: Bound) -> fx.Node:
    return write(aten.pad, b["self"], b["pad"], "constant", b["value"])


def _mode_pad(mode: str) -> Form:
    return lambda write, b: write(aten.pad, b["self"], b["padding"], mode)


def _convolution(write: Writer, b: Bound) -> fx.Node:
    """The general ``convolution`` of recorded graphs, as the specific convolution that it is."""
    values = [b[name] for name in ("input", "weight", "bias", "stride", "padding")]
    kind, options = "conv", [b["dilation"], b["groups"]]
    if b["transposed"]:
        kind, options = "conv_transpose", [b["output_padding"], b["groups"], b["dilation"]]
    return write(getattr(aten, f"{kind}{len(b['stride'])}d"), *values, *options)


def _mkldnn_lstm(write: Writer, b: Bound) -> list[fx.Node]:
    """The oneDNN call for one layer and direction of an LSTM, in recorded graphs on CPU, as ``lstm``."""
    parameters = [b[f"weight{place}"] for place in range(4 if b["has_biases"] else 2)]
    x = write(aten.flip, b["input"], [0]) if b["reverse"] else b["input"]
    states = [write(aten.unsqueeze, b[name], 0) for name in ("hx_", "cx_")]
    layer = write(aten.lstm, x, states, parameters, b["has_biases"], *STEP)
    output, *finals = (write.result(layer, place) for place in range(3))
    if b["reverse"]:
        output = write(aten.flip, output, [0])
    return [output, *(write(aten.squeeze, state, 0) for state in finals)]


def _convolution_padding(write: Writer, b: Bound) -> fx.Node | None:
    """Replace ``padding="same"`` and ``"valid"`` by numbers.

    An uneven "same" becomes the next larger symmetric padding, and the surplus outputs are cut off
    (see :func:`~lrp_fx.canonize.padding.cut_surplus`). A separate pad would not do, because its
    zeros would count as inputs.
    """
    if not isinstance(b["padding"], str):
        return None
    dims = int(name_of(write.node).removeprefix("conv")[0])
    total: list[int] = [0] * dims
    if b["padding"] == "same":
        shape = shape_of(b["weight"], write.module)
        if shape is None:
            raise CaptureError(
                f"padding='same' {where(write.node)} with a weight that depends on the input is not "
                "supported"
            )
        dilation = as_tuple(b["dilation"], dims)
        total = [d * (k - 1) for d, k in zip(dilation, shape[2:], strict=True)]
    written = write(called(write.node), *{**b, "padding": [t - t // 2 for t in total]}.values())
    if b["padding"] == "same":
        written.meta[SURPLUS] = [Surplus(dim - dims, 1) for dim, t in enumerate(total) if t % 2]
    return written


def _first_of(packet: Packet, names: str) -> Form:
    """The first result of a call, as a call of ``packet`` with the arguments of these names."""
    return lambda write, b: [write(packet, *(b[name] for name in names.split()))]


def _instance_norm(write: Writer, b: Bound) -> fx.Node | None:
    """Instance norm with running statistics, which is batch norm in eval mode."""
    if b["use_input_stats"]:
        return None
    values = [b[name] for name in ("input", "weight", "bias", "running_mean", "running_var")]
    return write(aten.batch_norm, *values, False, b["momentum"], b["eps"], False)


def _fused_attention(write: Writer, b: Bound) -> list[fx.Node]:
    """Fused attention kernels of recorded graphs, taken apart as ``scaled_dot_product_attention``."""
    known = [write.known(b[name]) for name in ("query", "key")]
    heads = {each.shape[-3] for each in known if each is not None}
    mask = b.get("attn_mask", b.get("attn_bias"))
    return [take_apart(write, {**b, "attn_mask": mask, "enable_gqa": len(heads) > 1})]


def _glu(write: Writer, b: Bound) -> fx.Node:
    halves = write(aten.chunk, b["self"], 2, b["dim"])
    signal, gate = (write.result(halves, index) for index in (0, 1))
    return write(aten.mul, signal, write(aten.sigmoid, gate))


def _rrelu(write: Writer, b: Bound) -> fx.Node | list[fx.Node]:
    """The kernels of recorded graphs, which take a tensor for noise that they do not use in eval mode."""
    function = write(aten.rrelu, b["self"], b["lower"], b["upper"], b["training"])
    returns_noise = name_of(write.node) != "rrelu_with_noise"
    return [function] if returns_noise else function


_BATCH_NORMS = ("_no_training", "", "_functional")
_PADS = {"reflection": "reflect", "replication": "replicate"}
_DIMS = (1, 2, 3)
LAYER_FORMS: dict[str, Form] = {
    **{f"_native_batch_norm_legit{kind}": _batch_norm for kind in _BATCH_NORMS},
    "native_batch_norm": _batch_norm,
    **{f"max_pool{n}d": _max_pool(getattr(aten, f"max_pool{n}d_with_indices")) for n in _DIMS},
    "constant_pad_nd": _constant_pad,
    **{f"{kind}_pad{n}d": _mode_pad(mode) for kind, mode in _PADS.items() for n in _DIMS},
    "convolution": _convolution,
    "mkldnn_rnn_layer": _mkldnn_lstm,
    "_convolution": _convolution,
    **{f"conv{n}d": _convolution_padding for n in _DIMS},
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
