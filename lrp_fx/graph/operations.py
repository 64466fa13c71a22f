"""Table of mathematical properties of ATen operations, independent of their rules.

Each operation has one :class:`Row`. A cell of the row states what holds for all values of the
arguments. The tests derive every cell from torch on random numbers. Properties that torch itself
reports are not in the table: see :func:`shares_memory` and :func:`in_place_form`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import fx

from lrp_fx.graph.calls import Packet, arguments, aten, name_of, overloads_of, packet_of
from lrp_fx.graph.private_torch import schema_of

Trend = Literal["rises", "falls"]
Reduction = Literal["dims", "windows", "running"]
Results = Literal["pieces", "values and places", "values"]
Says = Literal["masks", "places", "shapes", "sizes"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Properties of one operation.

    Args:
        name: the ATen name.
        entrywise: each entry of the result depends only on the operands' entries at the same place.
        low: a lower bound of all entries of the result.
        high: an upper bound of all entries of the result.
        rest: the result where the operand is zero; None if unknown, or if it depends on other
            arguments.
        trend: whether a function of one number rises or falls on all of its domain; None for
            neither.
        odd: ``f(-x) = -f(x)``.
        clips: entries within a range stay, all others become its nearer end (:func:`ends_of_clip`).
        normalizes: the entries along a dimension sum to one, or their exponentials do.
        moves: each entry of the result is an entry of an operand, or a constant that fills a gap.
        keeps_order: the entries of the result are those of the operand in the same order, in the
            same or another shape.
        permutes: the dimensions of the result are those of the operand in another order.
        fills: what fills gaps between the operand's entries: zeros, or a number that is an
            argument.
        takes_part: the result leaves out entries of the operand, unless the arguments select all.
        sums: each entry of the result is a sum of the operand's entries with constant weights,
            which are all positive (``"positive"``) or have both signs (``"signed"``).
        resizes: the result is a smaller or larger image of the same values.
        inside: each entry of the result lies between the smallest and the largest entry of the
            operand.
        reduction: the operation reduces whole dimensions (``"dims"``) or windows (``"windows"``) to
            one entry, or all entries up to a place to the entry at that place (``"running"``).
        results: set if the operation has several results: pieces of the operand, values and their
            places (indices), or several values.
        says: set if the result is not a value in itself but describes values: a mask (``"masks"``),
            places or counts (``"places"``), a tensor that depends on shapes only (``"shapes"``), or
            a number of Python, such as a size (``"sizes"``).
        choice: what chooses between entries: a mask, or the values themselves.
        writes: the argument whose entries are written into a copy of the first argument.
        fresh: the result never shares memory with an operand.
        kept: autograd saves the result for the backward pass, so it must not be overwritten.
        since: the first version of torch that has the operation; empty if all supported versions
            do.
    """

    name: str
    entrywise: bool = False
    low: float = -math.inf
    high: float = math.inf
    rest: float | None = None
    trend: Trend | None = None
    odd: bool = False
    clips: bool = False
    normalizes: bool = False
    moves: bool = False
    keeps_order: bool = False
    permutes: bool = False
    fills: Literal["zeros", "given"] | None = None
    takes_part: bool = False
    sums: Literal["positive", "signed"] | None = None
    resizes: bool = False
    inside: bool = False
    reduction: Reduction | None = None
    results: Results | None = None
    says: Says | None = None
    choice: Literal["mask", "value"] | None = None
    writes: str | None = None
    fresh: bool = False
    kept: bool = False
    since: str = ""

    @property
    def is_nonnegative(self) -> bool:
        """Whether no entry of the result is negative."""
        return self.low >= 0

    @property
    def is_zero_at_zero(self) -> bool:
        """Whether the result is zero where the operand is."""
        return self.rest == 0

    @property
    def keeps_sign(self) -> bool:
        """Whether the result has no negative entries where the operand has none."""
        return self.inside or self.sums == "positive" or self.fills == "zeros"

    @property
    def arranges(self) -> bool:
        """Whether the operation only moves entries, to places that do not depend on any values."""
        return self.moves and not (self.choice or self.writes or self.resizes)


def _rows(names: str, **cells: Any) -> list[Row]:
    """One row for each of the space-separated names, with the same cells."""
    return [Row(name=name, **cells) for name in names.split()]


def _function(name: str, **cells: Any) -> Row:
    """The row of an element-wise function of one number."""
    return Row(name=name, **{"entrywise": True, "fresh": True, **cells})


def _dims(names: str) -> str:
    """Replace ``*`` in each name by 1, 2 and 3, the number of dimensions."""
    return " ".join(name.replace("*", str(n)) for name in names.split() for n in (1, 2, 3))


_INF = math.inf
_ACTIVATIONS = (
    _function("relu", low=0, rest=0, trend="rises", clips=True, kept=True),
    _function("relu6", low=0, high=6, rest=0, trend="rises", clips=True),
    _function("hardtanh", trend="rises", clips=True),
    _function("clamp", trend="rises", clips=True),
    _function("clamp_min", trend="rises", clips=True),
    _function("clamp_max", trend="rises", clips=True),
    _function("threshold"),
    _function("leaky_relu", rest=0),
    _function("prelu", rest=0),
    _function("_prelu_kernel", rest=0),
    _function("rrelu", rest=0),
    _function("elu", rest=0),
    _function("selu", low=-1.76, rest=0, trend="rises"),
    _function("celu", rest=0, trend="rises"),
    _function("gelu", low=-0.171, rest=0),
    _function("silu", low=-0.279, rest=0),
    _function("mish", low=-0.309, rest=0),
    _function("hardswish", low=-0.375, rest=0),
    _function("tanh", low=-1, high=1, rest=0, trend="rises", odd=True, kept=True),
    _function("sigmoid", low=0, high=1, rest=0.5, trend="rises", kept=True),
    _function("hardsigmoid", low=0, high=1, rest=0.5, trend="rises"),
    _function("log_sigmoid", high=0, rest=-math.log(2), trend="rises"),
    _function("softplus", low=0, trend="rises"),
    _function("hardshrink", rest=0, trend="rises", odd=True),
    _function("softshrink", rest=0, trend="rises", odd=True),
)
_NUMERIC = (
    _function("neg", rest=0, trend="falls", odd=True),
    _function("abs", low=0, rest=0),
    _function("square", low=0, rest=0),
    _function("sqrt", low=0, rest=0, trend="rises", kept=True),
    _function("rsqrt", low=0, rest=_INF, trend="falls", kept=True),
    _function("reciprocal", rest=_INF, odd=True, kept=True),
    _function("exp", low=0, rest=1, trend="rises", kept=True),
    _function("exp2", low=0, rest=1, trend="rises", kept=True),
    _function("expm1", low=-1, rest=0, trend="rises", kept=True),
    _function("log", rest=-_INF, trend="rises"),
    _function("log2", rest=-_INF, trend="rises"),
    _function("log10", rest=-_INF, trend="rises"),
    _function("log1p", rest=0, trend="rises"),
    _function("logit", rest=-_INF, trend="rises"),
    _function("sin", low=-1, high=1, rest=0, odd=True),
    _function("cos", low=-1, high=1, rest=1),
    _function("erf", low=-1, high=1, rest=0, trend="rises", odd=True),
    _function("erfinv", rest=0, trend="rises", odd=True),
    _function("special_ndtr", low=0, high=1, rest=0.5, trend="rises"),
    _function("tan", rest=0, odd=True, kept=True),
    _function("asin", low=-math.pi / 2, high=math.pi / 2, rest=0, trend="rises", odd=True),
    _function("acos", low=0, high=math.pi, rest=math.pi / 2, trend="falls"),
    _function("atan", low=-math.pi / 2, high=math.pi / 2, rest=0, trend="rises", odd=True),
    _function("sinc", low=-0.2173, high=1, rest=1),
    _function("sinh", rest=0, trend="rises", odd=True),
    _function("cosh", low=1, rest=1),
    _function("asinh", rest=0, trend="rises", odd=True),
    _function("acosh", low=0, rest=math.nan, trend="rises"),
    _function("atanh", rest=0, trend="rises", odd=True),
    _function("erfc", low=0, high=2, rest=1, trend="falls"),
    _function("i0", low=1, rest=1),
)
_STEPS = (
    _function("sign", low=-1, high=1, rest=0, trend="rises", odd=True),
    _function("floor", rest=0, trend="rises"),
    _function("ceil", rest=0, trend="rises"),
    _function("round", rest=0, trend="rises", odd=True),
    _function("trunc", rest=0, trend="rises", odd=True),
    _function("fix", rest=0, trend="rises", odd=True),
    _function("frac", low=-1, high=1, rest=0, odd=True),
    _function("nan_to_num"),
    _function("bitwise_not", rest=-1),
)
FUNCTIONS = (*_ACTIVATIONS, *_NUMERIC, *_STEPS)
"""Element-wise functions of one number."""
_CHOSEN: dict[str, Any] = {"moves": True, "choice": "value"}
_OF_TWO = [
    *_rows("add sub rsub mul div", entrywise=True, fresh=True),
    *_rows("minimum maximum fmin fmax", entrywise=True, **_CHOSEN, fresh=True),
    Row(name="pow", entrywise=True, fresh=True, kept=True),
    *_rows("atan2 remainder fmod floor_divide gcd lcm", entrywise=True, fresh=True),
    *_rows("bitwise_and bitwise_or bitwise_xor", entrywise=True, fresh=True),
    *_rows("bitwise_left_shift bitwise_right_shift", entrywise=True, fresh=True),
]
_CONDITIONAL = [
    Row(name="where", entrywise=True, moves=True, choice="mask", fresh=True),
    Row(name="masked_fill", entrywise=True, moves=True, fills="given", choice="mask", fresh=True),
]
_NORMAL: dict[str, Any] = {"normalizes": True, "fresh": True, "kept": True}
_NORMALIZED = [
    *_rows("softmax _softmax _safe_softmax", low=0, high=1, **_NORMAL),
    *_rows("log_softmax _log_softmax", high=0, **_NORMAL),
]
_ARRANGED: dict[str, Any] = {"moves": True, "inside": True}
_ARRANGEMENTS = [
    *_rows("to", **_ARRANGED, entrywise=True, keeps_order=True),
    *_rows("reshape flatten unflatten squeeze unsqueeze", **_ARRANGED, keeps_order=True),
    *_rows("permute transpose t numpy_T mT movedim", **_ARRANGED, permutes=True),
    *_rows("expand expand_as", **_ARRANGED),
    *_rows("_to_copy", **_ARRANGED, entrywise=True, keeps_order=True, fresh=True),
    *_rows("repeat tile repeat_interleave flip roll", **_ARRANGED, fresh=True),
    *_rows("rot90 fliplr flipud channel_shuffle", **_ARRANGED, fresh=True),
    *_rows("pixel_shuffle pixel_unshuffle", **_ARRANGED, fresh=True),
    Row(name="unfold", **_ARRANGED),
    *_rows("select slice narrow diagonal", **_ARRANGED, takes_part=True),
    *_rows("index index_select gather", **_ARRANGED, takes_part=True, fresh=True),
    *_rows("take take_along_dim masked_select", **_ARRANGED, takes_part=True, fresh=True),
    Row(name="pad", moves=True, fills="given", fresh=True),
    *_rows("tril triu", entrywise=True, moves=True, fills="zeros", takes_part=True, fresh=True),
    *_rows("im2col diag_embed diagflat block_diag", moves=True, fills="zeros", fresh=True),
    Row(name="diag", moves=True, fills="zeros", takes_part=True, fresh=True),
    *_rows("broadcast_tensors meshgrid", **_ARRANGED, results="values"),
    *_rows("cartesian_prod combinations", **_ARRANGED, fresh=True),
    *_rows("cat stack", **_ARRANGED, fresh=True),
    *_rows("split split_with_sizes chunk", **_ARRANGED, results="pieces"),
    *_rows("unbind tensor_split", **_ARRANGED, results="pieces"),
]
_WRITINGS = [
    Row(name="index_put", moves=True, writes="values", fresh=True),
    Row(name="index_fill", moves=True, writes="value", fills="given", fresh=True),
    *_rows("scatter slice_scatter select_scatter", moves=True, writes="src", fresh=True),
    *_rows("diagonal_scatter", moves=True, writes="src", fresh=True),
    *_rows("index_copy masked_scatter put", moves=True, writes="source", fresh=True),
]
_RESIZED: dict[str, Any] = {"sums": "positive", "resizes": True, "fresh": True}
_SUMS = [
    Row(name="mean", sums="positive", inside=True, reduction="dims", fresh=True),
    Row(name="sum", sums="positive", reduction="dims", fresh=True),
    Row(name="nanmean", sums="positive", inside=True, reduction="dims", fresh=True),
    Row(name="nansum", sums="positive", reduction="dims", fresh=True),
    Row(name="cumsum", sums="positive", reduction="running", fresh=True),
    Row(name="col2im", sums="positive", fresh=True),
    *_rows(
        _dims("avg_pool*d adaptive_avg_pool*d"),
        **{"sums": "positive", "inside": True, "reduction": "windows", "fresh": True},
    ),
    *_rows(_dims("upsample_nearest*d"), moves=True, **_RESIZED, inside=True),
    *_rows(_dims("_upsample_nearest_exact*d"), moves=True, **_RESIZED, inside=True),
    *_rows("upsample_linear1d upsample_bilinear2d upsample_trilinear3d", **_RESIZED, inside=True),
    Row(name="_upsample_bilinear2d_aa", **_RESIZED, inside=True),
    Row(name="_upsample_bicubic2d_aa", sums="signed", resizes=True, fresh=True),
    Row(name="upsample_bicubic2d", sums="signed", resizes=True, fresh=True),
]
_WITH_PLACES: dict[str, Any] = {
    **_CHOSEN,
    "inside": True,
    "results": "values and places",
    "fresh": True,
}
_CHOICES = [
    *_rows("amax amin", **_CHOSEN, inside=True, reduction="dims", fresh=True, kept=True),
    *_rows("max min median nanmedian kthvalue mode", **_WITH_PLACES, reduction="dims"),
    *_rows("cummax cummin", **_WITH_PLACES, reduction="running"),
    *_rows(_dims("max_pool*d_with_indices"), **_WITH_PLACES, reduction="windows"),
    *_rows(_dims("adaptive_max_pool*d"), **_WITH_PLACES, reduction="windows"),
    Row(name="sort", **_WITH_PLACES),
    Row(name="topk", **_WITH_PLACES, takes_part=True),
]
_STATISTICS = [
    Row(name="var", low=0, reduction="dims", fresh=True),
    *_rows("std norm linalg_vector_norm", low=0, reduction="dims", fresh=True, kept=True),
    *_rows("prod logsumexp", reduction="dims", fresh=True, kept=True),
    *_rows("cumprod logcumsumexp", reduction="running", fresh=True, kept=True),
    Row(name="var_mean", reduction="dims", fresh=True, results="values"),
    Row(name="std_mean", reduction="dims", fresh=True, results="values", kept=True),
]
_LAYERS = [
    *_rows("linear batch_norm layer_norm group_norm", fresh=True),
    *_rows(_dims("conv*d conv_transpose*d"), fresh=True),
]
_SAYINGS = [
    *_rows("eq ne lt le gt ge isnan isinf isfinite", says="masks", entrywise=True, fresh=True),
    *_rows("logical_and logical_or logical_not", says="masks", entrywise=True, fresh=True),
    *_rows("logical_xor isin isclose", says="masks", entrywise=True, fresh=True),
    *_rows("any all equal", says="masks", fresh=True),
    *_rows("argmax argmin argsort nonzero bincount histc", says="places", fresh=True),
    *_rows("ones_like new_ones ones", says="shapes", low=1, high=1, fresh=True),
    *_rows("zeros_like new_zeros zeros", says="shapes", low=0, high=0, fresh=True),
    *_rows("full_like new_full full empty_like new_empty empty", says="shapes", fresh=True),
    *_rows("arange linspace eye scalar_tensor", says="shapes", fresh=True),
    *_rows("sym_size sym_numel sym_stride size numel dim", says="sizes"),
    *_rows("item _local_scalar_dense", says="sizes"),  # numbers that Python reads
]
ROWS: tuple[Row, ...] = (
    *(*FUNCTIONS, *_OF_TWO, *_CONDITIONAL, *_NORMALIZED, *_ARRANGEMENTS, *_WRITINGS),
    *(*_SUMS, *_CHOICES, *_STATISTICS, *_LAYERS, *_SAYINGS),
)
"""All rows."""
ACTIVATIONS, NUMERIC, STEPS = (
    tuple(row.name for row in rows) for rows in (_ACTIVATIONS, _NUMERIC, _STEPS)
)
"""The names of the activations, of the other functions of one number, and of those that only step."""
LAYERS = frozenset(row.name for row in _LAYERS)
"""The names of the operations with weights, and of the norms."""
CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS = (
    frozenset(_dims(name).split()) for name in ("conv*d", "conv_transpose*d")
)
NORMS = frozenset(["layer_norm", "rms_norm", "group_norm", "instance_norm"])
"""Norms by statistics of each sample's own values."""
MATRIX_PRODUCTS = frozenset(["matmul", "mm", "bmm"])
ADDITIONS = frozenset(["add", "sub", "rsub"])
ARITHMETIC = ADDITIONS | {"mul", "div"}
"""Binary operations that are affine in one operand if the other is constant (``div`` in the first)."""

_NOTHING = Row(name="")


def rows_by_name(rows: Iterable[Row]) -> dict[str, Row]:
    """The rows as a dictionary by name.

    Raises:
        ValueError: if two rows have the same name, or if this version of torch lacks an operation
            whose row has no ``since``.
    """
    table: dict[str, Row] = {}
    for row in rows:
        if row.name in table:
            raise ValueError(f"two rows are named {row.name}")
        if not (row.since or hasattr(aten, row.name)):
            raise ValueError(f"torch {torch.__version__} has no operation '{row.name}'")
        table[row.name] = row
    return table


_TABLE = rows_by_name(ROWS)


def row_named(name: str) -> Row:
    """The row of an operation; an empty row if the table has none."""
    return _TABLE.get(name, _NOTHING)


def row_of(node: Any) -> Row:
    """The row of the operation that a node calls; an empty row if the table has none."""
    return row_named(name_of(node)) if isinstance(node, fx.Node) else _NOTHING


def draws(node: fx.Node) -> bool:
    """Whether a call draws random numbers."""
    packet = packet_of(node.target)
    if packet is None or node.op != "call_function":
        return False
    overloads = [getattr(packet, name) for name in overloads_of(packet)]
    if not any(torch.Tag.nondeterministic_seeded in overload.tags for overload in overloads):
        return False
    bound = arguments(node)
    is_training = bound.get("training", bound.get("train", True)) is not False
    return is_training and bound.get("dropout_p") != 0 and bound.get("p") != 0


def is_size(node: fx.Node) -> bool:
    """Whether a node yields a size, or another number of Python, rather than a tensor."""
    if packet_of(node.target) is not None:
        return row_of(node).says == "sizes"
    if name_of(node) == "getattr":
        return True
    sources = node.all_input_nodes
    if name_of(node) == "getitem":
        return not sources or (packet_of(sources[0].target) is None or is_size(sources[0]))
    return True


def names_where(holds: Callable[[Row], object]) -> frozenset[str]:
    """The names of all operations whose row satisfies ``holds``."""
    return frozenset(row.name for row in ROWS if holds(row))


CASTS = ("to", "_to_copy")
"""Operations that may change the dtype or the device, and nothing else."""


def ends_of_clip(node: fx.Node) -> tuple[Any, Any]:
    """The lower and the upper end of an operation that clips; None for an end that it does not have."""
    bound, row = arguments(node), row_of(node)
    low = bound.get("min_val", bound.get("min", None if row.low == -math.inf else row.low))
    high = bound.get("max_val", bound.get("max", None if row.high == math.inf else row.high))
    return low, high


@cache
def shares_memory(packet: Packet) -> bool:
    """Whether the result may share memory with an operand, according to the schema or to the row.

    The row is asked too, because the schemas of some composite operations do not declare it.
    """
    schemas = [schema_of(getattr(packet, overload)) for overload in overloads_of(packet)]
    aliases = [result.alias_info for schema in schemas for result in schema.returns]
    row = _TABLE.get(str(packet.__name__))
    return any(each is not None and not each.is_write for each in aliases) or (
        row is not None and row.says is None and not row.fresh
    )


@cache
def in_place_form(name: str) -> Packet | None:
    """The in-place form of an operation, which overwrites its first operand; None if there is none."""
    return getattr(aten, f"{name}_", None)
