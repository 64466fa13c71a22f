"""Operations of linear algebra and statistics, written with those that have a relevance of their own.

A call whose ranks are not known stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, takewhile
from string import ascii_letters
from typing import Any, TypeAlias

from torch import fx

from lrp_fx.canonize.call_writer import Bound, Form, Writer
from lrp_fx.graph import Packet, as_tuple, aten, literal


def _contracted(
    write: Writer, a: Any, b: Any, dims: tuple[Any, Any], ranks: tuple[int, ...]
) -> fx.Node:
    """The sum of ``a b`` over pairs of dimensions, as an einsum; the other dimensions stay in order."""
    letters = iter(ascii_letters)
    first = [next(letters) for _ in range(ranks[0])]
    second = [next(letters) for _ in range(ranks[1])]
    for of_first, of_second in zip(*dims, strict=True):
        second[of_second % ranks[1]] = first[of_first % ranks[0]]
    shared = set(first) & set(second)
    kept = [letter for letter in (*first, *second) if letter not in shared]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(kept)}"
    return write(aten.einsum, equation, [a, b])


def _ranks(write: Writer, *values: Any) -> tuple[int, ...] | None:
    ranks = tuple(each.dim() for each in map(write.known, values) if each is not None)
    return ranks if len(ranks) == len(values) else None


def _tensordot(write: Writer, b: Bound) -> fx.Node | None:
    ranks, dims = _ranks(write, b["self"], b["other"]), (b["dims_self"], b["dims_other"])
    return None if ranks is None else _contracted(write, b["self"], b["other"], dims, ranks)


def _inner(write: Writer, b: Bound) -> fx.Node | None:
    ranks = _ranks(write, b["self"], b["other"])
    if ranks is None or 0 in ranks:
        return None
    return _contracted(write, b["self"], b["other"], ([-1], [-1]), ranks)


def _outer(write: Writer, b: Bound) -> fx.Node:
    first, second, *_ = b.values()
    return _contracted(write, first, second, ((), ()), (1, 1))


def _kron(write: Writer, b: Bound) -> fx.Node | None:
    one, other = write.known(b["self"]), write.known(b["other"])
    if one is None or other is None or one.dim() != other.dim():
        return None
    rank = one.dim()
    letters = ascii_letters[:rank], ascii_letters[rank : 2 * rank]
    woven = "".join(a + b for a, b in zip(*letters, strict=True))
    product = write(aten.einsum, f"{letters[0]},{letters[1]}->{woven}", [b["self"], b["other"]])
    return write(
        aten.reshape, product, [i * j for i, j in zip(one.shape, other.shape, strict=True)]
    )


def _bilinear(write: Writer, b: Bound) -> fx.Node:
    """``y_o = Σ_ij u_i W_oij v_j + b_o``."""
    factors = [b["input1"], b["weight"], b["input2"]]
    product = write(aten.einsum, "...i,oij,...j->...o", factors)
    return product if b["bias"] is None else write(aten.add, product, b["bias"])


def _cross(write: Writer, b: Bound) -> fx.Node:
    """``c_i = a_{i+1} b_{i+2} − a_{i+2} b_{i+1}``, with indices modulo three."""

    def turned(name: str, places: int) -> fx.Node:
        return write(aten.roll, b[name], [-places], [b["dim"]])

    one = write(aten.mul, turned("self", 1), turned("other", 2))
    return write(aten.sub, one, write(aten.mul, turned("self", 2), turned("other", 1)))


def _chain(write: Writer, b: Bound) -> fx.Node | None:
    """``A B C …`` from left to right."""
    product: fx.Node | None = None
    for value in b["tensors"] if "tensors" in b else b["matrices"]:
        product = value if product is None else write(aten.matmul, product, value)
    return product


def _matrix_power(write: Writer, b: Bound) -> fx.Node | None:
    if not isinstance(b["n"], int) or b["n"] < 2:
        return None
    return _chain(write, {"tensors": [b["self"]] * b["n"]})


def _trace(write: Writer, b: Bound) -> fx.Node:
    return write(aten.sum, write(aten.diagonal, b["self"], 0, 0, 1), [0])


def scaled_sum(write: Writer, b: Bound, product: fx.Node) -> fx.Node:
    """``beta · self + alpha · product``."""
    scaled = product if b["alpha"] == 1 else write(aten.mul, product, b["alpha"])
    if b["beta"] == 0:
        return scaled
    other = b["self"] if b["beta"] == 1 else write(aten.mul, b["self"], b["beta"])
    return write(aten.add, other, scaled)


def _addr(write: Writer, b: Bound) -> fx.Node:
    return scaled_sum(write, b, _contracted(write, b["vec1"], b["vec2"], ((), ()), (1, 1)))


def _addbmm(write: Writer, b: Bound) -> fx.Node:
    products = write(aten.bmm, b["batch1"], b["batch2"])
    return scaled_sum(write, b, write(aten.sum, products, [0]))


def _trapezoid(packet: Packet) -> Form:
    """``Σ (y_i + y_{i+1}) dx / 2``, or the running sum."""

    def form(write: Writer, b: Bound) -> fx.Node | None:
        if "dx" not in b:
            return None
        y, dim = b["y"], b["dim"]
        later = write(aten.slice, y, dim, 1, 2**63 - 1, 1)
        pairs = write(aten.add, write(aten.slice, y, dim, 0, -1, 1), later)
        pairs = write(aten.mul, pairs, b["dx"] / 2)
        return write(packet, pairs, dim if packet is aten.cumsum else [dim])

    return form


def _xlogy(write: Writer, b: Bound) -> fx.Node:
    return write(aten.mul, b["self"], write(aten.log, b["other"]))


def _scaled(factor: float) -> Form:
    return lambda write, b: write(aten.mul, b["self"], factor)


def _heaviside(write: Writer, b: Bound) -> fx.Node:
    zeros, ones = (write(packet, b["self"]) for packet in (aten.zeros_like, aten.ones_like))
    rest = write(aten.where, write(aten.eq, b["self"], 0), b["values"], zeros)
    return write(aten.where, write(aten.gt, b["self"], 0), ones, rest)


def _copysign(write: Writer, b: Bound) -> fx.Node:
    size = write(aten.abs, b["self"])
    return write(aten.where, write(aten.ge, b["other"], 0), size, write(aten.neg, size))


def _sgn(write: Writer, b: Bound) -> fx.Node | None:
    """The sign of real numbers; that of complex ones is written by their parts."""
    value = write.known(b["self"])
    return None if value is None or value.is_complex() else write(aten.sign, b["self"])


def _signbit(write: Writer, b: Bound) -> fx.Node:
    return write(aten.lt, b["self"], 0)


def _of_pair(packet: Packet, *options: Any) -> Form:
    """A statistic of two operands, entry by entry: they are stacked along a new last dimension."""

    def form(write: Writer, b: Bound) -> fx.Node | None:
        one, other = b["self"], b["other"]
        first, second = write.known(one), write.known(other)
        if first is None or second is None:
            return None
        if first.dim() > second.dim():
            other = write(aten.expand_as, other, one)
        elif first.shape != second.shape:
            one = write(aten.expand_as, one, other)
        return write(packet, write(aten.stack, [one, other], -1), *options, [-1])

    return form


def _logaddexp(write: Writer, b: Bound) -> Any:
    """A statistic of two operands; beside zero, ``softplus`` in another spelling."""
    for value, other in (("self", "other"), ("other", "self")):
        if literal(b[other]) == 0:
            return write(aten.softplus, b[value])
    return _of_pair(aten.logsumexp)(write, b)


def _cosine_similarity(write: Writer, b: Bound) -> fx.Node:
    """``Σ u / max(‖u‖, eps) · v / max(‖v‖, eps)``: a product of two normalized vectors, summed."""
    units = []
    for x in (b["x1"], b["x2"]):
        norm = write(aten.linalg_vector_norm, x, 2, [b["dim"]], True)
        units.append(write(aten.div, x, write(aten.clamp_min, norm, b["eps"])))
    return write(aten.sum, write(aten.mul, *units), [b["dim"]])


def _pairwise_distance(write: Writer, b: Bound) -> fx.Node:
    """``‖x1 − x2 + eps‖_p`` over the last dimension."""
    difference = write(aten.add, write(aten.sub, b["x1"], b["x2"]), b["eps"])
    return write(aten.linalg_vector_norm, difference, b["p"], [-1], b["keepdim"])


def _cdist(write: Writer, b: Bound) -> fx.Node:
    """``‖x1_i − x2_j‖_p`` for all pairs of rows; the kernel for Euclidean distances has no p."""
    rows = write(aten.unsqueeze, b["x1"], -2), write(aten.unsqueeze, b["x2"], -3)
    return write(aten.linalg_vector_norm, write(aten.sub, *rows), b.get("p", 2.0), [-1])


def _quantile(write: Writer, b: Bound) -> fx.Node | None:
    """The entry at ``q (n − 1)`` of the sorted ones, between two entries as ``interpolation`` says."""
    value, q, dim = write.known(b["self"]), b["q"], b["dim"]
    if value is None or not isinstance(q, float) or (dim is None and b["keepdim"]):
        return None
    x = b["self"]
    if dim is None:
        x, dim, value = write(aten.reshape, x, [-1]), 0, value.reshape(-1)
    place = q * (value.shape[dim] - 1)
    low, high = math.floor(place), math.ceil(place)
    weight = {"lower": 0.0, "higher": 1.0, "midpoint": 0.5, "nearest": round(place) - low}.get(
        b["interpolation"], place - low
    )
    ordered = write.result(write(aten.sort, x, dim), 0)
    ends = [write(aten.slice, ordered, dim, at, at + 1) for at in (low, high)]
    parts = [write(aten.mul, end, w) for end, w in zip(ends, (1 - weight, weight), strict=True)]
    found = write(aten.add, *parts) if 0 < weight < 1 else ends[int(weight)]
    return found if b["keepdim"] else write(aten.squeeze, found, dim)


def _dist(write: Writer, b: Bound) -> fx.Node:
    return write(aten.linalg_vector_norm, write(aten.sub, b["self"], b["other"]), b["p"])


def cast_of(b: Bound) -> dict[str, Any]:
    """The ``dtype`` among the arguments of a call as a keyword; nothing where it is None."""
    return {} if b.get("dtype") is None else {"dtype": b["dtype"]}


def _matrix_norm(write: Writer, b: Bound) -> fx.Node | None:
    """The Frobenius norm; other norms of matrices stay."""
    if b["ord"] != "fro":
        return None
    values = (b["self"], 2, list(b["dim"]), b["keepdim"])
    return write(aten.linalg_vector_norm, *values, **cast_of(b))


def _without_nan(packet: Packet) -> Form:
    def form(write: Writer, b: Bound) -> fx.Node:
        is_nan = write(aten.isnan, b["self"])
        filled = write(aten.masked_fill, b["self"], is_nan, 0)
        dims = () if b["dim"] is None else (list(as_tuple(b["dim"], 1)), b["keepdim"])
        total = write(aten.sum, filled, *dims, **cast_of(b))
        if packet is aten.sum:
            return total
        return write(aten.div, total, write(aten.sum, write(aten.logical_not, is_nan), *dims))

    return form


def _as_strided(write: Writer, b: Bound) -> fx.Node | None:
    """Overlapping frames, as of a recorded short-time Fourier transform, or attention in windows."""
    found, result = write.known(b["self"]), write.known(write.node)
    if found is None or result is None or result.dim() < 2 or b["storage_offset"]:
        return None
    # a copy that made the value contiguous may have been removed
    contiguous = [math.prod(found.shape[place:]) for place in range(1, found.dim() + 1)]
    new = list(zip(result.shape, b["stride"], strict=True))
    for strides in (found.stride(), contiguous):
        frames = _frames(write, b, list(zip(found.shape, strides, strict=True)), new)
        if frames is not None:
            return frames
    return None


def _frames(write: Writer, b: Bound, old: _Layout, new: _Layout) -> fx.Node | None:
    """Dimensions (…, L, …) as (…, frames, width, …); L may be several that lie as one in memory."""
    before = _in_common(old[:-1], new[:-2])
    after = _in_common(old[:before:-1], new[: before + 1 : -1])
    signal, rest = old[before : len(old) - after], b["size"][before:]
    if len(new) != before + after + 2 or any(isinstance(size, fx.Node) for size in rest):
        return None
    unit, length = signal[-1][1], math.prod(size for size, _ in signal)
    is_dense = all(a[1] == c[0] * c[1] for a, c in pairwise(signal))
    (frames, step), (width, inner) = new[before : before + 2]
    if not (unit and is_dense and unit == inner and step % unit == 0):
        return None
    if (frames - 1) * (step // unit) + width > length:
        return None
    flat = write(aten.flatten, b["self"], before, before + len(signal) - 1)
    unfolded = write(aten.unfold, flat, before, width, step // unit)
    unfolded = write(aten.slice, unfolded, before, 0, frames, 1)
    return write(aten.movedim, unfolded, -1, before + 1) if after else unfolded


_Layout: TypeAlias = list[tuple[int, int]]
"""The size and the stride of each dimension."""


def _in_common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many entries at the beginning are the same."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))


def _msort(write: Writer, b: Bound) -> fx.Node:
    return write.result(write(aten.sort, b["self"], 0), 0)


def _aminmax(write: Writer, b: Bound) -> list[fx.Node]:
    """The smallest and the largest entry as two calls."""
    dims = [] if b["dim"] is None else [b["dim"]]
    return [write(packet, b["self"], dims, b["keepdim"]) for packet in (aten.amin, aten.amax)]


_SPLITS = {"hsplit": 1, "vsplit": 0, "dsplit": 2}
"""The dimension that each one splits. ``hsplit`` of a vector, without a batch, is not covered."""


def _split(dim: int) -> Form:
    def form(write: Writer, b: Bound) -> fx.Node:
        source, sections = b.values()
        return write(aten.tensor_split, source, sections, dim)

    return form


ALGEBRA: dict[str, Form] = {
    "tensordot": _tensordot,
    "inner": _inner,
    "outer": _outer,
    "ger": _outer,
    "kron": _kron,
    "bilinear": _bilinear,
    "linalg_cross": _cross,
    "linalg_multi_dot": _chain,
    "chain_matmul": _chain,
    "matrix_power": _matrix_power,
    "linalg_matrix_power": _matrix_power,
    "trace": _trace,
    "addr": _addr,
    "addbmm": _addbmm,
    "trapezoid": _trapezoid(aten.sum),
    "trapz": _trapezoid(aten.sum),
    "cumulative_trapezoid": _trapezoid(aten.cumsum),
    "xlogy": _xlogy,
    "special_xlogy": _xlogy,
    "rad2deg": _scaled(180 / math.pi),
    "deg2rad": _scaled(math.pi / 180),
    "heaviside": _heaviside,
    "copysign": _copysign,
    "sgn": _sgn,
    "signbit": _signbit,
    "hypot": _of_pair(aten.linalg_vector_norm, 2),
    "logaddexp": _logaddexp,
    "cosine_similarity": _cosine_similarity,
    "pairwise_distance": _pairwise_distance,
    **dict.fromkeys(("cdist", "_cdist_forward", "_euclidean_dist"), _cdist),
    "quantile": _quantile,
    "dist": _dist,
    "linalg_matrix_norm": _matrix_norm,
    "as_strided": _as_strided,
    "nansum": _without_nan(aten.sum),
    "nanmean": _without_nan(aten.mean),
    "msort": _msort,
    "aminmax": _aminmax,
    **{name: _split(dim) for name, dim in _SPLITS.items()},
}
"""The form of each operation."""
