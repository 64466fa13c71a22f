"""One vocabulary for all captures: synonyms renamed, identities removed, randomness refused."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

from lrp_fx.aten import arguments, as_tuple, aten, name_of, packet_of
from lrp_fx.canonize.graphs import call_like, replace_by, tensor_at
from lrp_fx.capture import where
from lrp_fx.errors import CaptureError

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
_RANDOM = frozenset(
    [
        "rand",
        "rand_like",
        "randn",
        "randn_like",
        "randint",
        "bernoulli",
        "normal",
        "rrelu_with_noise",
    ]
)
_RESHAPES = frozenset(["view", "_unsafe_view", "view_copy", "_reshape_alias"])


def one_vocabulary(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Rewrite every call that has a canonical form, in place.

    Raises:
        CaptureError: when the model draws random numbers in eval mode.
    """
    for node in list(graph.nodes):
        if packet_of(node.target) is None or node.op != "call_function":
            continue
        name = name_of(node)
        with graph.inserting_before(node):
            if name in _IDENTITIES:
                _forward_identity(node)
            elif name in _DROPOUT:
                _dropout(node)
            elif name in _RANDOM:
                raise CaptureError(
                    f"'{name}' {where(node)} draws random numbers in eval mode: its explanation would "
                    "differ from call to call. Make it depend on self.training."
                )
            elif name.startswith(("_assert", "sym_constrain", "_guards")):
                if not node.users:
                    graph.erase_node(node)
            elif name in _RESHAPES:
                node.target = aten.reshape
            elif name in _CANONICAL:
                _CANONICAL[name](node, graph, module)


def _forward_identity(node: fx.Node) -> None:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    replace_by(node, source)


def _dropout(node: fx.Node) -> None:
    bound = arguments(node)
    if bound["train"]:
        raise CaptureError(
            f"dropout {where(node)} is active in eval mode: call F.dropout(x, p, "
            "training=self.training), or the model's output is random and cannot be explained."
        )
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
        *(b["input"], b["weight"], b["bias"], b["running_mean"], b["running_var"]),
        *(b.get("training", False), b["momentum"], b["eps"], False),
    )
    _replace_first(node, new)


def _max_pool(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    packet = getattr(aten, f"{name_of(node)}_with_indices")
    both = call_like(graph, node, packet, *node.args)
    both.kwargs = node.kwargs
    replace_by(node, call_like_getitem(graph, both, 0))


def call_like_getitem(graph: fx.Graph, origin: fx.Node, index: int) -> fx.Node:
    """``origin[index]`` of a call that returns several tensors."""
    node = graph.call_function(operator.getitem, (origin, index))
    node.meta = dict(origin.meta)
    return node


def _replace_first(node: fx.Node, substitute: fx.Node) -> None:
    """``substitute`` stands for the first of the several results of ``node``."""
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            replace_by(user, substitute)
    if not node.users:
        node.graph.erase_node(node)


def _constant_pad(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    replace_by(node, call_like(graph, node, aten.pad, b["self"], b["pad"], "constant", b["value"]))


def _mode_pad(mode: str) -> Callable[[fx.Node, fx.Graph, fx.GraphModule], None]:
    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        b = arguments(node)
        replace_by(node, call_like(graph, node, aten.pad, b["self"], b["padding"], mode))

    return rewrite


def _convolution_padding(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``padding="same"`` and ``"valid"`` in numbers; an uneven "same" becomes a pad of its own."""
    b = arguments(node)
    if not isinstance(b["padding"], str):
        return
    dims = int(name_of(node).removeprefix("conv")[0])
    padding: list[int] = [0] * dims
    if b["padding"] == "same":
        weight = b["weight"]
        if not (isinstance(weight, fx.Node) and weight.op == "get_attr"):
            raise CaptureError(
                f"padding='same' with a computed weight {where(node)} is not supported"
            )
        kernel = tensor_at(module, str(weight.target)).shape[2:]
        total = [d * (k - 1) for d, k in zip(as_tuple(b["dilation"], dims), kernel, strict=True)]
        if any(t % 2 for t in total):
            sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
            padded = call_like(graph, node, aten.pad, b["input"], sides, "constant", 0.0)
            b["input"] = padded
        else:
            padding = [t // 2 for t in total]
    b["padding"] = padding
    node.args, node.kwargs = tuple(b.values()), {}


def _matmul(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """``x @ W`` with a constant matrix is a linear operation with the weight ``Wᵀ``."""
    first, second = node.args[0], node.args[1]
    if _rank(second, module) == 2 and isinstance(first, fx.Node) and first.op != "get_attr":
        weight = call_like(graph, node, aten.t, second)
        replace_by(node, call_like(graph, node, aten.linear, first, weight))


def _addmm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    is_plain = b["alpha"] == 1 and b["beta"] == 1
    if is_plain and _rank(b["mat2"], module) == 2 and _rank(b["self"], module) == 1:
        weight = call_like(graph, node, aten.t, b["mat2"])
        replace_by(node, call_like(graph, node, aten.linear, b["mat1"], weight, b["self"]))


def _rank(value: Any, module: fx.GraphModule) -> int | None:
    """The number of dimensions of a parameter or constant, also through transposes; else None."""
    if isinstance(value, fx.Node) and name_of(value) in ("t", "transpose", "permute"):
        return _rank(value.args[0], module)
    if isinstance(value, fx.Node) and value.op == "get_attr":
        return tensor_at(module, str(value.target)).dim()
    return None


_CANONICAL: dict[str, Callable[[fx.Node, fx.Graph, fx.GraphModule], None]] = {
    "_native_batch_norm_legit_no_training": _legit_batch_norm,
    "_native_batch_norm_legit": _legit_batch_norm,
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
    "conv1d": _convolution_padding,
    "conv2d": _convolution_padding,
    "conv3d": _convolution_padding,
    "matmul": _matmul,
    "mm": _matmul,
    "addmm": _addmm,
}
