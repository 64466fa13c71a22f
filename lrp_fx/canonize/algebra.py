"""Operations of linear algebra and statistics, written with those that have a relevance of their own.

Each function rewrites one call. A call whose ranks are not known stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from string import ascii_letters
from typing import Any

from torch import Tensor, fx

from lrp_fx.graph import (
    Packet,
    arguments,
    as_tuple,
    aten,
    call_like,
    call_like_getitem,
    index_of,
    literal,
    replace_by,
    shapes_of,
)

Rewriting = Callable[[fx.Node, fx.Graph, fx.GraphModule], None]
Value = Callable[[Callable[..., fx.Node], dict[str, Any], "Known"], fx.Node | None]
"""A function from a writer of calls, the arguments and what is known of values to the new node."""
Known = Callable[[Any], Tensor | None]


def _rewriting(value: Value) -> Rewriting:
    def rewrite(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
        def write(packet: Packet, *args: Any, **kwargs: Any) -> fx.Node:
            call = call_like(graph, node, packet, *args)
            call.kwargs = kwargs
            return call

        new = value(write, arguments(node), shapes_of(module))
        if new is not None:
            replace_by(node, new)

    return rewrite


def _contracted(
    write: Any, a: Any, b: Any, dims: tuple[Any, Any], ranks: tuple[int, int]
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
    contracted: fx.Node = write(aten.einsum, equation, [a, b])
    return contracted


def _ranks(known: Known, *values: Any) -> tuple[int, ...] | None:
    found = [known(value) for value in values]
    ranks = tuple(each.dim() for each in found if each is not None)
    return ranks if len(ranks) == len(found) else None


def _tensordot(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    ranks = _ranks(known, b["self"], b["other"])
    if ranks is None:
        return None
    dims = (b["dims_self"], b["dims_other"])
    return _contracted(write, b["self"], b["other"], dims, (ranks[0], ranks[1]))


def _inner(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    ranks = _ranks(known, b["self"], b["other"])
    if ranks is None or 0 in ranks:
        return None
    return _contracted(write, b["self"], b["other"], ([-1], [-1]), (ranks[0], ranks[1]))


def _outer(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    first, second = list(b.values())[:2]
    return _contracted(write, first, second, ((), ()), (1, 1))


def _kron(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    found = known(b["self"]), known(b["other"])
    if found[0] is None or found[1] is None or found[0].dim() != found[1].dim():
        return None
    rank = found[0].dim()
    letters = ascii_letters[:rank], ascii_letters[rank : 2 * rank]
    woven = "".join(a + b for a, b in zip(*letters, strict=True))
    product = write(aten.einsum, f"{letters[0]},{letters[1]}->{woven}", [b["self"], b["other"]])
    sizes = [i * j for i, j in zip(found[0].shape, found[1].shape, strict=True)]
    whole: fx.Node = write(aten.reshape, product, sizes)
    return whole


def _bilinear(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    """``y_o = Σ_ij u_i W_oij v_j + b_o``."""
    factors = [b["input1"], b["weight"], b["input2"]]
    product: fx.Node = write(aten.einsum, "...i,oij,...j->...o", factors)
    return product if b["bias"] is None else write(aten.add, product, b["bias"])


def _cross(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    """``c_i = a_{i+1} b_{i+2} − a_{i+2} b_{i+1}``, with indices modulo three."""

    def turned(value: Any, places: int) -> fx.Node:
        rolled: fx.Node = write(aten.roll, value, [-places], [b["dim"]])
        return rolled

    one = write(aten.mul, turned(b["self"], 1), turned(b["other"], 2))
    other = write(aten.mul, turned(b["self"], 2), turned(b["other"], 1))
    difference: fx.Node = write(aten.sub, one, other)
    return difference


def _chain(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    """``A B C …`` from left to right."""
    product: fx.Node | None = None
    for value in b.get("tensors", b.get("matrices", ())):
        product = value if product is None else write(aten.matmul, product, value)
    return product


def _matrix_power(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    power: fx.Node = b["self"]
    if not isinstance(b["n"], int) or b["n"] < 2:
        return None
    for _ in range(b["n"] - 1):
        power = write(aten.matmul, power, b["self"])
    return power


def _trace(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    total: fx.Node = write(aten.sum, write(aten.diagonal, b["self"], 0, 0, 1), [0])
    return total


def _scaled_sum(write: Any, b: dict[str, Any], product: fx.Node) -> fx.Node:
    """``beta · self + alpha · product``."""
    scaled = product if b["alpha"] == 1 else write(aten.mul, product, b["alpha"])
    if b["beta"] == 0:
        return scaled
    other = b["self"] if b["beta"] == 1 else write(aten.mul, b["self"], b["beta"])
    total: fx.Node = write(aten.add, other, scaled)
    return total


def _addr(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    return _scaled_sum(write, b, _contracted(write, b["vec1"], b["vec2"], ((), ()), (1, 1)))


def _addbmm(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    products = write(aten.bmm, b["batch1"], b["batch2"])
    return _scaled_sum(write, b, write(aten.sum, products, [0]))


def _trapezoid(packet: Packet) -> Value:
    """``Σ (y_i + y_{i+1}) dx / 2``, or the running sum."""

    def value(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
        if "dx" not in b:
            return None
        y, dim = b["y"], b["dim"]
        later = write(aten.slice, y, dim, 1, 2**63 - 1, 1)
        pairs = write(aten.add, write(aten.slice, y, dim, 0, -1, 1), later)
        pairs = write(aten.mul, pairs, b["dx"] / 2)
        total: fx.Node = write(packet, pairs, dim if packet is aten.cumsum else [dim])
        return total

    return value


def _xlogy(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    product: fx.Node = write(aten.mul, b["self"], write(aten.log, b["other"]))
    return product


def _scaled(factor: float) -> Value:
    return lambda write, b, known: write(aten.mul, b["self"], factor)


def _heaviside(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    zeros, ones = (write(packet, b["self"]) for packet in (aten.zeros_like, aten.ones_like))
    rest = write(aten.where, write(aten.eq, b["self"], 0), b["values"], zeros)
    step: fx.Node = write(aten.where, write(aten.gt, b["self"], 0), ones, rest)
    return step


def _copysign(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    size = write(aten.abs, b["self"])
    signed: fx.Node = write(aten.where, write(aten.ge, b["other"], 0), size, write(aten.neg, size))
    return signed


def _sgn(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    """The sign of real numbers; that of complex ones is written by their parts."""
    value = known(b["self"])
    if value is None or value.is_complex():
        return None
    sign: fx.Node = write(aten.sign, b["self"])
    return sign


def _signbit(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    negative: fx.Node = write(aten.lt, b["self"], 0)
    return negative


def _pair(write: Any, values: tuple[Any, Any], known: Known) -> fx.Node | None:
    """Both operands stacked along a new last dimension; None if their shapes are not known."""
    shapes = [getattr(known(value), "shape", None) for value in values]
    if None in shapes:
        return None
    if shapes[0] != shapes[1]:
        one, other = values
        values = (write(aten.expand_as, one, other), other)
        if len(shapes[0] or ()) > len(shapes[1] or ()):
            values = (one, write(aten.expand_as, other, one))
    stacked: fx.Node = write(aten.stack, list(values), -1)
    return stacked


def _of_pair(packet: Packet, *options: Any) -> Value:
    """A statistic of two operands, entry by entry."""

    def value(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
        pair = _pair(write, (b["self"], b["other"]), known)
        return None if pair is None else write(packet, pair, *options, [-1])

    return value


def _logaddexp(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    """A statistic of two operands; beside zero, ``softplus`` in another spelling."""
    if 0 in (literal(b["self"]), literal(b["other"])):
        return None
    return _of_pair(aten.logsumexp)(write, b, known)


def _pairwise_distance(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    """``‖x1 − x2 + eps‖_p`` over the last dimension."""
    difference = write(aten.add, write(aten.sub, b["x1"], b["x2"]), b["eps"])
    norm: fx.Node = write(aten.linalg_vector_norm, difference, b["p"], [-1], b["keepdim"])
    return norm


def _cdist(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    """``‖x1_i − x2_j‖_p`` for all pairs of rows."""
    rows = write(aten.unsqueeze, b["x1"], -2), write(aten.unsqueeze, b["x2"], -3)
    norm: fx.Node = write(aten.linalg_vector_norm, write(aten.sub, *rows), b["p"], [-1])
    return norm


def _euclidean(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    """The kernel of recorded graphs for Euclidean distances."""
    return _cdist(write, {**b, "p": 2.0}, known)


def _quantile(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    """The entry at ``q (n − 1)`` of the sorted ones, between two entries as ``interpolation`` says."""
    value, q, dim = known(b["self"]), b["q"], b["dim"]
    if value is None or not isinstance(q, float):
        return None
    x, keepdim = b["self"], b["keepdim"]
    if dim is None:
        x, dim, value = write(aten.reshape, x, [-1]), 0, value.reshape(-1)
        if keepdim:
            return None
    place = q * (value.shape[dim] - 1)
    low, high = math.floor(place), math.ceil(place)
    weight = {"lower": 0.0, "higher": 1.0, "midpoint": 0.5, "nearest": round(place) - low}.get(
        b["interpolation"], place - low
    )
    both = write(aten.sort, x, dim)
    ordered = call_like_getitem(both.graph, both, 0)
    ends = [write(aten.slice, ordered, dim, at, at + 1) for at in (low, high)]
    parts = [write(aten.mul, end, w) for end, w in zip(ends, (1 - weight, weight), strict=True)]
    found: fx.Node = write(aten.add, *parts) if 0 < weight < 1 else ends[int(weight)]
    return found if keepdim else write(aten.squeeze, found, dim)


def _dist(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
    difference = write(aten.sub, b["self"], b["other"])
    norm: fx.Node = write(aten.linalg_vector_norm, difference, b["p"])
    return norm


def _matrix_norm(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    """The Frobenius norm; other norms of matrices stay."""
    if b["ord"] != "fro":
        return None
    options = {} if b["dtype"] is None else {"dtype": b["dtype"]}
    norm: fx.Node = write(
        aten.linalg_vector_norm, b["self"], 2, list(b["dim"]), b["keepdim"], **options
    )
    return norm


def _without_nan(packet: Packet) -> Value:
    def value(write: Any, b: dict[str, Any], known: Known) -> fx.Node:
        is_nan = write(aten.isnan, b["self"])
        filled = write(aten.masked_fill, b["self"], is_nan, 0)
        dims = () if b["dim"] is None else (list(as_tuple(b["dim"], 1)), b["keepdim"])
        options = {} if b["dtype"] is None else {"dtype": b["dtype"]}
        total: fx.Node = write(aten.sum, filled, *dims, **options)
        if packet is aten.sum:
            return total
        count = write(aten.sum, write(aten.logical_not, is_nan), *dims)
        mean: fx.Node = write(aten.div, total, count)
        return mean

    return value


def _as_strided(write: Any, b: dict[str, Any], known: Known) -> fx.Node | None:
    """Frames of signals (N, L), as a recorded short-time Fourier transform takes them."""
    found, size, stride = known(b["self"]), b["size"], b["stride"]
    if found is None or found.dim() != 2 or len(size) != 3 or b["storage_offset"]:
        return None
    count, length = found.shape
    _, frames, width = size
    if [*stride[::2], size[0]] != [length, 1, count] or (frames - 1) * stride[1] + width > length:
        return None
    unfolded = write(aten.unfold, b["self"], 1, width, stride[1])
    part: fx.Node = write(aten.slice, unfolded, 1, 0, frames, 1)
    return part


def _msort(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    both = call_like(graph, node, aten.sort, node.args[0], 0)
    replace_by(node, call_like_getitem(graph, both, 0))


def _aminmax(node: fx.Node, graph: fx.Graph, module: fx.GraphModule) -> None:
    """The smallest and the largest entry as two calls."""
    b = arguments(node)
    dims = [] if b["dim"] is None else [b["dim"]]
    for user in list(node.users):
        packet = (aten.amin, aten.amax)[index_of(user)]
        replace_by(user, call_like(graph, node, packet, b["self"], dims, b["keepdim"]))
    graph.erase_node(node)


ALGEBRA: dict[str, Rewriting] = {
    **{
        name: _rewriting(value)
        for name, value in {
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
            "pairwise_distance": _pairwise_distance,
            "cdist": _cdist,
            "_cdist_forward": _cdist,
            "_euclidean_dist": _euclidean,
            "quantile": _quantile,
            "dist": _dist,
            "linalg_matrix_norm": _matrix_norm,
            "as_strided": _as_strided,
            "nansum": _without_nan(aten.sum),
            "nanmean": _without_nan(aten.mean),
        }.items()
    },
    "msort": _msort,
    "aminmax": _aminmax,
}
"""The function that writes each operation."""
