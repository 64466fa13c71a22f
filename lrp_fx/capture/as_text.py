"""A captured graph as text, and back: JSON that names operations, and holds no code.

Files may be damaged, or come from others. What is read back consists of known operations on the model's
own tensors, and nothing else: each target is an operation that only computes, each name is a plain name.
"""

from __future__ import annotations

import base64
import functools
import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.capture.captured import Captured
from lrp_fx.capture.lasting import bytes_of
from lrp_fx.graph import (
    Packet,
    TreeSpec,
    bind,
    graph_module_of,
    overloads_of,
    packet_of,
    row_named,
    schema_of,
    tensor_at,
)

FORMAT = 1
"""The version of the form; files of another one are not read."""
MOST_CONSTANTS = 64 * 2**20
"""Graphs whose constants have more bytes than this are not written."""
_NAMESPACES = ("aten", "lrp_fx", "torchvision")
_OPERATORS = ("getitem", "add", "sub", "mul", "floordiv", "mod", "truediv", "neg")
_PYTHON: dict[str, Callable[..., Any]] = {
    "getattr": getattr,
    **{name: getattr(operator, name) for name in _OPERATORS},
}
"""The functions of Python by which graphs compute with sizes. ``getattr`` reads shapes only."""
_WORDS = frozenset(
    {
        *("equation", "rounding_mode", "approximate", "padding", "reduce", "mode", "padding_mode"),
        *("indexing", "interpolation", "side", "UPLO", "norm", "ord", "pad_mode"),
    }
)
"""The parameters that choose among ways to compute, and so may be text."""
_PRIVATE = frozenset(
    {
        *("_unsafe_view", "_to_copy", "_reshape_alias", "_softmax", "_log_softmax", "_sparse_mm"),
        *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_weight_norm", "_unsafe_index"),
        *("_fft_r2c", "_fft_c2r", "_fft_c2c", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    }
)
"""The private operations that exports show, and that only compute."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII)
_CONSTANT = re.compile(r"_constant_\d+", re.ASCII)
_KINDS: dict[str, type] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


class NotText(Exception):
    """A graph that cannot be written, or a text that is no graph of known operations."""


def as_text(captured: Captured) -> str:
    """The graph as JSON. The model's tensors are named by their paths, constants are written out.

    Raises:
        NotText: if the graph has a part that the form does not know.
    """
    nodes = list(captured.module.graph.nodes)
    places = {node: place for place, node in enumerate(nodes)}
    return json.dumps(
        {
            "format": FORMAT,
            "way": captured.way,
            "constants": {n: _written_tensor(t) for n, t in _checked(captured.constants).items()},
            "nodes": [_written_node(node, places) for node in nodes],
        }
    )


def from_text(text: str, tensors: Mapping[str, Tensor], outputs: TreeSpec) -> Captured:
    """The graph that a text describes.

    Args:
        text: what :func:`as_text` wrote.
        tensors: the model's tensors by their paths.
        outputs: how the flat outputs are nested in the model's output.

    Raises:
        NotText: if the text is damaged, or names something other than known operations, tensors of
            the model and constants.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT or content["way"] not in ("symbolic", "export"):
            raise NotText("another form")
        constants = {name: _read_tensor(each) for name, each in content["constants"].items()}
        if not all(map(_CONSTANT.fullmatch, constants)):
            raise NotText("a constant with another name")
        graph, nodes = fx.Graph(), list[fx.Node]()
        known = {**tensors, **constants}
        for each in content["nodes"]:
            nodes.append(_read_node(graph, each, nodes, known))
        graph.lint()
        if [node.op for node in nodes if node.op == "output"] != [nodes[-1].op]:
            raise NotText("a graph without its output")
        used = {str(node.target) for node in nodes if node.op == "get_attr"}
        module = graph_module_of({name: known[name] for name in used}, graph, "Captured")
        return Captured(module, outputs, content["way"], constants)
    except NotText:
        raise
    except Exception as error:  # anything may be missing, or of another type
        raise NotText(f"{type(error).__name__}: {error}") from error


def _written_node(node: fx.Node, places: Mapping[fx.Node, int]) -> dict[str, Any]:
    """A node as JSON."""
    target = str(node.target)
    if node.op == "call_function":
        target = _written_target(node)
    return {
        "op": node.op,
        "name": node.name,
        "target": target,
        "args": _written(node.args, places),
        "kwargs": _written(dict(node.kwargs), places),
        "calls": node.meta.get("module_calls"),
        "source": node.meta.get("source"),
        "dtype": _written(node.meta.get("dtype"), places),
    }


def _read_node(
    graph: fx.Graph, each: Any, nodes: list[fx.Node], tensors: Mapping[str, Tensor]
) -> fx.Node:
    """The node of a graph that JSON describes."""
    kind, name, target = each["op"], each["name"], each["target"]
    if not _NAME.fullmatch(name):
        raise NotText("a name that is none")
    args, kwargs = _read(each["args"], nodes), _read(each["kwargs"], nodes)
    if kind == "output":
        return graph.output(args[0])
    if kind == "placeholder":
        if not _NAME.fullmatch(target) or args or kwargs:
            raise NotText("an input that is none")
    elif kind == "get_attr":
        if target not in tensors:
            raise NotText("a tensor that the model does not have")
    elif kind == "call_function":
        target = _read_target(target, args, kwargs)
    else:
        raise NotText(f"a node that is a {kind}")
    node = graph.create_node(kind, target, args, kwargs, name)
    if each["calls"] is not None:
        node.meta["module_calls"] = tuple((str(path), int(count)) for path, count in each["calls"])
        node.meta["source"] = None if each["source"] is None else str(each["source"])
    if (dtype := _read(each["dtype"], nodes)) is not None:
        node.meta["dtype"] = dtype
    return node


def _written_target(node: fx.Node) -> str:
    """The name of what a node calls."""
    packet = packet_of(node.target)
    if packet is None:
        name = next((name for name, each in _PYTHON.items() if each is node.target), None)
        if name is None:
            raise NotText(f"{node.target} is no operation")
        return f"python.{name}"
    space, _, name = str(packet).partition(".")
    target = f"{space}.{name}"
    _read_target(target, node.args, node.kwargs)
    return target


def _read_target(target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a name stands for, if it only computes."""
    space, _, name = target.partition(".")
    if space == "python":
        if name == "getattr" and (kwargs or len(args) != 2 or args[1] != "shape"):
            raise NotText("an attribute that is no shape")
        return _PYTHON[name]
    if space not in _NAMESPACES or not _NAME.fullmatch(name):
        raise NotText(f"{target} is no known operation")
    packet = packet_of(getattr(getattr(torch.ops, space), name, None))
    bound = None if packet is None else bind(packet, args, kwargs)
    if packet is None or bound is None or not _only_computes(packet):
        raise NotText(f"{target} is no known operation")
    if any(isinstance(value, str) and key not in _WORDS for key, value in bound.items()):
        raise NotText(f"{target} gets text")
    return packet


@functools.cache
def _only_computes(packet: Packet) -> bool:
    """Whether an operation makes tensors or sizes, and writes to nothing.

    The table knows that of its operations. Of the others the schema tells, but not of all private ones.
    """
    name = str(packet.__name__)
    if row_named(name).name:
        return True
    if name.endswith("_") or (name.startswith("_") and name not in _PRIVATE):
        return False
    schemas = [schema_of(getattr(packet, name)) for name in overloads_of(packet)]
    own = [each for each in schemas if _is_of_tensors(each)]
    returned = [str(result.type) for each in own for result in each.returns]
    makes = any("Tensor" in each for each in returned)
    return makes and all(each.returns and not each.is_mutable for each in own)


def _is_of_tensors(schema: Any) -> bool:
    """Whether an overload has to do with tensors, and does not write to an argument ``out``."""
    types = (str(each.type) for each in (*schema.arguments, *schema.returns))
    return any("Tensor" in each for each in types) and not any(a.is_out for a in schema.arguments)


def _written(value: Any, places: Mapping[fx.Node, int]) -> Any:
    """An argument of a node as JSON; what JSON has no form for is a dictionary of one entry."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, fx.Node):
        return {"node": places[value]}
    if isinstance(value, dict):
        return {"dict": {str(key): _written(each, places) for key, each in value.items()}}
    if isinstance(value, tuple):
        return {"tuple": [_written(each, places) for each in value]}
    if isinstance(value, list):
        return [_written(each, places) for each in value]
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return {"slice": [_written(each, places) for each in parts]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if value is Ellipsis:
        return {"ellipsis": None}
    if type(value) is complex:
        return {"complex": [value.real, value.imag]}
    for name, kind in _KINDS.items():
        if isinstance(value, kind):
            return {name: str(value).removeprefix("torch.")}
    raise NotText(f"a {type(value).__name__} among the arguments")


def _read(value: Any, nodes: list[fx.Node]) -> Any:
    """The argument that JSON describes."""
    if isinstance(value, list):
        return [_read(each, nodes) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "node":
        return nodes[range(len(nodes))[content]]
    if kind == "dict":
        return {key: _read(each, nodes) for key, each in content.items()}
    if kind == "tuple":
        return tuple(_read(each, nodes) for each in content)
    if kind == "slice":
        return slice(*(_read(each, nodes) for each in content))
    if kind == "device":
        return torch.device(content)
    if kind == "ellipsis":
        return Ellipsis
    if kind == "complex":
        return complex(*content)
    found = getattr(torch, content)
    if not isinstance(found, _KINDS[kind]):
        raise NotText(f"{content} is no {kind}")
    return found


def _checked(constants: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The constants, if all can be written: dense, without gradients, and not too large."""
    for tensor in constants.values():
        plain = type(tensor) is Tensor and tensor.layout == torch.strided
        if not plain or tensor.requires_grad or tensor.device.type == "meta":
            raise NotText(f"a constant that is a {type(tensor).__name__}, or is not dense")
    if sum(_span(tensor).nbytes for tensor in constants.values()) > MOST_CONSTANTS:
        raise NotText("constants that are too large")
    return constants


def _span(tensor: Tensor) -> Tensor:
    """The memory of a tensor, from its first entry to its last, as a vector."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    count = sum((size - 1) * stride for size, stride in pairs) + 1 if tensor.numel() else 0
    return tensor.detach().resolve_conj().resolve_neg().as_strided((count,), (1,))


def _written_tensor(tensor: Tensor) -> dict[str, Any]:
    """A constant as JSON; its layout is kept, so that the same kernels run."""
    return {
        "shape": list(tensor.shape),
        "stride": list(tensor.stride()),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "device": str(tensor.device),
        "values": base64.b64encode(bytes_of(_span(tensor))).decode(),
    }


def _read_tensor(content: Any) -> Tensor:
    """The constant that JSON describes."""
    dtype = _read({"dtype": content["dtype"]}, [])
    values = bytearray(base64.b64decode(content["values"], validate=True))
    flat = torch.frombuffer(values, dtype=torch.uint8).view(dtype) if values else None
    span = torch.empty(0, dtype=dtype) if flat is None else flat
    span = span.clone().to(content["device"])
    return span.as_strided(content["shape"], content["stride"])
