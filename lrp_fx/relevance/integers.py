"""Relevance through integer arithmetic, which mostly computes indices from indices."""

from __future__ import annotations

from typing import Any

from torch import fx

from lrp_fx.graph import STEPS, arguments, aten, name_of
from lrp_fx.relevance.adjoints import AVERAGING
from lrp_fx.relevance.handling import (
    Facts,
    Operation,
    Received,
    Site,
    always,
    argument,
    by_operand,
    operation_of,
)
from lrp_fx.relevance.pooling import AverageRelevance
from lrp_fx.relevance.product import FactorRelevance
from lrp_fx.rules import Half, Pass, Rule, Uniform

_OF_ONE = (*STEPS, "bucketize", "searchsorted")
_OF_TWO = (
    *("remainder", "fmod", "floor_divide", "bitwise_and", "bitwise_or", "bitwise_xor"),
    *("bitwise_left_shift", "bitwise_right_shift", "gcd", "lcm", "atan2"),
)


def _both(node: fx.Node) -> list[Any]:
    return list(arguments(node).values())[:2]


def _dynamic(node: fx.Node, facts: Facts) -> list[Any]:
    operation = operation_of(node)
    assert operation is not None
    return [operand for operand in operation.operands(node) if facts.is_dynamic(operand)]


def _default(node: fx.Node, facts: Facts) -> Rule:
    return Half() if len(_dynamic(node, facts)) > 1 else Pass()


def _default_of_power(node: fx.Node, facts: Facts) -> Rule:
    return _default(node, facts) if facts.is_categorical(node) else Pass()


def _receivers(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    """Under ``Half`` all operands that depend on the input, else the first (the base of a power)."""
    dynamic = _dynamic(node, facts)
    return dynamic if isinstance(rule, Half) else dynamic[:1]


def _write(site: Site) -> Received:
    """Write a node that gives ``R`` to the operand that depends on the input, or half to each."""
    dynamic = _receivers(site.node, site.rule, site.facts)
    wanted = [operand for operand in dynamic if site.receives(operand)]
    module = FactorRelevance([1 / len(dynamic)] * len(wanted))
    return by_operand(site, site.call(module, site.relevance, *map(site.shape, wanted)), wanted)


def _write_product(site: Site) -> Received:
    """Write a node that gives equal shares to all factors of a product."""
    bound, packet = arguments(site.node), _SUMS[name_of(site.node)]
    operand = bound.pop("self")
    bound.pop("dtype", None)
    module = AverageRelevance(packet, AVERAGING[str(packet.__name__)], Uniform(), site.engine)
    call = site.call(module, site.relevance, site.value(operand), None, **site.value(bound))
    return {operand: [call]}


_SUMS = {"prod": aten.sum, "cumprod": aten.cumsum}
"""For each product the sum over the same entries, whose adjoint gives the equal shares."""

OPERATIONS = [
    *(
        Operation(
            name=name,
            kind="integers",
            operands=operands,
            default=_default,
            default_label=label,
            receivers=_receivers,
            write=_write,
            source="functions of one value, and of one and a constant, pass what comes",
        )
        for names, operands, label in (
            (_OF_ONE, argument("self"), "Pass"),
            (_OF_TWO, _both, "Pass by a constant; else Half"),
        )
        for name in names
    ),
    Operation(
        name="pow",
        kind="function",
        operands=_both,
        default=_default_of_power,
        default_label="Pass to the base, or to the exponent of a constant; Half for categories",
        alternatives=(Pass,),
        receivers=_receivers,
        write=_write,
        source="the relevance of a power goes to its base; names share",
    ),
    *(
        Operation(
            name=name,
            kind="integers",
            operands=argument("self"),
            default=always(Uniform()),
            write=_write_product,
            source="1/n for each of n factors",
        )
        for name in _SUMS
    ),
]
