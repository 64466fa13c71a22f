"""Relevance through products and quotients: constants, gates, statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.aten import arguments, as_tuple, name_of, packet_of
from lrp_fx.relevance.activation import ACTIVATIONS, FUNCTIONS
from lrp_fx.relevance.adjoints import ROUTING
from lrp_fx.relevance.engines import sum_to
from lrp_fx.relevance.node import RelevanceNode
from lrp_fx.relevance.operation import (
    Facts,
    Operation,
    Received,
    Site,
    argument,
    by_operand,
    operation_of,
)
from lrp_fx.relevance.taken import Taken
from lrp_fx.rules import Gate, Half, Pass, Rule

SOFTMAXES = frozenset(["softmax", "_softmax", "_safe_softmax"])
GATES = frozenset(["sigmoid", "hardsigmoid", *SOFTMAXES])
REDUCTIONS = frozenset(
    [
        *("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean"),
        *("norm", "linalg_vector_norm", "prod", "logsumexp"),
    ]
)
_REARRANGEMENTS = frozenset(
    [
        *ROUTING,
        *("split", "split_with_sizes", "chunk", "unbind", "tensor_split", "getitem"),
        *("topk", "sort"),
    ]
)
SCALAR_FUNCTIONS = frozenset({"add", "sub", "rsub", "mul", "div", *ACTIVATIONS, *FUNCTIONS})


class ScaleRelevance(RelevanceNode):
    """``R_in = R`` through a product with a constant, zero where the constant is zero."""

    result = "moved"

    def propagate(self, relevance: Tensor, constant: Any, shape: torch.Size) -> Tensor:
        """The relevance of the other factor, of ``shape``."""
        if not isinstance(constant, Tensor) and constant != 0:
            return sum_to(relevance, shape)
        return sum_to(relevance * (constant != 0), shape)

    def taken(self, relevance: Tensor, constant: Any, shape: torch.Size) -> Taken:
        """The relevance of products with zero."""
        return {"constant": (relevance * (constant == 0)).sum()}


class FactorRelevance(RelevanceNode):
    """``share · R`` for each factor that gets relevance; broadcasting is summed up."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def extra_repr(self) -> str:
        """The share."""
        return f"share={self.share}"

    def propagate(self, relevance: Tensor, *shapes: torch.Size) -> list[Tensor]:
        """The relevance of the factors of these shapes."""
        share = relevance if self.share == 1 else relevance * self.share
        return [sum_to(share, shape) for shape in shapes]


def is_gate(node: Any) -> bool:
    """Whether a value comes straight from a sigmoid, hardsigmoid or softmax."""
    return _origin(node) in GATES


def is_softmax(node: Any) -> bool:
    """Whether a value comes straight from a softmax."""
    return _origin(node) in SOFTMAXES


def _origin(node: Any) -> str | None:
    """The name of the operation that made a value, re-arrangements aside."""
    while isinstance(node, fx.Node) and (
        name_of(node) in _REARRANGEMENTS or _is_share_of_its_sum(node)
    ):
        node = node.args[0]
    return name_of(node) if isinstance(node, fx.Node) else None


def _is_share_of_its_sum(node: fx.Node) -> bool:
    """Whether ``x / sum(x)``, as routers write it for the experts that they chose."""
    if name_of(node) != "div":
        return False
    value, divisor = node.args[:2]
    return isinstance(divisor, fx.Node) and name_of(divisor) == "sum" and divisor.args[0] is value


def is_statistic(node: Any, facts: Facts) -> bool:
    """Whether a value is a reduction over non-batch dimensions, then only scalar functions."""
    if isinstance(node, fx.Node) and name_of(node) == "getitem":  # max(dim) and its like
        node = node.args[0]
    if not isinstance(node, fx.Node) or packet_of(node.target) is None:
        return False
    name = name_of(node)
    if name in REDUCTIONS:
        dims = as_tuple(arguments(node).get("dim"), 1)
        return dims not in ((), (None,)) and 0 not in dims
    if name not in SCALAR_FUNCTIONS and name not in ROUTING:
        return False
    operation = operation_of(node)  # its operands, without a tensor that only lends its shape
    operands = node.all_input_nodes if operation is None else operation.operands(node)
    dynamic = [operand for operand in operands if facts.is_dynamic(operand)]
    return bool(dynamic) and all(is_statistic(operand, facts) for operand in dynamic)


def is_made_of(node: Any, value: fx.Node) -> bool:
    """Whether only reductions, scalar functions and re-arrangements lie between a value and a node."""
    if node is value:
        return True
    if not isinstance(node, fx.Node) or packet_of(node.target) is None:
        return False
    name = name_of(node)
    known = name in REDUCTIONS or name in SCALAR_FUNCTIONS or name in _REARRANGEMENTS
    return known and any(is_made_of(source, value) for source in node.all_input_nodes)


def is_factor_of_function(factor: Any, other: Any, facts: Facts) -> bool:
    """Whether ``factor · other`` is ``u · g(u)``, a scalar function of the one value behind ``factor``.

    So are activations that are written out, such as GELU by its tanh. The way through ``g`` would lose
    what its constants take; all to the factor is the only conserving choice.
    """
    value = factor
    while isinstance(value, fx.Node):
        if _is_scalar_function_of(other, value, facts):
            return True
        if packet_of(value.target) is None or name_of(value) not in SCALAR_FUNCTIONS:
            return False
        moving = [operand for operand in value.all_input_nodes if facts.is_dynamic(operand)]
        value = moving[0] if len(moving) == 1 else None
    return False


def _is_scalar_function_of(node: Any, value: fx.Node, facts: Facts) -> bool:
    """Whether only scalar functions and constants lie between ``value`` and ``node``."""
    if node is value:
        return True
    if not isinstance(node, fx.Node) or packet_of(node.target) is None:
        return False
    moving = [operand for operand in node.all_input_nodes if facts.is_dynamic(operand)]
    known = name_of(node) in SCALAR_FUNCTIONS and bool(moving)
    return known and all(_is_scalar_function_of(operand, value, facts) for operand in moving)


def _factors(node: fx.Node) -> tuple[Any, Any]:
    bound = arguments(node)
    return bound["self"], bound["other"]


def signals(node: fx.Node, rule: Rule, facts: Facts) -> list[Any]:
    """The factors that get relevance under the rule."""
    a, b = _factors(node)
    dynamic = [factor for factor in (a, b) if facts.is_dynamic(factor)]
    if len(dynamic) < 2 or isinstance(rule, Half):
        return dynamic
    statistic = [is_statistic(factor, facts) for factor in (a, b)]
    if all(statistic):  # a mean divided by its own norm: the norm is the statistic of the two
        statistic = [is_made_of(factor, other) for factor, other in ((a, b), (b, a))]
    if statistic[0] != statistic[1]:
        return [b if statistic[0] else a]
    gate = [is_gate(factor) for factor in (a, b)]
    if gate[0] != gate[1]:
        return [b if gate[0] else a]
    for factor, other in ((a, b), (b, a)):
        if is_factor_of_function(factor, other, facts):
            return [factor]
    return dynamic


def _default(node: fx.Node, facts: Facts) -> Rule:
    a, b = _factors(node)
    if not (facts.is_dynamic(a) and facts.is_dynamic(b)):
        return Pass()
    return Gate() if len(signals(node, Gate(), facts)) == 1 else Half()


def _write(site: Site) -> Received:
    node = site.node
    a, b = _factors(node)
    if not (site.facts.is_dynamic(a) and site.facts.is_dynamic(b)):
        signal, constant = (a, b) if site.facts.is_dynamic(a) else (b, a)
        if name_of(node) == "div" and signal is a:
            # y = x / c passes all; y = x / inf is the zero product
            constant = 1 if not isinstance(constant, fx.Node) else constant
        inputs = (site.value(constant), site.shape(signal))
        return {signal: [site.call(ScaleRelevance(), site.relevance, *inputs)]}
    targets = signals(node, site.rule, site.facts)
    factors = [factor for factor in targets if site.receives(factor)]
    module = FactorRelevance(1 / len(targets))
    return by_operand(site, site.call(module, site.relevance, *map(site.shape, factors)), factors)


OPERATIONS = [
    Operation(
        name=name,
        kind="product",
        operands=argument("self", "other"),
        default=_default,
        default_label="Pass by a constant; Gate for a statistic or a gate; else Half",
        alternatives=(Gate, Half),
        receivers=signals,
        write=_write,
        source="Arras et al. 2017 (gates); Achtibat et al. 2024 (half each)",
    )
    for name in ("mul", "div")
]
