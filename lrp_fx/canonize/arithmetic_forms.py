"""Other forms of arithmetic, products and views."""

from __future__ import annotations

import math
import sys
from typing import Any

from torch import fx

from lrp_fx.canonize.algebra import cast_of, scaled_sum
from lrp_fx.canonize.call_writer import Bound, Form, Writer
from lrp_fx.graph import (
    ADDITIONS,
    Packet,
    as_tuple,
    aten,
    called,
    is_call,
    literal,
    name_of,
    shape_of,
)


def _reshape_as(write: Writer, b: Bound) -> fx.Node:
    source, other = b.values()
    shape = write.node.graph.call_function(getattr, (other, "shape"))
    return write(aten.reshape, source, shape)


def _type_as(write: Writer, b: Bound) -> fx.Node:
    dtype = write.node.graph.call_function(getattr, (b["other"], "dtype"))
    return write(aten.to, b["self"], dtype)


def _hstack(write: Writer, b: Bound) -> fx.Node:
    return write(aten.cat, b["tensors"], 1)


def _extremum(packet: Packet) -> Form:
    """``torch.max(a, b)`` shares its name with the maximum over a dimension, and is renamed."""

    def form(write: Writer, b: Bound) -> fx.Node | None:
        args = write.node.args
        return write(packet, *args) if len(args) == 2 and isinstance(args[1], fx.Node) else None

    return form


def _where(write: Writer, b: Bound) -> fx.Node | None:
    """``where(condition)``, without values, returns the places: ``nonzero(as_tuple=True)``."""
    return write(aten.nonzero_numpy, b["condition"]) if len(b) == 1 else None


def _pow(write: Writer, b: Bound) -> fx.Node | None:
    """``c ** x`` as ``exp(x · log c)``, also if ``c = exp(z)``; else the base would get relevance.

    Integer powers stay: the exponential would round them. Some powers have a name of their own, such
    as ``x ** -1``.
    """
    base, exponent = b.values()
    if is_call(base, "exp"):
        return write(aten.exp, write(aten.mul, base.args[0], exponent))
    if exponent == 1 and isinstance(exponent, int if _is_whole(write, base) else (int, float)):
        return base  # type: ignore[no-any-return]
    named = _POWERS.get(literal(exponent)) if isinstance(base, fx.Node) else None
    if named is not None:
        return write(named, base)
    if isinstance(base, (int, float)) and base > 0 and not _is_whole(write, exponent):
        return write(aten.exp, write(aten.mul, exponent, math.log(base)))
    return None


_POWERS: dict[float | None, Packet] = {-1: aten.reciprocal, 0.5: aten.sqrt, -0.5: aten.rsqrt}


def _exp2(write: Writer, b: Bound) -> fx.Node:
    return write(aten.exp, write(aten.mul, b["self"], math.log(2)))


def _is_whole(write: Writer, value: fx.Node) -> bool:
    """Whether a value is known to hold integers."""
    known = write.known(value)
    return known is not None and not (known.is_floating_point() or known.is_complex())


def _diff(write: Writer, b: Bound) -> fx.Node:
    """Differences of neighbouring entries, as differences of slices."""
    parts = [each for each in (b["prepend"], b["self"], b["append"]) if each is not None]
    dim = b["dim"]
    value = write(aten.cat, parts, dim) if len(parts) > 1 else b["self"]
    for _ in range(b["n"]):
        later = write(aten.slice, value, dim, 1, sys.maxsize, 1)
        value = write(aten.sub, later, write(aten.slice, value, dim, 0, -1, 1))
    return value


def _copy(write: Writer, b: Bound) -> fx.Node:
    """``y[:] = x``, in the functional form of export: ``x`` in the shape of ``y``."""
    return write(aten.expand_as, b["src"], b["self"])


def _fill(write: Writer, b: Bound) -> fx.Node:
    """``y[:] = 0``, in functional form: a constant in the shape of ``y``."""
    if isinstance(b["value"], fx.Node):
        return write(aten.expand_as, b["value"], b["self"])
    return write(aten.full_like, b["self"], b["value"])


def _lerp(write: Writer, b: Bound) -> fx.Node:
    """Linear interpolation as ``a + w (b - a)``."""
    step = write(aten.mul, write(aten.sub, b["end"], b["self"]), b["weight"])
    return write(aten.add, b["self"], step)


def _alpha(write: Writer, b: Bound) -> fx.Node | None:
    """``a + alpha · b`` where ``alpha`` is a node, such as a size: written with a product."""
    if not isinstance(b.get("alpha"), fx.Node):
        return None
    place = "self" if name_of(write.node) == "rsub" else "other"
    b[place] = write(aten.mul, b[place], b["alpha"])
    return write(called(write.node), b["self"], b["other"])


def _spread_and_mean(packet: Packet) -> Form:
    """``var_mean`` and ``std_mean`` as two calls."""

    def form(write: Writer, b: Bound) -> list[fx.Node]:
        dims = () if b.get("dim") is None else (b["dim"], b.get("keepdim", False))
        spread = write(packet, *write.node.args, **write.node.kwargs)
        return [spread, write(aten.mean, b["self"], *dims)]

    return form


def _addmm(write: Writer, b: Bound) -> fx.Node:
    is_plain = b["alpha"] == 1 and b["beta"] == 1
    if is_plain and _rank(write, b["mat2"]) == 2 and _rank(write, b["self"]) == 1:
        return write(aten.linear, b["mat1"], write(aten.t, b["mat2"]), b["self"])
    return scaled_sum(write, b, write(aten.mm, b["mat1"], b["mat2"]))


def _rank(write: Writer, value: Any) -> int | None:
    """The number of dimensions of a tensor that depends only on parameters; None for others."""
    shape = shape_of(value, write.module)
    return None if shape is None else len(shape)


def _sum_of_product(packet: Packet, *factors: str) -> Form:
    """``beta · self + alpha · product``."""
    return lambda write, b: scaled_sum(write, b, write(packet, *(b[name] for name in factors)))


def _view_as_complex(write: Writer, b: Bound) -> fx.Node:
    """``view_as_complex`` written by its parts, because the view needs a certain memory layout."""
    return write(aten.complex, *(write(aten.select, b["self"], -1, place) for place in (0, 1)))


def _narrow(write: Writer, b: Bound) -> fx.Node | None:
    """``narrow`` with known start and length, as a slice."""
    start, length = b["start"], b["length"]
    if not (isinstance(start, int) and isinstance(length, int) and start >= 0):
        return None
    return write(aten.slice, b["self"], b["dim"], start, start + length, 1)


def _linalg_norm(write: Writer, b: Bound) -> fx.Node | None:
    """``linalg.norm`` of vectors as ``linalg_vector_norm``; norms of matrices stay."""
    order = 2 if b["ord"] is None else b["ord"]
    dims = b["dim"] if b["dim"] is None else list(as_tuple(b["dim"], 1))
    if b["ord"] is not None and (dims is None or len(dims) != 1):
        return None
    return write(aten.linalg_vector_norm, b["self"], order, dims, b["keepdim"], **cast_of(b))


def _special_softmax(packet: Packet) -> Form:
    return lambda write, b: write(packet, *b.values())


def _added(packet: Packet) -> Form:
    """``addcmul`` and ``addcdiv``: a value plus a number times a product or quotient of two others."""

    def form(write: Writer, b: Bound) -> fx.Node:
        term = write(packet, b["tensor1"], b["tensor2"])
        return write(aten.add, b["self"], term, alpha=b["value"])

    return form


ARITHMETIC_FORMS: dict[str, Form] = {
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
    "var_mean": _spread_and_mean(aten.var),
    "std_mean": _spread_and_mean(aten.std),
    "hstack": _hstack,
    "view_as": _reshape_as,
    "reshape_as": _reshape_as,
    "addmm": _addmm,
    "_sparse_addmm": _sum_of_product(aten.mm, "mat1", "mat2"),
    "addcmul": _added(aten.mul),
    "addcdiv": _added(aten.div),
    "addmv": _sum_of_product(aten.mv, "mat", "vec"),
    "baddbmm": _sum_of_product(aten.bmm, "batch1", "batch2"),
    "type_as": _type_as,
}
"""The form of each operation."""
