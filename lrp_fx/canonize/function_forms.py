"""The known functions of one number, and how a sampled function is told from the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.graph import Packet, aten, call_like

Function = Callable[[Tensor], Tensor]
Differences = Callable[[Tensor], list[Tensor]]
_ROUNDING = 1e-12
"""The largest difference between two spellings of a function in float64, of values up to one."""
_TAILS = 1e-8
"""The same beyond six, where ``1 - sigmoid(z)`` has lost digits."""
_FAR = 1e5
"""Points this far away show the ends of a clamp."""
_SMALL = torch.logspace(-4, 0.5, 91, dtype=torch.float64)
_EVEN = torch.linspace(0.317, 15.317, 61, dtype=torch.float64)
_POINTS = torch.cat([-_EVEN, -_SMALL, torch.zeros(1, dtype=torch.float64), _SMALL, _EVEN])
"""Where functions are compared; beyond, torch's softplus is the identity."""
_BEYOND = torch.logspace(1.2, 36, 120, dtype=torch.float64)
"""Points up to the largest numbers of float32, for what happens only far away."""
_SATURATED = (15.4, 40.0)
"""In between, spellings such as ``-log(1 - sigmoid(z))`` lose all digits; beyond, they may overflow."""
_UNSURE = 0.05
"""The largest difference there, of values up to one: more than those spellings lose."""
_CANCELS = 1e-14
"""The rounding of the largest operand: ``|z + 1| - |z - 1|`` is 2, or 0 at ``z = 1e30``."""
_SIDES = (1.0, -1.0, 1.001, 0.999, -1.001, -0.999)
"""Where functions with a number in their formula are compared too, in multiples of that number."""
_HALVINGS = 60
"""How often an interval between two points is halved until its ends are neighbouring numbers."""
_NEIGHBOURS = 2
"""Further numbers on each side, for what rounding hides."""
_LARGEST = 1e36
"""The largest of these numbers."""
_LINEAR_BEYOND = 40.0
"""Where ``log(1 + exp(z))`` is ``z`` in float64."""


@dataclass(frozen=True)
class Known:
    """``scale · f(inner · z + offset) + shift``, where ``f`` is an operation; None is the identity."""

    packet: Packet | None
    args: tuple[float, ...] = ()
    scale: float = 1.0
    inner: float = 1.0
    offset: float = 0.0
    shift: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether no number stands beside the operation."""
        return (self.scale, abs(self.inner), self.offset, self.shift) == (1, 1, 0, 0)

    @property
    def calls(self) -> int:
        """The number of calls that the function takes."""
        numbers = (self.scale != 1, self.inner != 1, self.offset != 0, self.shift != 0)
        return sum(numbers) + (self.packet is not None)

    def __call__(self, z: Tensor) -> Tensor:
        """The values of the function."""
        value = self.inner * z + self.offset
        if self.packet is not None:
            value = self.packet(value, *self.args, **self.options)
        return self.scale * value + self.shift

    def write(self, graph: fx.Graph, node: fx.Node, value: fx.Node) -> fx.Node:
        """Write the operation, without the numbers beside it."""
        if self.packet is None:
            return value
        call = call_like(graph, node, self.packet, value, *self.args)
        call.kwargs = dict(self.options)
        return call


_FIXED = (
    *(Known(getattr(aten, name)) for name in ("abs", "gelu", "silu", "tanh", "sigmoid", "mish")),
    *(Known(getattr(aten, name)) for name in ("hardswish", "softplus", "log_sigmoid", "erf")),
    *(Known(getattr(aten, name)) for name in ("expm1", "cos", "special_ndtr", "sign")),
    Known(aten.gelu, options={"approximate": "tanh"}),
)
"""The functions without parameters."""


def recognized(
    function: Function, numbers: Sequence[float], differences: Differences | None = None
) -> Known | None:
    """The known function that has the same values as a function; None if there is none.

    Args:
        function: computes the function on float64 tensors of any shape.
        numbers: the numbers in its formula, among which are those of a threshold.
        differences: the values inside the function that change their sign where it may have a step
            or a bend, at these points.
    """
    kinks = [side * number for number in set(numbers) if abs(number) < _LARGEST for side in _SIDES]
    points = torch.cat([-_BEYOND, _POINTS, _BEYOND, torch.tensor(kinks, dtype=torch.float64)])
    values = function(_POINTS)
    if not bool(values.isfinite().all()):
        return None
    known = next(
        (each for each in _candidates(function, numbers) if _agree(each, function, points)), None
    )
    if known is None or differences is None:
        return known
    return known if _agree(known, function, _with_crossings(points, differences)) else None


def _agree(known: Known, function: Function, points: Tensor) -> bool:
    """Whether two functions have the same values at these points, up to rounding."""
    values, sizes = function(points), points.abs()
    start, end = _SATURATED
    tolerances = torch.where(sizes <= 6, _ROUNDING, _TAILS).to(points)
    tolerances[(sizes > start) & (sizes < end)] = _UNSURE
    tolerances = tolerances * (1 + values.abs())
    tolerances = tolerances + torch.where(sizes <= 6, 0, _CANCELS * sizes)
    overflows = ~values.isfinite() & (sizes > start)
    return bool((overflows | ((known(points) - values).abs() <= tolerances)).all())


def _with_crossings(points: Tensor, differences: Differences) -> Tensor:
    """The points, and those where a difference changes its sign, on both sides and between.

    Of the numbers there, some may be the only ones with another value, as in ``where(2 * z == 5, …)``.
    """
    points = _in_order(points)
    left, right = _crossings(points, differences)
    for _ in range(_NEIGHBOURS):
        left = torch.cat([left, left.nextafter(left - math.inf)])
        right = torch.cat([right, right.nextafter(right + math.inf)])
    crossings = _in_order(torch.cat([left, right]))
    between = (crossings[:-1] + crossings[1:]) / 2
    beside = torch.cat([crossings * side for side in _SIDES[2:4]])
    return torch.cat([points, crossings, between, beside])


def _crossings(points: Tensor, differences: Differences) -> tuple[Tensor, Tensor]:
    """Neighbouring numbers between which a difference changes its sign, by bisection."""
    values = torch.stack(differences(points) or [torch.ones_like(points)])
    before, after = values[:, :-1], values[:, 1:]
    row, place = torch.nonzero((before * after <= 0) & (before != after), as_tuple=True)
    left, right, start = points[place], points[place + 1], before[row, place]
    for _ in range(_HALVINGS if len(row) else 0):
        middle = left + (right - left) / 2
        here = torch.stack(differences(middle))[row, torch.arange(len(row))]
        is_right = start * here <= 0
        left, right = torch.where(is_right, left, middle), torch.where(is_right, middle, right)
    return left, right


def _in_order(points: Tensor) -> Tensor:
    """The points in order, each once."""
    ordered = points.sort().values
    steps = ordered.diff()
    return torch.cat([ordered[:1], ordered[1:][steps > 0]])


def _candidates(function: Function, numbers: Sequence[float]) -> Iterator[Known]:
    yield from _FIXED
    ends = torch.tensor([-_FAR, -1.0, 0.0, 1.0, _FAR], dtype=torch.float64)
    lowest, minus, zero, plus, highest = function(ends).tolist()
    if zero == 0:
        yield from _kinked(-minus, plus)
    yield from _smooth(lowest, zero, plus)
    yield from _clamped(function, lowest, highest)
    for number in {abs(each) for each in numbers if each}:
        yield Known(aten.softshrink, (number,))
        yield Known(aten.hardshrink, (number,))
    if math.isfinite(lowest):
        yield from (Known(aten.threshold, (each, lowest)) for each in set(numbers))


def _kinked(left: float, right: float) -> Iterator[Known]:
    """Functions with one slope below zero and one above. A sign before a rectifier stays there."""
    if left == right:
        if right:  # no activation, but a constant
            yield Known(None, scale=right)
    elif left == 0:
        yield Known(aten.relu, scale=right)
    elif right == 0:
        yield (
            Known(aten.relu, scale=-left, inner=-1)
            if left < 0
            else Known(aten.clamp_max, (0,), scale=left)
        )
    elif left == -right:
        yield Known(aten.abs, scale=right)
    elif right > 0:
        yield Known(aten.leaky_relu, (left / right,), scale=right)
    elif left < 0:
        yield Known(aten.leaky_relu, (right / left,), scale=-left, inner=-1)


def _smooth(lowest: float, zero: float, plus: float) -> Iterator[Known]:
    """``elu`` with any number added, and ``softplus``."""
    slope = plus - zero
    if slope > 0 and math.isfinite(lowest):
        alpha = (zero - lowest) / slope
        yield Known(aten.elu, (alpha, slope), shift=zero)
        if zero > lowest:
            beta = math.log(2) / (zero - lowest)
            yield Known(aten.softplus, (beta, _LINEAR_BEYOND), shift=lowest)
            yield Known(aten.softplus, shift=lowest)


def _clamped(function: Function, lowest: float, highest: float) -> Iterator[Known]:
    """Functions with one slope between two ends, or one end."""
    values = function(_POINTS)
    inside = _POINTS[(values > min(lowest, highest)) & (values < max(lowest, highest))]
    if len(inside) < 2:
        return
    first, second = float(inside[0]), float(inside[-1])
    at_first, at_second = function(torch.stack([inside[0], inside[-1]])).tolist()
    slope = (at_second - at_first) / (second - first)
    offset = _snapped(at_first - slope * first, 0.0)
    slope = _snapped(slope, 1.0)
    low, high = sorted((lowest, highest))
    if not slope or not (math.isfinite(low) and math.isfinite(high)):
        return
    if low > -_FAR / 2 and high < _FAR / 2:
        if low == 0 and abs(offset - high / 2) <= _ROUNDING * high:
            inner = _snapped(_snapped(6 * slope / high, 1.0), -1.0)
            yield Known(aten.hardsigmoid, scale=_snapped(high, 1.0), inner=inner)
        yield Known(aten.hardtanh, (low, high), inner=slope, offset=offset)
    elif slope == 1 and offset == 0:
        if low > -_FAR / 2:
            yield Known(aten.clamp_min, (low,))
        elif high < _FAR / 2:
            yield Known(aten.clamp_max, (high,))


def _snapped(number: float, whole: float) -> float:
    """The number, or another one from which it differs only by rounding."""
    return whole if abs(number - whole) <= _ROUNDING else number
