"""Each cell of the table of operations, derived from torch on random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from lrp_fx.graph.calls import aten, overloads_of
from lrp_fx.graph.operations import (
    FUNCTIONS,
    ROWS,
    Row,
    ends_of_clip,
    in_place_form,
    names_where,
    rows_by_name,
    shares_memory,
)

Call = Callable[[Tensor], Any]
NEAR = 5e-3
"""How near the numbers that are tried come to an end that is rounded, or never reached."""
FAR = 30.0
"""What a value passes that has no end."""
ROUNDING = 1e-12
"""Of sums of a dozen numbers in float64, each of about one."""
FAR_OUT = torch.tensor([1e-32, 1 - 2**-53, 1, 317.3, 1e3, 1e32], dtype=torch.float64)
"""Small, large and between; also far from the integers, at which some functions have their poles."""
SHAPE = (3, 4)
OTHER = torch.linspace(-2.53, 3.57, 12, dtype=torch.float64).reshape(SHAPE)
SMALL = torch.linspace(0.5, 1.1, 4, dtype=torch.float64)
GIVEN = 77.0
"""A number that an example gives, and that no operand holds."""
CONDITION = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]], dtype=torch.bool)
WHOLE = frozenset(
    [
        "bitwise_not",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "gcd",
        "lcm",
        "bitwise_left_shift",
        "bitwise_right_shift",
    ]
)
"""Of whole numbers alone."""
LINE = torch.tensor([2, 0])
FLAT = torch.tensor([5, 0, 7])
PLACES = torch.tensor([[2, 0, 1, 1], [0, 0, 2, 1], [1, 2, 0, 2]])


def _with(**options: Any) -> Callable[[str], Call]:
    return lambda name: lambda x: getattr(aten, name)(x, **options)


def _image(*args: Any) -> Callable[[str], Call]:
    """An image of one row, of as many dimensions as the name says; arguments for its last dimension."""

    def of(name: str) -> Call:
        dims = next(n for n in (1, 2, 3) if f"{n}d" in name)

        def call(x: Tensor) -> Any:
            image = x.reshape(1, 1, *[1] * (dims - 1), -1)
            wide = [[1] * (dims - 1) + [arg] if type(arg) is int else arg for arg in args]
            return getattr(aten, name)(image, *wide)

        return call

    return of


def _layer(name: str) -> Call:
    dims = next((n for n in (1, 2, 3) if f"conv{n}d" in name or f"transpose{n}d" in name), 1)
    weight = torch.linspace(-1, 1, 3, dtype=torch.float64).reshape(1, 1, *[1] * (dims - 1), 3)
    return lambda x: getattr(aten, name)(x.reshape(1, 1, *[1] * (dims - 1), -1), weight)


def _integers(*args: Any) -> Callable[[str], Call]:
    return lambda name: lambda x: getattr(aten, name)(x.round().long(), *args)


EXAMPLES: dict[str, list[Any]] = {
    "hardtanh": [(-1, 1), (0.5, 3), (-1e9, 1e9)],
    "clamp": [(-1, 1), (0.5, 2), (-1e9, 1e9)],
    "clamp_min": [(-1,), (0.5,), (-1e9,)],
    "clamp_max": [(1,), (-0.5,), (1e9,)],
    "threshold": [(0.1, 20.0), (0.1, -200.0)],
    "leaky_relu": [(), (-0.3,)],
    "prelu": [(SMALL[:1],), (-SMALL[:1],)],
    "_prelu_kernel": [(SMALL[:1],), (-SMALL[:1],)],
    "rrelu": [(-0.5, 0.25), (0.5, 0.7)],
    "elu": [(), (200.0,), (-2.0,)],
    "celu": [(), (200.0,), (-0.5,)],
    "gelu": [(), _with(approximate="tanh")],
    "softplus": [(), (2.0,)],
    "hardshrink": [(), (1.0,)],
    "softshrink": [(), (1.0,)],
    "nan_to_num": [
        (0.0, 5.0, 3.0),
        lambda name: lambda x: aten.nan_to_num(x.where(x.abs() > 0.01, math.nan), GIVEN),
    ],
    # in float64 they end early
    **{key: [lambda name: lambda x: 9 * getattr(aten, name)(x)] for key in ["erfinv", "atanh"]},
    "bitwise_not": [_integers()],
    **{key: [_integers(torch.tensor(6))] for key in ["gcd", "lcm"]},
    **{key: [_integers(6)] for key in ["bitwise_and", "bitwise_or", "bitwise_xor"]},
    **{key: [_integers(1)] for key in ["bitwise_left_shift", "bitwise_right_shift"]},
    **{key: [(OTHER,)] for key in ["add", "sub", "rsub", "mul", "div", "minimum", "maximum"]},
    **{key: [(OTHER,)] for key in ["fmin", "fmax", "pow", "remainder", "fmod", "floor_divide"]},
    "where": [lambda name: lambda x: aten.where(CONDITION, x, OTHER)],
    "masked_fill": [(CONDITION, GIVEN)],
    **{key: [(1,)] for key in ["softmax", "log_softmax"]},
    **{key: [(1, False)] for key in ["_softmax", "_log_softmax"]},
    "_safe_softmax": [(1,)],
    "reshape": [([4, 3],)],
    "flatten": [(0, 1)],
    "unflatten": [(1, [2, 2])],
    "squeeze": [lambda name: lambda x: aten.squeeze(x.reshape(1, 12), 0)],
    "unsqueeze": [(0,)],
    "to": [(torch.float64,)],
    "permute": [([1, 0],)],
    "transpose": [(0, 1)],
    "movedim": [([0], [1])],
    "expand": [([2, 3, 4],)],
    "expand_as": [(torch.zeros(2, 3, 4),)],
    "repeat": [([2, 1],)],
    "tile": [([2, 1],)],
    "repeat_interleave": [(2, 0)],
    "flip": [([0],)],
    "roll": [([1], [0])],
    "channel_shuffle": [lambda name: lambda x: aten.channel_shuffle(x.reshape(1, 4, 3, 1), 2)],
    "pixel_shuffle": [lambda name: lambda x: aten.pixel_shuffle(x.reshape(1, 4, 3, 1), 2)],
    "pixel_unshuffle": [lambda name: lambda x: aten.pixel_unshuffle(x.reshape(1, 1, 2, 6), 2)],
    "select": [(0, 1)],
    "slice": [(0, 1)],
    "narrow": [(0, 1, 1)],
    "diagonal": [()],
    "unfold": [(1, 2, 1)],
    "index": [([LINE],)],
    "index_select": [(0, LINE)],
    "gather": [(0, PLACES[:1])],
    "take": [(FLAT,)],
    "take_along_dim": [(PLACES[:1], 0)],
    "masked_select": [(CONDITION,)],
    "pad": [([1, 0], "constant", GIVEN), ([0, 0], "constant", 0.0)],
    "im2col": [lambda name: lambda x: aten.im2col(x[None, None], [2, 2], [1, 1], [1, 1], [1, 1])],
    "diag": [(), lambda name: lambda x: aten.diag(x.reshape(-1))],
    "diagflat": [()],
    "diag_embed": [()],
    "block_diag": [lambda name: lambda x: aten.block_diag([x, x])],
    "broadcast_tensors": [lambda name: lambda x: aten.broadcast_tensors([x, x[None]])],
    "meshgrid": [lambda name: lambda x: aten.meshgrid([x.reshape(-1), x[0]], indexing="ij")],
    "cartesian_prod": [lambda name: lambda x: aten.cartesian_prod([x.reshape(-1), x[0]])],
    "combinations": [lambda name: lambda x: aten.combinations(x.reshape(-1))],
    "cat": [lambda name: lambda x: aten.cat([x, x])],
    "stack": [lambda name: lambda x: aten.stack([x, x])],
    "split": [(2, 0)],
    "split_with_sizes": [([1, 2], 0)],
    "chunk": [(2, 0)],
    "tensor_split": [(2, 0)],
    "index_put": [([LINE], OTHER[:2])],
    "index_fill": [(0, LINE, GIVEN)],
    "scatter": [(0, PLACES, OTHER)],
    "slice_scatter": [(OTHER[:1], 0, 1, 2)],
    "select_scatter": [(OTHER[0], 0, 1)],
    "diagonal_scatter": [(OTHER[0, :3],)],
    "copy": [(OTHER,)],
    "index_copy": [(0, LINE, OTHER[:2])],
    "masked_scatter": [(CONDITION, OTHER)],
    "put": [(FLAT, OTHER[0, :3])],
    "cumsum": [(1,)],
    "col2im": [
        lambda name: (
            lambda x: aten.col2im(x.reshape(1, 2, 6), *([1, 7], [1, 2], [1, 1], [0, 0], [1, 1]))
        )
    ],
    **{f"avg_pool{n}d": [_image(3, 3)] for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": [_image(4)] for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": [_image(3, 3)] for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": [_image(4)] for n in (1, 2, 3)},
    **{f"upsample_nearest{n}d": [_image(24)] for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": [_image(24)] for n in (1, 2, 3)},
    "_upsample_bilinear2d_aa": [_image(24, False)],
    "_upsample_bicubic2d_aa": [_image(24, False)],
    "atan2": [(OTHER,)],
    "upsample_linear1d": [_image(24, False)],
    "upsample_bilinear2d": [_image(24, False)],
    "upsample_trilinear3d": [_image(24, False)],
    "upsample_bicubic2d": [_image(24, False)],
    **{
        key: [([1], True)]
        for key in ["sum", "mean", "amax", "amin", "nansum", "nanmean", "logsumexp"]
    },
    **{key: [(1, True)] for key in ["max", "min", "median", "nanmedian", "mode", "prod"]},
    "kthvalue": [(2, 1, True)],
    **{key: [(1,)] for key in ["cummax", "cummin", "cumprod", "logcumsumexp"]},
    "topk": [(2, 1)],
    **{key: [([1], True, True)] for key in ["var", "std", "var_mean", "std_mean"]},
    "norm": [(2, [1], True)],
    "linalg_vector_norm": [(2, [1], True)],
    "linear": [(torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 4),)],
    "batch_norm": [(SMALL, SMALL, SMALL.clone(), SMALL.clone(), True, 0.0, 1e-5, False)],
    "layer_norm": [([4], SMALL, SMALL)],
    "group_norm": [lambda name: lambda x: aten.group_norm(x.reshape(1, 4, 3), 2, SMALL, SMALL)],
    **{f"conv{n}d": [_layer] for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": [_layer] for n in (1, 2, 3)},
    **{key: [(OTHER,)] for key in ["eq", "ne", "lt", "le", "gt", "ge", "isclose"]},
    **{key: [(OTHER,)] for key in ["logical_and", "logical_or", "logical_xor"]},
    "isin": [(OTHER,)],
    "equal": [(OTHER,)],
    "bincount": [lambda name: lambda x: aten.bincount((x.abs() * 9).long().reshape(-1))],
    "histc": [(5, -5, 5)],
    **{key: [(GIVEN,)] for key in ["full_like", "new_full"]},
    **{key: [([2, 2],)] for key in ["new_ones", "new_zeros", "new_empty"]},
    "new_full": [([2, 2], GIVEN)],
    "arange": [lambda name: lambda x: aten.arange(x.shape[0])],
    "linspace": [lambda name: lambda x: aten.linspace(0, 1, x.shape[0])],
    "full": [lambda name: lambda x: aten.full([x.shape[0]], GIVEN)],
    **{
        name: [lambda name: lambda x: getattr(aten, name)([x.shape[0]])]
        for name in ("zeros", "ones", "empty")
    },
    "eye": [lambda name: lambda x: aten.eye(x.shape[0])],
    "scalar_tensor": [lambda name: lambda x: aten.scalar_tensor(x.shape[0])],
    "sym_size": [(0,)],
    "size": [(0,)],
    "sym_stride": [(0,)],
    **{
        name: [lambda name: lambda x: getattr(aten, name)(x.sum())]
        for name in ("item", "_local_scalar_dense")
    },
}


def _calls(name: str) -> list[Call]:
    """Calls of an operation with arguments of several kinds, each of an operand (3, 4) in float64."""

    def made(example: Any) -> Call:
        if callable(example):
            return example(name)  # type: ignore[no-any-return]
        return lambda x: getattr(aten, name)(x, *example)

    return [made(example) for example in EXAMPLES.get(name, [()])]


@cache
def _numbers(positive: bool = False) -> Tensor:
    """Different ones, of both signs or between 0 and 1, none of which an example holds."""
    generator = torch.Generator().manual_seed(1)
    if positive:
        return torch.rand(SHAPE, dtype=torch.float64, generator=generator) * 0.4 + 0.1
    return torch.randn(SHAPE, dtype=torch.float64, generator=generator) * 3 + 0.01


def _tensors(result: Any) -> list[Tensor]:
    listed = result if isinstance(result, (list, tuple)) else [result]
    return [each for each in listed if isinstance(each, Tensor)]


def _values(result: Any) -> list[Tensor]:
    """The results that are no places."""
    tensors = _tensors(result)
    of_numbers = [each for each in tensors if each.is_floating_point()]
    return of_numbers or tensors


def _flat(result: Any) -> Tensor:
    return torch.cat([each.reshape(-1).double() for each in _values(result)])


def _entrywise(call: Call) -> bool:
    x, results = _numbers(), []
    step = 1.5
    if any(each.isnan().any() for each in _tensors(call(x))):
        x, step = _numbers(positive=True), 0.4
    if any(each.isnan().any() for each in _tensors(call(x))):
        x = x + 1  # acosh
    for place in [None, *range(x.numel())]:
        changed = x.clone()
        if place is not None:
            changed.view(-1)[place] += step
        found = _tensors(call(changed))
        if len(found) != 1 or found[0].shape != x.shape:
            return False
        results.append(found[0].reshape(-1))
    differs = [set((each != results[0]).nonzero().flatten().tolist()) for each in results[1:]]
    return all(places <= {place} for place, places in enumerate(differs)) and any(differs)


def _fills(call: Call) -> set[str]:
    """What entries of the result are that are none of an operand; "other" for no constants."""
    x = _numbers()
    known = set(x.flatten().tolist()) | set(OTHER.flatten().tolist())
    left = set(_flat(call(x)).tolist()) - known
    words = {0.0: "zeros", GIVEN: "given"}
    return {words.get(each, "other") for each in left}


def _keeps_order(call: Call) -> bool:
    x, result = _numbers(), call(_numbers())
    return isinstance(result, Tensor) and torch.equal(result.reshape(-1), x.reshape(-1))


def _permutes(call: Call) -> bool:
    """Whether the result is the operand with its dimensions in another order."""
    x, result = _numbers(), call(_numbers())
    if not isinstance(result, Tensor) or sorted(result.shape) != sorted(x.shape):
        return False
    return result.shape != x.shape and torch.equal(x.t(), result)


def _derivative(call: Call, x: Tensor) -> Tensor:
    return torch.func.jacrev(lambda x: _flat(call(x)))(x).reshape(-1, x.numel())


def _sums(call: Call) -> str | None:
    """The signs of the weights, where each entry is a sum with weights that do not depend on values."""
    x = _numbers()
    here, there = _derivative(call, x), _derivative(call, x.flip(0) + 1)
    is_linear = torch.allclose(_flat(call(x)), here @ x.reshape(-1), atol=ROUNDING)
    is_constant = torch.allclose(here, there, atol=ROUNDING)
    if not (is_linear and is_constant and ((here.abs() > ROUNDING).sum(1) > 1).any()):
        return None
    return "positive" if bool((here >= -ROUNDING).all()) else "signed"


def _is_inside(call: Call) -> bool:
    """Whether no entry leaves the range of the operand's, where those are large, small or mixed."""
    for shift in (0.0, 50.0, -50.0):
        x = _numbers() + shift
        y = _flat(call(x))
        if not (x.min() - ROUNDING <= y.min() and y.max() <= x.max() + ROUNDING):
            return False
    return True


def _reduction(call: Call) -> str | None:
    x = _numbers()
    order = torch.tensor([2, 0, 3, 1])
    mixed, y, z = x[:, order], _values(call(x))[0], _values(call(x[:, order]))[0]
    if y.shape == (3, 1):
        return "dims" if torch.allclose(y, z) and not torch.equal(x, mixed) else None
    if y.shape == x.shape and not _entrywise(call):
        later = x.clone()
        later[:, 2:] += 5
        is_running = torch.allclose(y[:, :2], _values(call(later))[0][:, :2])
        ends_alike = torch.allclose(y[:, -1], z[:, -1]) and not torch.allclose(y[:, :2], z[:, :2])
        return "running" if is_running and ends_alike else None
    line = x.reshape(-1)
    window = torch.tensor([2, 0, 1, *range(3, 12)])
    y, z = _flat(call(x)), _flat(call(line[window].reshape(SHAPE)))
    far = torch.cat([line[:3] + 5, line[3:]]).reshape(SHAPE)
    moved = (_flat(call(far)) - y).abs() > ROUNDING
    return (
        "windows"
        if len(y) == 4 and torch.allclose(y, z) and moved.tolist() == [1, 0, 0, 0]
        else None
    )


def _results(call: Call) -> str | None:
    result, x = call(_numbers()), _numbers()
    if not isinstance(result, (list, tuple)) or not _tensors(result):
        return None
    if len(result) == 2 and result[1].dtype == torch.int64:
        return "values and places"
    once = sorted(_flat(result).tolist()) == sorted(x.flatten().tolist())
    return "pieces" if once else "values"


def _says(name: str, call: Call) -> str | None:
    result, others = call(_numbers()), [call(_numbers() * CONDITION), call(-_numbers().flip(0))]
    if not _tensors(result):
        return "masks" if isinstance(result, bool) else "sizes"
    first, *rest = (_tensors(each)[0] for each in (result, *others))
    if first.dtype == torch.bool:
        return "masks"
    if all(torch.equal(first, each) for each in rest):
        return "shapes"
    is_count = first.shape != SHAPE and torch.equal(first, first.round())
    is_place = not first.is_floating_point() and name not in WHOLE
    return "places" if is_place or is_count else None


def _shares(call: Call) -> bool:
    x = _numbers().clone()
    memory = x.untyped_storage().data_ptr()
    return any(each.untyped_storage().data_ptr() == memory for each in _tensors(call(x)))


def _is_kept(call: Call) -> bool:
    """Whether autograd keeps the first result, to differentiate the operation."""
    result = _values(call((_numbers().abs() + 0.1).requires_grad_()))[0]
    function, memory = result.grad_fn, result.untyped_storage().data_ptr()
    names = [name for name in dir(function) if name.startswith("_saved_")]
    kept = [each for name in names for each in _tensors(getattr(function, name))]
    return any(each.untyped_storage().data_ptr() == memory for each in kept)


def _of_a_line(name: str) -> list[tuple[Tensor, Tensor]]:
    """Of each example of a function of one number, where it is defined: numbers, and its values."""
    pairs = []
    for call in _calls(name):
        x = torch.cat([torch.linspace(-6, 6, 2001, dtype=torch.float64), FAR_OUT, -FAR_OUT])
        x = x.sort().values
        y = call(x)
        is_defined = y.isfinite()
        pairs.append((x[is_defined], y[is_defined].double()))
    return pairs


def _same(values: list[Any]) -> Any:
    """What all agree on; None for anything else."""
    first, *rest = values
    return first if all(each == first for each in rest) else None


def _derived_function(name: str) -> dict[str, Any]:
    """The cells of a function of one number."""
    lines = _of_a_line(name)
    low, high = min(float(y.min()) for _, y in lines), max(float(y.max()) for _, y in lines)
    steps = torch.cat([y.diff() for x, y in lines])
    odd = all(
        torch.allclose(call(x), -call(-x), equal_nan=True)
        for call in _calls(name)
        for x in [torch.cat([_numbers().reshape(-1), FAR_OUT * math.inf])]
    )
    trend = "rises" if (steps >= 0).all() else "falls" if (steps <= 0).all() else None
    zero = torch.zeros(1, dtype=torch.float64)
    return {
        "clips": all(torch.equal(y, x.clamp(y.min(), y.max())) for x, y in lines),
        "low": -math.inf if low < -FAR else low,
        "high": math.inf if high > FAR else high,
        "rest": _same([float(call(zero)) for call in _calls(name)]),
        "trend": trend,
        "odd": odd,
    }


def _derived_motion(row: Row) -> dict[str, Any]:
    """The cells about where entries of the result come from."""
    calls = _calls(row.name)
    fills = set().union(*(_fills(call) for call in calls))
    derived: dict[str, Any] = {
        "moves": "other" not in fills,
        "keeps_order": all(_keeps_order(call) for call in calls),
        "permutes": all(_permutes(call) for call in calls),
        "inside": all(_is_inside(call) for call in calls),
        "reduction": _same([_reduction(call) for call in calls]),
    }
    if derived["moves"]:
        derived |= {
            "fills": next(iter(fills), None),
        }
        if not row.writes:
            derived["choice"] = _choice(row.name, calls[0])
        if not (derived["reduction"] or row.choice or row.writes):
            derived["takes_part"] = _leaves_out(calls[0])
    elif not (row.entrywise or any("weight" in str(schema) for schema in _schemas(row.name))):
        derived["sums"] = _same([_sums(call) for call in calls])
    return derived


def derived(row: Row) -> dict[str, Any]:
    """What torch says of the cells that it can say something of."""
    calls = _calls(row.name)
    cells: dict[str, Any] = {"says": _same([_says(row.name, call) for call in calls])}
    if row.says == "sizes":
        return cells
    if "empty" in row.name:  # whatever the memory holds
        return {}
    cells["fresh"] = not any(_shares(call) for call in calls)
    cells["results"] = _same([_results(call) for call in calls])
    if row.says:
        return cells
    if not row.writes:  # that depends on the place
        cells["entrywise"] = all(_entrywise(call) for call in calls)
    cells["kept"] = row.name not in WHOLE and any(_is_kept(call) for call in calls)
    if row in FUNCTIONS:
        return cells | _derived_function(row.name)
    y = _values(calls[0](_numbers()))[0].double()
    sums = torch.stack([y.sum(-1), y.exp().sum(-1)])
    cells["normalizes"] = bool((sums - 1).abs().amax(tuple(range(1, sums.dim()))).min() < ROUNDING)
    return cells | _derived_motion(row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_cell_is_as_torch_says(row: Row) -> None:
    found = derived(row)
    for end in ("low", "high"):
        if end in found:
            assert getattr(row, end) == pytest.approx(found.pop(end), abs=NEAR)
    rest = found.pop("rest", None)
    assert row.rest == (rest if rest is None else pytest.approx(rest, nan_ok=True))
    assert {cell: getattr(row, cell) for cell in found} == found


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row not in FUNCTIONS and (not row.says or row.low == row.high)]
)
def test_ends_of_other_operations(row: Row) -> None:
    for call in _calls(row.name):
        y = _flat(call(_numbers()))
        y = y[~y.isnan()]
        assert row.low - ROUNDING <= y.min()
        assert y.max() <= row.high + ROUNDING


@pytest.mark.parametrize("row", [row for row in ROWS if row.writes])
def test_what_is_written(row: Row) -> None:
    assert any(row.writes in [a.name for a in schema.arguments] for schema in _schemas(row.name))


def test_ends_of_clips() -> None:
    calls: dict[str, tuple[Any, ...]] = {
        "relu": (),
        "relu6": (),
        "hardtanh": (-2, 3),
        "clamp": (-2, 3),
        "clamp_min": (-2,),
        "clamp_max": (3,),
    }
    assert calls.keys() == names_where(lambda row: row.clips)
    x, graph = torch.linspace(-9, 9, 37), torch.fx.Graph()
    value = graph.placeholder("x")
    for name, args in calls.items():
        low, high = ends_of_clip(graph.call_function(getattr(aten, name), (value, *args)))
        assert torch.equal(x.clamp(low, high), getattr(aten, name)(x, *args))


def test_images_are_resized() -> None:
    named = {row.name for row in ROWS if "upsample_" in row.name}
    assert names_where(lambda row: row.resizes) == named


@pytest.mark.parametrize("row", [row for row in ROWS if row.says != "sizes"])
def test_memory_is_shared_as_torch_says(row: Row) -> None:
    for call in _calls(row.name):
        assert not _shares(call) or shares_memory(getattr(aten, row.name))


@pytest.mark.parametrize("row", [row for row in FUNCTIONS if in_place_form(row.name)])
def test_in_place_forms_overwrite(row: Row) -> None:
    packet, x = in_place_form(row.name), _numbers(positive=True).clone()
    x = (10 * x).long() if row.name in WHOLE else x
    arguments = next((each for each in EXAMPLES.get(row.name, []) if not callable(each)), ())
    expected = getattr(aten, row.name)(x, *arguments)
    assert packet is not None
    packet(x, *arguments)
    assert torch.equal(x.isnan(), expected.isnan())  # acosh is defined beyond one only
    assert torch.equal(x.nan_to_num(), expected.nan_to_num())


def test_a_name_that_torch_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="no operation 'no_such'"):
        rows_by_name([Row(name="no_such")])
    assert rows_by_name([Row(name="no_such", since="99.0")])


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="two rows"):
        rows_by_name([Row(name="relu"), Row(name="relu")])


def _choice(name: str, call: Call) -> str | None:
    """Whether a mask or values choose, where entries of one of the operands come to one place."""
    x, places = _numbers(), []
    for each in (x, -x):
        known = {value: place for place, value in enumerate(each.flatten().tolist())}
        places.append([known.get(value) for value in _flat(_values(call(each))[0]).tolist()])
    if places[0] != places[1]:
        return "value"
    masks = ("self", "mask"), ("condition", "self")
    arguments = [tuple(a.name for a in schema.arguments[:2]) for schema in _schemas(name)]
    return "mask" if _entrywise(call) and any(each in masks for each in arguments) else None


def _leaves_out(call: Call) -> bool:
    x = _numbers()
    return not set(x.flatten().tolist()) <= set(_flat(call(x)).tolist())


def _schemas(name: str) -> list[Any]:
    packet = getattr(aten, name)
    return [getattr(packet, overload)._schema for overload in overloads_of(packet)]
