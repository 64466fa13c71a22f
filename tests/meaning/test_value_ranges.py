"""Ends between which values stay, as their operations show.

Each case is a value of ``x``, which depends on the input, of the constants ``w``, of either sign, and
``p``, which is positive, and of the mask ``m``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import exp, expm1, inf, log, sqrt
from typing import Any

import pytest
from torch import fx

from lrp_fx.graph import aten
from lrp_fx.meaning import Range, ranges

REST = 0.5  # of functions whose value at zero depends on other arguments; any number inside will do


class Values:
    """The operands, and calls of ATen's operations as methods: ``v.sigmoid(v.x)``."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.x, self.w, self.m, self.index = map(self.graph.placeholder, ("x", "w", "m", "index"))
        self.p = self.exp(self.w)

    def __getattr__(self, name: str) -> Callable[..., fx.Node]:
        return lambda *args, **kwargs: self.graph.call_function(getattr(aten, name), args, kwargs)

    def item(self, value: fx.Node) -> fx.Node:
        return self.graph.call_function(operator.getitem, (value, 0))

    def depends(self, value: Any) -> bool:
        if not isinstance(value, fx.Node):
            return False
        return value is self.x or any(map(self.depends, value.all_input_nodes))


def found(case: Callable[[Values], fx.Node]) -> Range | None:
    values = Values()
    node = case(values)
    return ranges(values.graph.nodes, values.depends).get(node)


UNIT, BOTH, LINE = Range(0, 1, 0.5), Range(-1, 1, 0), Range(0, inf, 1)
KNOWN: dict[str, tuple[Callable[[Values], fx.Node], Range]] = {
    # functions with ends
    "sigmoid": (lambda v: v.sigmoid(v.x), UNIT),
    "tanh": (lambda v: v.tanh(v.x), BOTH),
    "softmax": (lambda v: v.softmax(v.x, 1), Range(0, 1, REST)),
    "softplus": (lambda v: v.softplus(v.x), Range(0, inf, REST)),
    "log_sigmoid": (lambda v: v.log_sigmoid(v.x), Range(-inf, 0, -log(2))),
    "elu": (lambda v: v.elu(v.x, 2.0, 3.0), Range(-6, inf, 0)),
    # monotone functions
    "exp": (lambda v: v.exp(v.x), LINE),
    "exp of a gate": (lambda v: v.exp(v.sigmoid(v.x)), Range(1, exp(1), exp(0.5))),
    "expm1": (lambda v: v.expm1(v.x), Range(-1, inf, 0)),
    "expm1 of a gate": (lambda v: v.expm1(v.sigmoid(v.x)), Range(0, expm1(1), expm1(0.5))),
    "sqrt of a gate": (lambda v: v.sqrt(v.sigmoid(v.x)), Range(0, 1, sqrt(0.5))),
    # clamps
    "relu": (lambda v: v.relu(v.x), Range(0, inf, 0)),
    "relu of a gate": (lambda v: v.relu(v.sigmoid(v.x)), UNIT),
    "relu of tanh": (lambda v: v.relu(v.tanh(v.x)), Range(0, 1, 0)),
    "relu6": (lambda v: v.relu6(v.x), Range(0, 6, 0)),
    "hardtanh": (lambda v: v.hardtanh(v.x, -2, 3), Range(-2, 3, 0)),
    "clamp": (lambda v: v.clamp(v.x, -2, 3), Range(-2, 3, 0)),
    "clamp from below": (lambda v: v.clamp_min(v.x, -2), Range(-2, inf, 0)),
    "clamp from above": (lambda v: v.clamp_max(v.x, 3), Range(-inf, 3, 0)),
    "clamp without a lower end": (lambda v: v.clamp(v.x, None, 3), Range(-inf, 3, 0)),
    "gate clamped for safety": (lambda v: v.clamp(v.sigmoid(v.x), 0.04, 0.6), UNIT),
    "gate cut off": (lambda v: v.clamp(v.sigmoid(v.x), 0.06, 0.6), Range(0.06, 0.6, 0.5)),
    "negative gate clamped for safety": (
        lambda v: v.clamp(v.neg(v.sigmoid(v.x)), -0.5, -0.04),
        Range(-1, 0, -0.5),
    ),
    "wide gate clamped for safety": (
        lambda v: v.clamp(v.mul(v.sigmoid(v.x), 10.0), 0.4, 20),
        Range(0, 10, 5),
    ),
    "tanh clamped": (lambda v: v.clamp(v.tanh(v.x), -0.99, 0.99), Range(-0.99, 0.99, 0)),
    # reciprocals
    "1 / exp": (lambda v: v.reciprocal(v.exp(v.x)), LINE),
    "1 / -exp": (lambda v: v.reciprocal(v.neg(v.exp(v.x))), Range(-inf, 0, -1)),
    "1 / gate": (lambda v: v.reciprocal(v.sigmoid(v.x)), Range(1, inf, 2)),
    "1 / (1 + exp)": (lambda v: v.reciprocal(v.add(v.exp(v.x), 1)), Range(0, 1, 0.5)),
    # powers
    "square of a gate": (lambda v: v.square(v.sigmoid(v.x)), Range(0, 1, 0.25)),
    "square of a wide gate": (lambda v: v.square(v.mul(v.sigmoid(v.x), 2)), Range(0, 4, 1)),
    "cube of a gate": (lambda v: v.pow(v.sigmoid(v.x), 3), Range(0, 1, 0.125)),
    "square of tanh": (lambda v: v.square(v.tanh(v.x)), Range(0, inf, 0)),
    "square": (lambda v: v.square(v.x), Range(0, inf, 0)),
    "negative gate squared": (lambda v: v.square(v.neg(v.sigmoid(v.x))), Range(0, 1, 0.25)),
    "root of a gate, by a power": (
        lambda v: v.pow(v.sigmoid(v.x), 0.5),
        Range(0, 1, sqrt(0.5)),
    ),
    "relu to a positive constant": (lambda v: v.pow(v.relu(v.x), v.p), Range(0, inf, 0)),
    "gate to a positive constant": (lambda v: v.pow(v.sigmoid(v.x), v.p), UNIT),
    "exp to a positive constant": (lambda v: v.pow(v.exp(v.x), v.p), LINE),
    # steps
    "gate rounded": (lambda v: v.round(v.sigmoid(v.x)), UNIT),
    "gate rounded down": (lambda v: v.floor(v.mul(v.sigmoid(v.x), 2)), Range(0, 2, 1)),
    "gate rounded up": (lambda v: v.ceil(v.neg(v.sigmoid(v.x))), Range(-1, 0, -0.5)),
    "gate truncated": (lambda v: v.trunc(v.sigmoid(v.x)), UNIT),
    # numbers
    "2 gate": (lambda v: v.mul(v.sigmoid(v.x), 2), Range(0, 2, 1)),
    "1 - gate": (lambda v: v.rsub(v.sigmoid(v.x), 1), Range(0, 1, 0.5)),
    "tanh + 1": (lambda v: v.add(v.tanh(v.x), 1), Range(0, 2, 1)),
    # parts and reductions
    "mean": (lambda v: v.mean(v.sigmoid(v.x), 1), UNIT),
    "amax": (lambda v: v.amax(v.tanh(v.x), 1), BOTH),
    "one of several results": (lambda v: v.item(v.chunk(v.sigmoid(v.x), 2)), UNIT),
    "sum of a half line": (lambda v: v.sum(v.exp(v.x), 1), LINE),
    "running sum": (lambda v: v.cumsum(v.exp(v.x), 1), LINE),
    "sum of gates": (lambda v: v.sum(v.sigmoid(v.x), 1), UNIT),
    "1 / (1 + sum of a half line)": (
        lambda v: v.reciprocal(v.add(v.sum(v.exp(v.x), 1), 1)),
        UNIT,
    ),
    # side by side
    "cat": (lambda v: v.cat([v.sigmoid(v.x), v.tanh(v.x)], 1), Range(-1, 1, 0.5)),
    "stack of half lines": (lambda v: v.stack([v.exp(v.x), v.mul(v.exp(v.x), 2)]), LINE),
    "pad by zeros": (lambda v: v.pad(v.sigmoid(v.x), [1, 1], "constant", None), UNIT),
    "pad by an end": (lambda v: v.pad(v.sigmoid(v.x), [1, 1], "constant", 1.0), UNIT),
    "pad by reflection": (lambda v: v.pad(v.tanh(v.x), [1, 1], "reflect"), BOTH),
    "triangle": (lambda v: v.tril(v.tanh(v.x)), BOTH),
    "pad by reflection away from zero": (
        lambda v: v.pad(v.add(v.sigmoid(v.x), 1), [1, 1], "reflect"),
        Range(1, 2, 1.5),
    ),
    "masked_fill": (lambda v: v.masked_fill(v.sigmoid(v.x), v.m, 0.0), UNIT),
    "where": (lambda v: v.where(v.m, v.sigmoid(v.x), 1.0), UNIT),
    # written
    "scatter": (lambda v: v.scatter(0.0, 1, v.index, v.sigmoid(v.x)), UNIT),
    "scatter_reduce with a sum": (
        lambda v: v.scatter(v.exp(v.x), 1, v.index, v.exp(v.x), reduce="add"),
        LINE,
    ),
    "index_put": (lambda v: v.index_put(v.tanh(v.x), [v.index], v.tanh(v.x)), BOTH),
    "scatter_add": (lambda v: v.scatter_add(v.exp(v.x), 1, v.index, v.exp(v.x)), LINE),
    "index_add": (lambda v: v.index_add(v.exp(v.x), 1, v.index, v.exp(v.x)), LINE),
    # sums
    "gate + tanh": (lambda v: v.add(v.sigmoid(v.x), v.tanh(v.x)), Range(-1, 2, 0.5)),
    "gate - tanh": (lambda v: v.sub(v.sigmoid(v.x), v.tanh(v.x)), Range(-1, 2, 0.5)),
    "gate + 2 tanh": (lambda v: v.add(v.sigmoid(v.x), v.tanh(v.x), alpha=2), Range(-2, 3, 0.5)),
    "exp + exp": (lambda v: v.add(v.exp(v.x), v.exp(v.x)), Range(0, inf, 2)),
    "weighted sum": (lambda v: v.linear(v.exp(v.x), v.p, None), LINE),
    "weighted sum with a bias of zeros": (
        lambda v: v.linear(v.exp(v.x), v.p, v.zeros([3])),
        LINE,
    ),
    # products and quotients
    "gate · gate": (lambda v: v.mul(v.sigmoid(v.x), v.sigmoid(v.x)), Range(0, 1, 0.25)),
    "gate · -gate": (lambda v: v.mul(v.sigmoid(v.x), v.neg(v.sigmoid(v.x))), Range(-1, 0, -0.25)),
    "gate · constant": (lambda v: v.mul(v.sigmoid(v.x), v.w), UNIT),
    "constant · gate": (lambda v: v.mul(v.w, v.sigmoid(v.x)), UNIT),
    "gate · -exp(constant)": (lambda v: v.mul(v.sigmoid(v.x), v.neg(v.p)), Range(-1, 0, -0.5)),
    "2 (gate · constant)": (lambda v: v.mul(v.mul(v.sigmoid(v.x), v.w), 2), Range(0, 2, 1)),
    "1 - half a positive · exp": (
        lambda v: v.add(v.mul(v.exp(v.x), v.mul(v.neg(v.p), 0.5)), 1),
        Range(-inf, 1, 0),
    ),
    "1 + positive · exp": (lambda v: v.add(v.mul(v.exp(v.x), v.p), 1), Range(1, inf, 2)),
    "gate / constant": (lambda v: v.div(v.sigmoid(v.x), v.w), UNIT),
    "constant / exp": (lambda v: v.div(v.w, v.exp(v.x)), LINE),
    "-positive / exp": (lambda v: v.div(v.neg(v.p), v.exp(v.x)), Range(-inf, 0, -1)),
    "1 - gate · mask": (lambda v: v.rsub(v.mul(v.sigmoid(v.x), v.gt(v.w, 0)), 1), UNIT),
    "1 - gate · lower triangle": (
        lambda v: v.rsub(v.mul(v.sigmoid(v.x), v.tril(v.full([3, 3], 1.0))), 1),
        UNIT,
    ),
    "1 - gate · constant gate": (
        lambda v: v.rsub(v.mul(v.sigmoid(v.x), v.rsub(v.sigmoid(v.w), 1)), 1),
        UNIT,
    ),
    "(gate · constant)²": (lambda v: v.square(v.mul(v.sigmoid(v.x), v.w)), Range(0, 1, 0.25)),
    "exp(-positive · softplus)": (
        lambda v: v.exp(v.mul(v.softplus(v.x), v.neg(v.p))),
        Range(0, 1, exp(-REST)),
    ),
    "share": (lambda v: v.div(v.exp(v.x), v.sum(v.exp(v.x), 1, True)), UNIT),
    "share of a group": (
        lambda v: v.div(
            v.exp(v.x),
            v.index_select(v.index_add(v.zeros([3]), 0, v.index, v.exp(v.x)), 0, v.index),
        ),
        UNIT,
    ),
    "softsign": (lambda v: v.div(v.x, v.add(v.abs(v.x), 1)), BOTH),
}
UNKNOWN: dict[str, Callable[[Values], fx.Node]] = {
    "x": lambda v: v.neg(v.x),
    # they rise without ends, so nothing is known, not even where they rest
    "log": lambda v: v.log(v.x),
    "asinh": lambda v: v.asinh(v.x),
    "clamp by a value": lambda v: v.clamp_min(v.x, v.w),
    "1 / tanh": lambda v: v.reciprocal(v.tanh(v.x)),
    "1 / relu": lambda v: v.reciprocal(v.relu(v.x)),
    "clamp with an upper end that is a value": lambda v: v.clamp(v.x, None, v.w),
    "1 / (x from 0 to inf at rest)": lambda v: v.reciprocal(v.sub(v.relu(v.x), 1)),
    "gate to a power of the input": lambda v: v.pow(v.sigmoid(v.x), v.exp(v.x)),
    "tanh to a positive constant": lambda v: v.pow(v.tanh(v.x), v.p),
    "index_put that adds tanh": lambda v: v.index_put(
        v.tanh(v.x), [v.index], v.tanh(v.x), accumulate=True
    ),
    "scatter that adds tanh": lambda v: v.scatter(
        v.tanh(v.x), 1, v.index, v.tanh(v.x), reduce="add"
    ),
    "scatter that multiplies": lambda v: v.scatter(
        v.exp(v.x), 1, v.index, v.exp(v.x), reduce="multiply"
    ),
    "share of tanh": lambda v: v.div(v.tanh(v.x), v.sum(v.tanh(v.x), 1, True)),
    "sqrt of tanh": lambda v: v.sqrt(v.tanh(v.x)),
    "wide gate to a positive constant": lambda v: v.pow(v.mul(v.sigmoid(v.x), 2), v.p),
    "cube of tanh": lambda v: v.pow(v.tanh(v.x), 3),
    "gate to a constant": lambda v: v.pow(v.sigmoid(v.x), v.w),
    "gate to the power -1": lambda v: v.pow(v.sigmoid(v.x), -1),
    "gate to the power 0": lambda v: v.pow(v.sigmoid(v.x), 0),
    "0 gate": lambda v: v.mul(v.sigmoid(v.x), 0),
    "tanh rounded": lambda v: v.round(v.tanh(v.x)),
    "exp rounded": lambda v: v.round(v.exp(v.x)),
    "sum of tanh": lambda v: v.sum(v.tanh(v.x), 1),
    "sum of relu": lambda v: v.sum(v.relu(v.x), 1),
    "cat with anything": lambda v: v.cat([v.sigmoid(v.x), v.x], 1),
    "cat of both half lines": lambda v: v.cat([v.exp(v.x), v.neg(v.exp(v.x))], 1),
    "cat with relu": lambda v: v.cat([v.exp(v.x), v.relu(v.x)], 1),
    "pad beyond the ends": lambda v: v.pad(v.sigmoid(v.x), [1, 1], "constant", 2.0),
    "triangle away from zero": lambda v: v.tril(v.add(v.sigmoid(v.x), 1)),
    "masked_fill beyond the ends": lambda v: v.masked_fill(v.sigmoid(v.x), v.m, -1.0),
    "scatter into anything": lambda v: v.scatter(v.x, 1, v.index, v.sigmoid(v.x)),
    "scatter beyond the ends": lambda v: v.scatter(7.0, 1, v.index, v.sigmoid(v.x)),
    "scatter_add of tanh": lambda v: v.scatter_add(v.tanh(v.x), 1, v.index, v.tanh(v.x)),
    "index_add with a factor": lambda v: v.index_add(v.exp(v.x), 1, v.index, v.exp(v.x), alpha=2),
    "scatter with a product": lambda v: v.scatter_reduce(
        v.exp(v.x), 1, v.index, v.exp(v.x), "prod"
    ),
    "gate + anything": lambda v: v.add(v.sigmoid(v.x), v.x),
    "anything + gate": lambda v: v.add(v.x, v.sigmoid(v.x)),
    "exp - 2 exp": lambda v: v.sub(v.exp(v.x), v.exp(v.x), alpha=2),
    "exp - exp": lambda v: v.sub(v.exp(v.x), v.exp(v.x)),
    "exp + relu": lambda v: v.add(v.exp(v.x), v.relu(v.x)),
    "exp + 0 exp": lambda v: v.add(v.exp(v.x), v.exp(v.x), alpha=0),
    "sum with signed weights": lambda v: v.linear(v.exp(v.x), v.w, None),
    "weighted sum with a bias": lambda v: v.linear(v.exp(v.x), v.p, v.w),
    "weighted sum with a bias of ones": lambda v: v.linear(v.exp(v.x), v.p, v.ones([3])),
    "weighted sum of tanh": lambda v: v.linear(v.tanh(v.x), v.p, None),
    "gate · tanh": lambda v: v.mul(v.sigmoid(v.x), v.tanh(v.x)),
    "tanh · gate": lambda v: v.mul(v.tanh(v.x), v.sigmoid(v.x)),
    "1 - gate · constant · mask": lambda v: v.rsub(
        v.mul(v.mul(v.sigmoid(v.x), v.w), v.gt(v.w, 0)), 1
    ),
    "1 + constant · exp": lambda v: v.add(v.mul(v.exp(v.x), v.w), 1),
    "1 - gate · (gate · constant)": lambda v: v.rsub(
        v.mul(v.sigmoid(v.x), v.mul(v.sigmoid(v.x), v.w)), 1
    ),
    "tanh · constant": lambda v: v.mul(v.tanh(v.x), v.w),
    "constant / tanh": lambda v: v.div(v.w, v.tanh(v.x)),
    "1 - gate · constant": lambda v: v.rsub(v.mul(v.sigmoid(v.x), v.w), 1),
    "1 - gate · positive constant": lambda v: v.rsub(v.mul(v.sigmoid(v.x), v.p), 1),
    "1 - (gate · constant)²": lambda v: v.rsub(v.square(v.mul(v.sigmoid(v.x), v.w)), 1),
    "1 - gates · constants": lambda v: v.rsub(
        v.cat([v.sigmoid(v.x), v.mul(v.sigmoid(v.x), v.w)], 1), 1
    ),
    "1 - gate · constant · gate": lambda v: v.rsub(
        v.mul(v.mul(v.sigmoid(v.x), v.w), v.sigmoid(v.x)), 1
    ),
    "1 - (gate + gate · constant)": lambda v: v.rsub(
        v.add(v.sigmoid(v.x), v.mul(v.sigmoid(v.x), v.w)), 1
    ),
    "gate · constant, clamped": lambda v: v.clamp(v.mul(v.sigmoid(v.x), v.w), 0, 1),
    "exp(log_sigmoid · constant)": lambda v: v.exp(v.mul(v.log_sigmoid(v.x), v.w)),
    "1 / (1 + constant · exp)": lambda v: v.reciprocal(v.add(v.mul(v.exp(v.x), v.w), 1)),
    "1 + sum of constant · exp": lambda v: v.add(v.sum(v.mul(v.exp(v.x), v.w), 1), 1),
    "1 - sum of gates": lambda v: v.rsub(v.sum(v.sigmoid(v.x), 1), 1),
    "1 - weighted sum of gates": lambda v: v.rsub(v.linear(v.sigmoid(v.x), v.p, None), 1),
    "gate / anything": lambda v: v.div(v.sigmoid(v.x), v.x),
    "share of other values": lambda v: v.div(v.exp(v.x), v.sum(v.exp(v.neg(v.x)), 1, True)),
    "x / (2 + |x|)": lambda v: v.div(v.x, v.add(v.abs(v.x), 2)),
    "x / (1 + 2 |x|)": lambda v: v.div(v.x, v.add(v.mul(v.abs(v.x), 2), 1)),
    "x / (1 + relu(x))": lambda v: v.div(v.x, v.add(v.relu(v.x), 1)),
    "x / (1 + |-x|)": lambda v: v.div(v.x, v.add(v.abs(v.neg(v.x)), 1)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_ranges(name: str) -> None:
    case, expected = KNOWN[name]
    mine = found(case)
    assert mine is not None
    ends = [(each.low, each.high, each.rest) for each in (mine, expected)]
    assert ends[0] == pytest.approx(ends[1])


SWITCHES: dict[str, Callable[[Values], fx.Node]] = {
    "sign": lambda v: v.sign(v.x),
    "function of signs": lambda v: v.add(v.relu(v.sign(v.x)), v.sign(v.x)),
    "mean of signs": lambda v: v.mean(v.sign(v.x), [1]),
    "sum of signs": lambda v: v.sum(v.sign(v.x), [1]),
    "signs beside zeros": lambda v: v.pad(v.sign(v.x), [1, 1], "constant", 0.0),
    "one part of signs": lambda v: v.item(v.chunk(v.sign(v.x), 2)),
    "gate rounded": lambda v: v.round(v.sigmoid(v.x)),
    "relu(x) / x": lambda v: v.div(v.relu(v.x), v.x),
    "floor of two numbers": lambda v: v.floor(v.add(v.sigmoid(v.x), 0.5)),
    "x / |x|": lambda v: v.div(v.x, v.abs(v.x)),
    "x · 1 / |x|": lambda v: v.mul(v.reciprocal(v.abs(v.x)), v.x),
    "3 |x| / x": lambda v: v.div(v.mul(v.abs(v.x), 3), v.x),
}
NO_SWITCHES: dict[str, Callable[[Values], fx.Node]] = {
    "sign times x": lambda v: v.mul(v.sign(v.x), v.x),
    "layer of signs": lambda v: v.linear(v.sign(v.x), v.w),
    "x / x": lambda v: v.div(v.x, v.x),
    "x / |x + 1|": lambda v: v.div(v.x, v.abs(v.add(v.x, 1))),
    "stairs": lambda v: v.round(v.tanh(v.x)),
    "floor": lambda v: v.floor(v.x),
    "gate rounded to three numbers": lambda v: v.round(v.mul(v.sigmoid(v.x), 2)),
}


@pytest.mark.parametrize("name", [*SWITCHES, *NO_SWITCHES])
def test_switches(name: str) -> None:
    of_value = found((SWITCHES | NO_SWITCHES)[name])
    assert (of_value is not None and of_value.is_switch) == (name in SWITCHES)


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_ranges(name: str) -> None:
    assert found(UNKNOWN[name]) is None


@pytest.mark.parametrize(
    ("value", "saturates", "is_gate", "is_half_line"),
    [
        (UNIT, True, True, True),
        (BOTH, True, False, False),
        (Range(-1, 1, 0, is_switch=True), True, True, False),
        (LINE, False, False, True),
        (Range(-inf, 0, -1), False, False, True),
        (Range(0, inf, 0), False, False, False),
        (Range(0, 1, 0), False, False, False),  # rests at an end, as relu6
        (Range(0, 1, 1), False, False, True),
        (Range(-2, 0, -1), True, True, True),
        (Range(1e-7, 1, 0.5), True, True, False),  # literals are rounded
        (Range(1e-5, 1, 0.5), True, False, False),
        (Range(-inf, inf, 0), False, False, False),
    ],
    ids=str,
)
def test_kinds_of_ranges(value: Range, saturates: bool, is_gate: bool, is_half_line: bool) -> None:
    kinds = (value.is_saturating, value.is_gate, value.is_half_line)
    assert kinds == (saturates, is_gate, is_half_line)
