"""Other forms of arithmetic, products and views."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from torch import fx

from lrp_fx.graph import (
    ADDITIONS,
    Packet,
    arguments,
    as_tuple,
    aten,
    call_like,
    index_of,
    is_call,
    literal,
    name_of,
    replace_by,
    shape_of,
    shapes_of,
)

Rewrite = Callable[[fx.Node, fx.Graph, fx.GraphModule], None]
"""Replaces a call by its canonical form, in place."""


def _reshape_as(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    source, other = arguments(node).values()
    shape = graph.call_function(getattr, (other, "shape"))
    replace_by(node, call_like(graph, node, aten.reshape, source, shape))


def _hstack(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    replace_by(node, call_like(graph, node, aten.cat, arguments(node)["tensors"], 1))


def _extremum(packet: Packet) -> Rewrite:
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

    Integer powers stay: the exponential would round them. Some powers have a name of their own, such
    as ``x ** -1``.
    """
    base, exponent = arguments(node).values()
    named = _POWERS.get(literal(exponent)) if isinstance(base, fx.Node) else None
    if named is not None:
        replace_by(node, call_like(graph, node, named, base))
    elif isinstance(base, (int, float)) and base > 0 and not _is_whole(exponent, module):
        scaled = call_like(graph, node, aten.mul, exponent, math.log(base))
        replace_by(node, call_like(graph, node, aten.exp, scaled))
    elif is_call(base, "exp"):
        scaled = call_like(graph, node, aten.mul, base.args[0], exponent)
        replace_by(node, call_like(graph, node, aten.exp, scaled))


_POWERS: dict[float | None, Packet] = {-1: aten.reciprocal, 0.5: aten.sqrt, -0.5: aten.rsqrt}


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
    packet = getattr(aten, name_of(node).removesuffix("_mean"))
    spread = call_like(graph, node, packet, *node.args, **node.kwargs)
    dims = b.get("dim")
    mean = (b["self"],) if dims is None else (b["self"], dims, b.get("keepdim", False))
    results = (spread, call_like(graph, node, aten.mean, *mean))
    for user in list(node.users):
        replace_by(user, results[index_of(user)])
    graph.erase_node(node)


def _addmm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    is_plain = b["alpha"] == 1 and b["beta"] == 1
    if is_plain and _rank(b["mat2"], module) == 2 and _rank(b["self"], module) == 1:
        weight = call_like(graph, node, aten.t, b["mat2"])
        replace_by(node, call_like(graph, node, aten.linear, b["mat1"], weight, b["self"]))
        return
    _add_scaled(node, graph, call_like(graph, node, aten.mm, b["mat1"], b["mat2"]))


def _sparse_addmm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """The kernel for products with a sparse matrix in recorded graphs."""
    b = arguments(node)
    product = call_like(graph, node, aten.mm, b["mat1"], b["mat2"])
    if b["beta"] != 0:
        _add_scaled(node, graph, product)
    elif b["alpha"] != 1:
        replace_by(node, call_like(graph, node, aten.mul, product, b["alpha"]))
    else:
        replace_by(node, product)


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
    dtype = {"dtype": b["dtype"]} if b["dtype"] is not None else {}
    values = (b["self"], order, listed, b["keepdim"])
    norm = call_like(graph, node, aten.linalg_vector_norm, *values, **dtype)
    replace_by(node, norm)


def _special_softmax(packet: Packet) -> Rewrite:
    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        replace_by(node, call_like(graph, node, packet, *arguments(node).values()))

    return rewrite


def _addmv(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    _add_scaled(node, graph, call_like(graph, node, aten.mv, b["mat"], b["vec"]))


def _added(packet: Packet) -> Rewrite:
    """``addcmul`` and ``addcdiv``: a value plus a number times a product or quotient of two others."""

    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        b = arguments(node)
        term = call_like(graph, node, packet, b["tensor1"], b["tensor2"])
        new = call_like(graph, node, aten.add, b["self"], term, alpha=b["value"])
        replace_by(node, new)

    return rewrite


def _baddbmm(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    b = arguments(node)
    product = call_like(graph, node, aten.bmm, b["batch1"], b["batch2"])
    if b["beta"] == 0:
        replace_by(node, call_like(graph, node, aten.mul, product, b["alpha"]))
    else:
        _add_scaled(node, graph, product)


ARITHMETIC_FORMS: dict[str, Rewrite] = {
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
    "lerp": _lerp,
    "copy": _copy,
    "fill": _fill,
    **dict.fromkeys(ADDITIONS, _alpha),
    **dict.fromkeys(("var_mean", "std_mean"), _var_mean),
    "hstack": _hstack,
    "view_as": _reshape_as,
    "reshape_as": _reshape_as,
    "addmm": _addmm,
    "_sparse_addmm": _sparse_addmm,
    "addcmul": _added(aten.mul),
    "addcdiv": _added(aten.div),
    "addmv": _addmv,
    "baddbmm": _baddbmm,
    "type_as": _type_as,
}
