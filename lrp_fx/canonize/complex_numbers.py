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

from lrp_fx.canonize.parts import ComplexWriter, Pair
from lrp_fx.canonize.spectra import SPECTRA
from lrp_fx.graph import (
    ADDITIONS,
    CASTS,
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

Rewriting = Callable[[ComplexWriter, dict[str, Any]], Any]
"""A function from the writer and the arguments to the result: a pair, a node, or None if it cannot."""


def separate_parts(graph: fx.Graph, module: fx.GraphModule) -> None:
    """Write complex values by their parts, in place.

    What has no form by its parts reads and returns complex values as before.
    """
    if not any(map(_begins, graph.nodes)):
        return
    parts: dict[fx.Node, Pair] = {}
    for node in list(graph.nodes):
        write = ComplexWriter(graph, node, shapes_of(module), parts)
        if node.op == "output":
            with graph.inserting_before(node):
                write.rejoin()
        elif node.op in ("placeholder", "get_attr"):
            if write.is_complex(node):
                with graph.inserting_after(node):
                    imaginary = write(aten.imag, node)
                with graph.inserting_after(node):
                    parts[node] = write(aten.real, node), imaginary
        elif node.op == "call_function" and (
            name_of(node) in SPECTRA or write.is_complex(node) or write.reads_complex()
        ):
            with graph.inserting_before(node):
                _separate(write, node)


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


def _separate(write: ComplexWriter, node: fx.Node) -> None:
    name = name_of(node)
    result = None
    if packet_of(node.target) is not None:
        rewriting = COMPLEX_FORMS.get(name)
        if rewriting is not None:
            result = rewriting(write, arguments(node))
        elif _acts_on_parts(node):
            result = _part_by_part(write, node)
    elif name in ("getitem", "getattr", "python.size"):
        result = write.on_parts(node.target, node.args, node.kwargs)
        if name != "getitem":
            result = None if "dtype" in node.args else result[0]
    if isinstance(result, tuple):
        write.parts[node] = result
    elif result is not None:
        replace_by(node, result)
    else:
        write.rejoin()
        if write.is_complex(node):
            with write.graph.inserting_after(node):
                imaginary = write(aten.imag, node)
            with write.graph.inserting_after(node):
                write.parts[node] = write(aten.real, node), imaginary


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


def _part_by_part(write: ComplexWriter, node: fx.Node) -> Any:
    """The operation on the real parts, and on the imaginary parts, with zeros as constants."""
    kwargs = {key: _real_dtype(value) for key, value in node.kwargs.items()}
    args = tuple(map(_real_dtype, node.args))
    real = write.on_parts(node.target, args, kwargs)[0]
    known = write.known(node)
    says = row_of(node).says == "sizes" or name_of(node) == "expand_as"
    if not (known.is_complex() if known is not None else not says):
        return real  # a size, or a real value in the shape of a complex one
    bound = arguments(node)
    if name_of(node) in ("ones_like", "new_ones", "full_like", "new_full"):
        return real, write(aten.zeros_like, real)
    for key in _FILLS:  # numbers are real
        if isinstance(bound.get(key), (int, float)):
            bound[key] = 0
    bound = {key: _real_dtype(value) for key, value in bound.items()}
    bound = write.imaginary_arguments(bound)
    count = len(node.args)
    imaginary = write(called(node), *list(bound.values())[:count])
    imaginary.kwargs = dict(list(bound.items())[count:])
    return real, imaginary


def _real_dtype(value: Any) -> Any:
    return value.to_real() if isinstance(value, torch.dtype) else value


# --- arithmetic -----------------------------------------------------------------------------------


def _sum(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    """``z + alpha w``, and ``z − alpha w`` if negative."""
    sign = -1 if name_of(write.node) in ("sub", "rsub") else 1
    first, second = write.pair(b["self"]), write.pair(b["other"])
    if name_of(write.node) == "rsub":
        first, second = second, first
    factor = sign * b.get("alpha", 1)
    real, imaginary = (
        write.plus(x, write.scaled(y, factor)) for x, y in zip(first, second, strict=True)
    )
    return write.alike(real, imaginary)


def _product(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    return write.times(write.pair(b["self"]), write.pair(b["other"]), aten.mul)


def _quotient(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    first, (c, d) = write.pair(b["self"]), write.pair(b["other"])
    if d is None:
        return write.alike(*(None if x is None else write(aten.div, x, c) for x in first))
    size = write.plus(write.times_real(c, c), write.times_real(d, d))
    real, imaginary = write.times(first, (c, write.scaled(d, -1)), aten.mul)
    return write(aten.div, real, size), write(aten.div, imaginary, size)


def _reciprocal(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    return _quotient(write, {"self": 1.0, "other": b["self"]})


def _power(write: ComplexWriter, b: dict[str, Any]) -> Pair | None:
    z = write.pair(b["self"])
    exponent = b.get("exponent", 2)
    if not isinstance(exponent, (int, float)) or exponent not in (2, 3):
        return None
    square = write.times(z, z, aten.mul)
    return square if exponent == 2 else write.times(square, z, aten.mul)


def _bilinear(first: str, second: str, bias: str | None = None) -> Rewriting:
    """A product of two operands with a bias, by the four products of their parts."""

    def rewrite(write: ComplexWriter, b: dict[str, Any]) -> Pair:
        packet = called(write.node)

        def of_parts(_: Packet, x: Any, y: Any) -> fx.Node:
            operands = {**b, first: x, second: y} | ({bias: None} if bias else {})
            return write(packet, *operands.values())

        pair = write.times(write.pair(b[first]), write.pair(b[second]), of_parts)
        if bias is None or b[bias] is None:
            return pair
        shift, ones = write.pair(b[bias]), _places_behind(write)
        shaped = [None if s is None else write(aten.reshape, s, [-1, *ones]) for s in shift]
        real, imaginary = (write.plus(x, s) for x, s in zip(pair, shaped, strict=True))
        return real, imaginary

    return rewrite


def _places_behind(write: ComplexWriter) -> list[int]:
    """A one for each dimension after the channels of a convolution."""
    name = name_of(write.node)
    return [1] * next((n for n in (1, 2, 3) if f"{n}d" in name), 0)


def _einsum(write: ComplexWriter, b: dict[str, Any]) -> Pair | None:
    equation, operands = b["equation"], b["tensors"]
    if len(operands) == 1:
        return write.on_parts(aten.einsum, (equation, operands), {})
    if len(operands) != 2:
        return None

    def of_parts(_: Packet, x: Any, y: Any) -> fx.Node:
        return write(aten.einsum, equation, [x, y])

    first, second = operands
    return write.times(write.pair(first), write.pair(second), of_parts)


# --- functions ------------------------------------------------------------------------------------


def _absolute(write: ComplexWriter, b: dict[str, Any]) -> fx.Node:
    return write.absolute(write.pair(b["self"]))


def _angle(write: ComplexWriter, b: dict[str, Any]) -> fx.Node:
    real, imaginary = write.whole(b["self"])
    return write(aten.atan2, imaginary, real)


def _sign(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    """``z / |z|``, and zero at zero."""
    real, imaginary = write.whole(b["self"])
    size = write(aten.clamp_min, write.absolute((real, imaginary)), torch.finfo(torch.float32).tiny)
    return write(aten.div, real, size), write(aten.div, imaginary, size)


def _exponential(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    real, angle = write.whole(b["self"])
    return write.polar(write(aten.exp, real), angle)


def _logarithm(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    real, imaginary = write.whole(b["self"])
    size = write.absolute((real, imaginary))
    return write(aten.log, size), write(aten.atan2, imaginary, real)


def _conjugate(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    real, imaginary = write.whole(b["self"])
    return real, write(aten.neg, imaginary)


def _negative(write: ComplexWriter, b: dict[str, Any]) -> Pair:
    real, imaginary = write.whole(b["self"])
    return write(aten.neg, real), write(aten.neg, imaginary)


def _cast(write: ComplexWriter, b: dict[str, Any]) -> Any:
    """A cast to another precision; to real numbers it drops the imaginary part."""
    dtypes = [
        v for v in (*write.node.args, *write.node.kwargs.values()) if isinstance(v, torch.dtype)
    ]
    pair = write.pair(b["self"])
    if len(dtypes) != 1:
        return pair if write.is_complex(write.node) else None
    (dtype,) = dtypes
    real, imaginary = (
        None if part is None else write(aten.to, part, dtype.to_real()) for part in pair
    )
    return write.alike(real, imaginary) if dtype.is_complex else real


COMPLEX_FORMS: dict[str, Rewriting] = {
    **SPECTRA,
    **dict.fromkeys(ADDITIONS, _sum),
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
    **dict.fromkeys(("resolve_conj", "resolve_neg"), lambda write, b: write.whole(b["self"])),
    "_neg_view": _negative,
    "real": lambda write, b: write.whole(b["self"])[0],
    "imag": lambda write, b: write.whole(b["self"])[1],
    "view_as_real": lambda write, b: write.stacked(write.whole(b["self"])),
    "complex": lambda write, b: (b["real"], b["imag"]),
    "polar": lambda write, b: write.polar(b["abs"], b["angle"]),
    "abs": _absolute,
    "angle": _angle,
    "sgn": _sign,
    "exp": _exponential,
    "log": _logarithm,
    **dict.fromkeys(CASTS, _cast),
}
"""How each operation on complex values is written by their parts."""
