"""Ranges of values, which tell gates from activations, however they are written.

One walk along the graph finds a range for each value: its infimum, its supremum, and its value *at
rest*, which it has where the argument of the underlying function is zero. A gate is a value with a
finite range that has one end at zero and that rests strictly between the ends: ``sigmoid(z)``,
``1 - sigmoid(z)``, ``relu6(z + 3) / 6``, ``(tanh(z) + 1) / 2``, ``1 / (1 + exp(-z))``. Not gates but
activations are ``tanh(z)``, which has both signs, ``1 + sigmoid(z)``, which never closes, and
``relu6(z)``, which rests at an end.

A *switch* is a gate too, wherever its ends lie: a value that only steps, such as ``sign(z)``, and what
is computed from such values alone, as ``relu(sign(z))``. Like the mask ``z > 0``, it says on which side
of a number ``z`` lies.

A gate times a constant of unknown size or sign, such as a parameter, is a gate. But its ends are known
only up to this factor, so what is computed from it other than products and sums has no known range:
``1 - w sigmoid(z)`` closes for one ``w`` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from lrp_fx.graph import (
    Affine,
    Row,
    affine,
    arguments,
    ends_of_clip,
    is_call,
    is_same,
    literal,
    name_of,
    packet_of,
    row_of,
)
from lrp_fx.meaning.shares import is_sum_of, is_sum_of_groups
from lrp_fx.meaning.signs import is_nonnegative, is_share
from lrp_fx.relevance import ROUTING, is_linear

_TOUCHES = 1e-6
"""An end this close to zero, in widths of the range, counts as zero: literals are rounded."""

_SAFETY = 0.05
"""A clamp that moves a gate's end at zero by less, in widths of the range, still leaves a gate."""


@dataclass(frozen=True)
class Range:
    """The ends between which a value stays, and its value at rest.

    Args:
        low: the lower end.
        high: the upper end.
        rest: the value at rest.
        is_switch: whether the value only steps.
        is_scaled: whether all three are known only up to a constant factor.
    """

    low: float
    high: float
    rest: float
    is_switch: bool = False
    is_scaled: bool = False

    @property
    def is_saturating(self) -> bool:
        """Whether both ends are finite and the value rests strictly between them."""
        return math.isfinite(self.high - self.low) and self.low < self.rest < self.high

    @property
    def is_gate(self) -> bool:
        """Whether the value only opens and closes what it is multiplied by."""
        return self.is_switch or self.closes

    @property
    def closes(self) -> bool:
        """Whether the value saturates at zero and at one other number."""
        nearest = min(abs(self.low), abs(self.high))
        return self.is_saturating and nearest <= _TOUCHES * (self.high - self.low)

    @property
    def is_half_line(self) -> bool:
        """Whether one end is zero and the value does not rest there. Positive factors keep this."""
        return 0 in (self.low, self.high) and self.rest != 0

    def mapped(self, function: Callable[[float], float], *, keeps_factors: bool = False) -> Range:
        """The range of a monotone function of the value.

        Args:
            function: the function.
            keeps_factors: whether a constant factor of the value is one of the function too.
        """
        if self.is_scaled and not keeps_factors:
            return ANYTHING
        ends = function(self.low), function(self.high)
        return Range(min(ends), max(ends), function(self.rest), is_scaled=self.is_scaled)

    def reciprocal(self) -> Range:
        """The range of ``1 / x``; ``ANYTHING`` if x may have either sign."""
        if self.low < 0 < self.high or self.rest == 0:
            return ANYTHING
        sign = -1.0 if self.high <= 0 else 1.0
        return self.mapped(lambda x: 1 / x if x else sign * math.inf)


ANYTHING = Range(-math.inf, math.inf, 0.0)
_UNIT = Range(0.0, 1.0, 0.5)
_BOTH = Range(-1.0, 1.0, 0.0)
_MONOTONE: dict[str, Callable[[float], float]] = {
    "exp": lambda x: math.exp(x) if x < 700 else math.inf,
    "expm1": lambda x: math.expm1(x) if x < 700 else math.inf,
    "sqrt": lambda x: math.sqrt(x) if x >= 0 else math.nan,
}


def ranges(nodes: Iterable[fx.Node], dynamic: Callable[[Any], bool]) -> dict[fx.Node, Range]:
    """The ranges of all values whose range is known.

    Args:
        nodes: the nodes of a graph, in order.
        dynamic: whether a value depends on the explained inputs; all others are constants.
    """
    found: dict[fx.Node, Range] = {}
    nonnegative: set[fx.Node] = set()
    for node in nodes:
        if not dynamic(node):
            if is_nonnegative(node, nonnegative):
                nonnegative.add(node)
        elif node.op == "call_function":
            of_node = _range(node, found, dynamic, nonnegative)
            if _is_switch(node, of_node, found, dynamic):
                of_node = replace(of_node, is_switch=True)
            if of_node != ANYTHING and not math.isnan(of_node.low + of_node.rest):
                found[node] = of_node
    return found


def _range(
    node: fx.Node,
    known: dict[fx.Node, Range],
    dynamic: Callable[[Any], bool],
    nonnegative: set[fx.Node],
) -> Range:
    name, row = name_of(node), row_of(node)
    if not row.clips and name not in _MONOTONE and _saturates(row):
        return Range(row.low, row.high, 0.5 if row.rest is None else row.rest)
    source = node.args[0] if node.args else None
    argument = known.get(source, ANYTHING) if isinstance(source, fx.Node) else ANYTHING
    if name == "pad" and arguments(node)["mode"] == "constant":
        return _beside([source, arguments(node)["value"] or 0.0], known)
    if row.fills == "zeros":
        return _beside([source, 0.0], known)
    if name in ("cat", "stack"):
        return _beside(arguments(node)["tensors"], known)
    if row.inside or name in ("pad", "getitem"):
        return argument
    if name in ("sum", "cumsum"):
        return _summed(argument)
    if packet_of(node.target) is None:
        return ANYTHING
    bound = arguments(node)
    if is_linear(node):
        return _weighted(bound, known, nonnegative)
    if row.clips:
        return _clamped(argument, *ends_of_clip(node))
    if name in _STEPS:  # a gate that is rounded is open or closed
        return argument if argument.closes else _rounded(argument, _STEPS[name])
    if name in _MONOTONE:
        return argument.mapped(_MONOTONE[name])
    if name == "reciprocal":
        return argument.reciprocal()
    if name in ("square", "pow"):
        exponent = 2 if name == "square" else bound["exponent"]
        is_positive = _sign(exponent, nonnegative) > 0
        return argument if is_positive and _keeps(argument) else _power(argument, exponent)
    if name == "elu":
        return Range(-bound["alpha"] * bound["scale"], math.inf, 0.0)
    if row.writes or name in _ADDING:
        written = bound[_ADDING.get(name) or (row.writes if row.writes in bound else "value")]
        whole = _beside([written, bound["self"]], known)
        adds = name in _ADDING or bound.get("accumulate") or bound.get("reduce") == "add"
        is_plain = bound.get("alpha", 1) == 1 and bound.get("reduce") in (None, "add")
        return whole if is_plain and (whole.is_half_line or not adds) else ANYTHING
    if row.choice == "mask":
        other = bound["value" if name == "masked_fill" else "other"]
        return _beside([other, bound["self"]], known)
    by_numbers = affine(node)
    if by_numbers is not None:
        return _affine(by_numbers, known)
    if name in ("add", "sub"):
        times = bound["alpha"] if name == "add" else -bound["alpha"]
        return _sum(bound["self"], bound["other"], times, known)
    if name in ("mul", "div"):
        return _of_two(name, bound["self"], bound["other"], known, dynamic, nonnegative)
    return ANYTHING


_STEPS: dict[str, Callable[[float], int]] = {
    **{"round": round, "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc}
}
_ADDING = {"scatter_add": "src", "index_add": "source"}
"""Operations that add values to entries of another value, and the argument that they add."""


def _saturates(row: Row) -> bool:
    """Whether an operation approaches an end asymptotically, for any operand."""
    has_end = math.isfinite(row.low) or math.isfinite(row.high)
    return has_end and (row.normalizes or row.trend == "rises")


def _rounded(argument: Range, function: Callable[[float], int]) -> Range:
    """The range of whole numbers, if they are two only."""
    if not math.isfinite(argument.high - argument.low):
        return ANYTHING
    whole = argument.mapped(function)
    return whole if whole.high - whole.low <= 1 else ANYTHING


def _is_switch(
    node: fx.Node, of_node: Range, known: dict[fx.Node, Range], dynamic: Callable[[Any], bool]
) -> bool:
    """Whether a value takes two numbers only, or is computed from switches and constants alone."""
    name, row = name_of(node), row_of(node)
    if name == "sign" or _is_ratio_of_sizes(node):
        return True
    if name in _STEPS and of_node.high - of_node.low <= 1:
        return True
    if not (row.entrywise or row.moves or row.sums):
        return False
    return all(known.get(n, ANYTHING).is_switch for n in node.all_input_nodes if dynamic(n))


def _is_ratio_of_sizes(node: fx.Node) -> bool:
    """Whether a node is ``z / |z|``, ``|z| / z`` or ``relu(z) / z``, in one call or as a product."""
    if name_of(node) not in ("mul", "div"):
        return False
    b = arguments(node)
    over, under = b["self"], b["other"]
    if name_of(node) == "mul":
        over, under = (under, over) if is_call(over, "reciprocal") else (over, under)
        if not is_call(under, "reciprocal"):
            return False
        under = under.args[0]
    sizes = [_inside_size(value) for value in (over, under)]
    (first, is_size), (second, is_other_size) = sizes
    return (is_size or is_other_size) and is_same(first, second)


def _inside_size(value: Any) -> tuple[Any, bool]:
    """``z`` of ``c |z|``, ``c relu(z)`` or ``c z``, and whether it is one of the first two."""
    is_size = False
    while isinstance(value, fx.Node):
        form = affine(value)
        if form is not None and form.shift == 0:
            value = form.operand
        elif name_of(value) in ("abs", "relu"):
            value, is_size = value.args[0], True
        else:
            break
    return value, is_size


def _clamped(argument: Range, low: Any, high: Any) -> Range:
    """The range after a clamp. A clamp of a gate for numerical safety does not change it."""
    if argument.is_scaled:
        return ANYTHING
    least = -math.inf if low is None else literal(low)
    most = math.inf if high is None else literal(high)
    if least is None or most is None:
        return ANYTHING
    if argument.closes:
        zero = min(argument.low, argument.high, key=abs)
        moved = abs(min(max(zero, least), most) - zero)
        if moved <= _SAFETY * (argument.high - argument.low):
            return argument
    low, high = (min(max(end, least), most) for end in (argument.low, argument.high))
    return Range(low, high, argument.rest)


def _power(base: Range, exponent: Any) -> Range:
    """The range of ``|x|`` to a positive power, which is monotone where ``x`` has one sign."""
    power = literal(exponent)
    if power is None or power <= 0:
        return ANYTHING
    if base.low < 0 < base.high:
        return Range(0.0, math.inf, 0.0) if power % 2 == 0 else ANYTHING
    return base.mapped(lambda x: abs(x) ** power, keeps_factors=True)


def _keeps(base: Range) -> bool:
    """Whether a positive constant exponent keeps the ends, as in ``sigmoid(z) ** exp(p)``."""
    return base.low == 0 and base.high in (1, math.inf)


def _weighted(
    bound: dict[str, Any], known: dict[fx.Node, Range], nonnegative: set[fx.Node]
) -> Range:
    """The range of a sum with constant weights, written as a layer without a bias.

    Weights that are never negative, such as masks and one-hot vectors, keep a half line, as a plain
    sum does.
    """
    argument = known.get(bound["input"], ANYTHING)
    has_bias = bound["bias"] is not None and literal(bound["bias"]) != 0
    is_sum = _sign(bound["weight"], nonnegative) > 0 and not has_bias
    return _summed(argument) if is_sum else ANYTHING


def _summed(argument: Range) -> Range:
    """The range of a sum of values on one side of zero: the mean times an unknown positive number."""
    is_exact = math.isinf(argument.high - argument.low)
    is_scaled = argument.is_scaled or not is_exact
    return replace(argument, is_scaled=is_scaled) if argument.is_half_line else ANYTHING


def _hull(many: list[Range]) -> Range:
    """The range of values side by side, with the value at rest of the first."""
    whole = Range(
        min(each.low for each in many),
        max(each.high for each in many),
        many[0].rest,
        is_scaled=any(each.is_scaled for each in many),
    )
    is_one_sided = whole.is_half_line and all(each.is_half_line for each in many)
    return whole if is_one_sided or math.isfinite(whole.high - whole.low) else ANYTHING


def _sum(first: Any, second: Any, times: float, known: dict[fx.Node, Range]) -> Range:
    """The range of a sum of two saturating values, or of two values on one side of zero.

    An example of the latter is ``logsigmoid(a) + logsigmoid(b)``.
    """
    if not (first in known and second in known):
        return ANYTHING
    both = known[first], known[second].mapped(lambda x: times * x, keeps_factors=True)
    low, high, rest = (sum(getattr(each, end) for each in both) for end in ("low", "high", "rest"))
    whole = Range(low, high, rest, is_scaled=any(each.is_scaled for each in both))
    is_known = whole.is_saturating or (whole.is_half_line and all(r.is_half_line for r in both))
    return whole if is_known else ANYTHING


def _beside(values: list[Any], known: dict[fx.Node, Range]) -> Range:
    """The range of values side by side. A number between the ends of the others changes nothing."""
    found = [known.get(value, ANYTHING) for value in values if literal(value) is None]
    whole = _hull(found) if found else ANYTHING
    numbers = [number for value in values if (number := literal(value)) is not None]
    return whole if all(whole.low <= number <= whole.high for number in numbers) else ANYTHING


def _affine(form: Affine, known: dict[fx.Node, Range]) -> Range:
    argument = known.get(form.operand, ANYTHING)
    if form.scale == 0:
        return ANYTHING
    return argument.mapped(lambda x: form.scale * x + form.shift, keeps_factors=form.shift == 0)


def _of_two(
    name: str,
    a: Any,
    b: Any,
    known: dict[fx.Node, Range],
    dynamic: Callable[[Any], bool],
    nonnegative: set[fx.Node],
) -> Range:
    """The range of the product or quotient of two values."""
    first, second = known.get(a, ANYTHING), known.get(b, ANYTHING)
    if not (dynamic(a) and dynamic(b)):  # one is an unknown constant
        moving = first if dynamic(a) else second
        if name == "div" and dynamic(b):
            moving = second.reciprocal()
        constant = b if dynamic(a) else a
        sign = _sign(constant, nonnegative)
        if sign < 0:
            moving = moving.mapped(lambda x: -x, keeps_factors=True)
        is_exact = is_share(constant) or (sign and math.isinf(moving.high - moving.low))
        is_scaled = moving.is_scaled or not is_exact
        return replace(moving, is_scaled=is_scaled) if moving.is_half_line else ANYTHING
    if name == "mul":
        if not (first.closes and second.closes):
            return ANYTHING
        corners = [x * y for x in (first.low, first.high) for y in (second.low, second.high)]
        is_scaled = first.is_scaled or second.is_scaled
        return Range(min(corners), max(corners), first.rest * second.rest, is_scaled=is_scaled)
    if first.is_half_line and (is_sum_of(b, a) or is_sum_of_groups(b, a)):
        return _UNIT
    return _BOTH if is_softsign(a, b) else ANYTHING


def _sign(constant: Any, nonnegative: set[fx.Node]) -> int:
    """The sign of a constant that its form shows, such as ``-exp(a)``; 0 if it is unknown."""
    sign = 1
    while isinstance(constant, fx.Node) and constant not in nonnegative:
        form = affine(constant)
        if form is not None and form.shift == 0:
            sign, constant = sign if form.scale > 0 else -sign, form.operand
        elif name_of(constant) in ROUTING:
            constant = constant.args[0]
        else:
            return 0
    return sign if isinstance(constant, fx.Node) else 0


def is_softsign(value: Any, divisor: Any) -> bool:
    """Whether ``value / divisor`` is ``x / (1 + |x|)``, which has no operation of its own."""
    form = affine(divisor)
    if form is None or (form.scale, form.shift) != (1, 1) or name_of(form.operand) != "abs":
        return False
    return is_same(form.operand.args[0], value)
