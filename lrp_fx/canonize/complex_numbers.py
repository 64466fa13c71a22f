"""Complex values, written by their real and imaginary parts.

Each complex value becomes two real ones, and each operation on it what it computes of the parts. So
rules, statistics and gates are found as in real networks: ``|z|`` is a norm of two entries, a
product is a sum of products, a Fourier transform is a linear map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.canonize.parts import Desk, Pair
from lrp_fx.canonize.spectra import SPECTRA
from lrp_fx.graph import (
    EXAMPLE,
    Packet,
    arguments,
    aten,
    called,
    name_of,
    packet_of,
    replace_by,
    row_of,
    shapes_of,
    tensor_at,
)

Rewriting = Callable[[Desk, dict[str, Any]], Any]
"""A function from the desk and the arguments to the result: a pair, a node, or None if it cannot."""


def separate_parts(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Write complex values by their parts, in place.

    What has no form by its parts reads and returns complex values as before.
    """
    if not any(map(_begins, graph.nodes)):
        return
    parts: dict[fx.Node, Pair] = {}
    for node in list(graph.nodes):
        desk = Desk(graph, node, shapes_of(module), parts)
        if node.op == "output":
            with graph.inserting_before(node):
                desk.rejoin()
        elif node.op in ("placeholder", "get_attr"):
            if desk.is_complex(node):
                with graph.inserting_after(node):
                    imaginary = desk(aten.imag, node)
                with graph.inserting_after(node):
                    parts[node] = desk(aten.real, node), imaginary
        elif node.op == "call_function" and (
            name_of(node) in SPECTRA or desk.is_complex(node) or desk.reads_complex()
        ):
            with graph.inserting_before(node):
                _separate(desk, node)


def _begins(node: fx.Node) -> bool:
    """Whether complex values may begin at a node."""
    if node.op == "get_attr":
        module = node.graph.owning_module
        return module is not None and tensor_at(module, str(node.target)).is_complex()
    if node.op == "placeholder":
        example = node.meta.get(EXAMPLE)
        return isinstance(example, Tensor) and example.is_complex()
    values = (*node.args, *node.kwargs.values())
    return name_of(node) in ("complex", "polar", *SPECTRA) or any(
        isinstance(value, complex) or (isinstance(value, torch.dtype) and value.is_complex)
        for value in values
    )


def _separate(desk: Desk, node: fx.Node) -> None:
    name = name_of(node)
    result = None
    if packet_of(node.target) is not None:
        rewriting = _REWRITINGS.get(name)
        if rewriting is not None:
            result = rewriting(desk, arguments(node))
        elif _acts_on_parts(node):
            result = _part_by_part(desk, node)
    elif name in ("getitem", "getattr", "python.size"):
        result = desk.on_parts(node.target, node.args, node.kwargs)
        if name != "getitem":
            result = None if "dtype" in node.args else result[0]
    if isinstance(result, tuple):
        desk.parts[node] = result
    elif result is not None:
        replace_by(node, result)
    else:
        desk.rejoin()
        if desk.is_complex(node):
            with desk.graph.inserting_after(node):
                imaginary = desk(aten.imag, node)
            with desk.graph.inserting_after(node):
                desk.parts[node] = desk(aten.real, node), imaginary


def _acts_on_parts(node: fx.Node) -> bool:
    """Whether an operation is linear with real weights, so that it acts on each part alone."""
    row = row_of(node)
    return (
        (row.moves and row.choice != "value")
        or row.sums is not None
        or row.says in ("shapes", "sizes")
        or name_of(node) in ("expand_as", "scatter_add", "index_add", "where", "masked_fill")
    )


_FILLS = ("value", "fill_value")


def _part_by_part(desk: Desk, node: fx.Node) -> Any:
    """The operation on the real parts, and on the imaginary parts, with zeros as constants."""
    kwargs = {key: _real_dtype(value) for key, value in node.kwargs.items()}
    args = tuple(map(_real_dtype, node.args))
    real = desk.on_parts(node.target, args, kwargs)[0]
    known = desk.known(node)
    says = row_of(node).says == "sizes" or name_of(node) == "expand_as"
    if not (known.is_complex() if known is not None else not says):
        return real  # a size, or a real value in the shape of a complex one
    bound = arguments(node)
    if name_of(node) in ("ones_like", "new_ones", "full_like", "new_full"):
        return real, desk(aten.zeros_like, real)
    for key in _FILLS:  # numbers are real
        if isinstance(bound.get(key), (int, float)):
            bound[key] = 0
    bound = {key: _real_dtype(value) for key, value in bound.items()}
    bound = desk.imaginary_arguments(bound)
    count = len(node.args)
    imaginary = desk(called(node), *list(bound.values())[:count])
    imaginary.kwargs = dict(list(bound.items())[count:])
    return real, imaginary


def _real_dtype(value: Any) -> Any:
    return value.to_real() if isinstance(value, torch.dtype) else value


# --- arithmetic -----------------------------------------------------------------------------------


def _sum(desk: Desk, b: dict[str, Any]) -> Pair:
    """``z + alpha w``, and ``z − alpha w`` if negative."""
    sign = -1 if name_of(desk.node) in ("sub", "rsub") else 1
    first, second = desk.pair(b["self"]), desk.pair(b["other"])
    if name_of(desk.node) == "rsub":
        first, second = second, first
    factor = sign * b.get("alpha", 1)
    real, imaginary = (
        desk.plus(x, desk.scaled(y, factor)) for x, y in zip(first, second, strict=True)
    )
    return desk.alike(real, imaginary)


def _product(desk: Desk, b: dict[str, Any]) -> Pair:
    return desk.times(desk.pair(b["self"]), desk.pair(b["other"]), aten.mul)


def _quotient(desk: Desk, b: dict[str, Any]) -> Pair:
    first, (c, d) = desk.pair(b["self"]), desk.pair(b["other"])
    if d is None:
        return desk.alike(*(None if x is None else desk(aten.div, x, c) for x in first))
    size = desk.plus(desk.times_real(c, c), desk.times_real(d, d))
    real, imaginary = desk.times(first, (c, desk.scaled(d, -1)), aten.mul)
    return desk(aten.div, real, size), desk(aten.div, imaginary, size)


def _reciprocal(desk: Desk, b: dict[str, Any]) -> Pair:
    return _quotient(desk, {"self": 1.0, "other": b["self"]})


def _power(desk: Desk, b: dict[str, Any]) -> Pair | None:
    z = desk.pair(b["self"])
    exponent = b.get("exponent", 2)
    if not isinstance(exponent, (int, float)) or exponent not in (2, 3):
        return None
    square = desk.times(z, z, aten.mul)
    return square if exponent == 2 else desk.times(square, z, aten.mul)


def _bilinear(first: str, second: str, bias: str | None = None) -> Rewriting:
    """A product of two operands with a bias, by the four products of their parts."""

    def rewrite(desk: Desk, b: dict[str, Any]) -> Pair:
        packet = called(desk.node)

        def write(_: Packet, x: Any, y: Any) -> fx.Node:
            operands = {**b, first: x, second: y} | ({bias: None} if bias else {})
            return desk(packet, *operands.values())

        pair = desk.times(desk.pair(b[first]), desk.pair(b[second]), write)
        if bias is None or b[bias] is None:
            return pair
        shift, ones = desk.pair(b[bias]), _places_behind(desk)
        shaped = [None if s is None else desk(aten.reshape, s, [-1, *ones]) for s in shift]
        real, imaginary = (desk.plus(x, s) for x, s in zip(pair, shaped, strict=True))
        return real, imaginary

    return rewrite


def _places_behind(desk: Desk) -> list[int]:
    """A one for each dimension behind the channels of a convolution."""
    name = name_of(desk.node)
    return [1] * next((n for n in (1, 2, 3) if f"{n}d" in name), 0)


def _einsum(desk: Desk, b: dict[str, Any]) -> Pair | None:
    equation, operands = b["equation"], b["tensors"]
    if len(operands) == 1:
        return desk.on_parts(aten.einsum, (equation, operands), {})
    if len(operands) != 2:
        return None

    def write(_: Packet, x: Any, y: Any) -> fx.Node:
        return desk(aten.einsum, equation, [x, y])

    first, second = operands
    return desk.times(desk.pair(first), desk.pair(second), write)


# --- functions ------------------------------------------------------------------------------------


def _absolute(desk: Desk, b: dict[str, Any]) -> fx.Node:
    return desk.absolute(desk.pair(b["self"]))


def _angle(desk: Desk, b: dict[str, Any]) -> fx.Node:
    real, imaginary = desk.whole(b["self"])
    return desk(aten.atan2, imaginary, real)


def _sign(desk: Desk, b: dict[str, Any]) -> Pair:
    """``z / |z|``, and zero at zero."""
    real, imaginary = desk.whole(b["self"])
    size = desk(aten.clamp_min, desk.absolute((real, imaginary)), torch.finfo(torch.float32).tiny)
    return desk(aten.div, real, size), desk(aten.div, imaginary, size)


def _exponential(desk: Desk, b: dict[str, Any]) -> Pair:
    real, angle = desk.whole(b["self"])
    return desk.polar(desk(aten.exp, real), angle)


def _logarithm(desk: Desk, b: dict[str, Any]) -> Pair:
    real, imaginary = desk.whole(b["self"])
    size = desk.absolute((real, imaginary))
    return desk(aten.log, size), desk(aten.atan2, imaginary, real)


def _conjugate(desk: Desk, b: dict[str, Any]) -> Pair:
    real, imaginary = desk.whole(b["self"])
    return real, desk(aten.neg, imaginary)


def _negative(desk: Desk, b: dict[str, Any]) -> Pair:
    real, imaginary = desk.whole(b["self"])
    return desk(aten.neg, real), desk(aten.neg, imaginary)


def _cast(desk: Desk, b: dict[str, Any]) -> Any:
    """A cast to another precision; to real numbers it drops the imaginary part."""
    dtypes = [
        v for v in (*desk.node.args, *desk.node.kwargs.values()) if isinstance(v, torch.dtype)
    ]
    pair = desk.pair(b["self"])
    if len(dtypes) != 1:
        return pair if desk.is_complex(desk.node) else None
    (dtype,) = dtypes
    real, imaginary = (
        None if part is None else desk(aten.to, part, dtype.to_real()) for part in pair
    )
    return desk.alike(real, imaginary) if dtype.is_complex else real


_REWRITINGS: dict[str, Rewriting] = {
    **SPECTRA,
    **dict.fromkeys(("add", "sub", "rsub"), _sum),
    "mul": _product,
    "div": _quotient,
    "reciprocal": _reciprocal,
    "square": _power,
    "pow": _power,
    "matmul": _bilinear("self", "other"),
    "dot": _bilinear("self", "tensor"),
    **dict.fromkeys(("mm", "bmm"), _bilinear("self", "mat2")),
    "mv": _bilinear("self", "vec"),
    "linear": _bilinear("input", "weight", "bias"),
    **{f"conv{n}d": _bilinear("input", "weight", "bias") for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _bilinear("input", "weight", "bias") for n in (1, 2, 3)},
    "einsum": _einsum,
    "neg": _negative,
    **dict.fromkeys(("_conj", "conj", "conj_physical", "_conj_physical"), _conjugate),
    **dict.fromkeys(("resolve_conj", "resolve_neg"), lambda desk, b: desk.whole(b["self"])),
    "_neg_view": _negative,
    "real": lambda desk, b: desk.whole(b["self"])[0],
    "imag": lambda desk, b: desk.whole(b["self"])[1],
    "view_as_real": lambda desk, b: desk.stacked(desk.whole(b["self"])),
    "complex": lambda desk, b: (b["real"], b["imag"]),
    "polar": lambda desk, b: desk.polar(b["abs"], b["angle"]),
    "abs": _absolute,
    "angle": _angle,
    "sgn": _sign,
    "exp": _exponential,
    "log": _logarithm,
    **dict.fromkeys(("to", "_to_copy"), _cast),
}
