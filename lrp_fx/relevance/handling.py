"""Descriptions of operations, and the interface by which they write their relevance nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, fx, nn

from lrp_fx.graph import Argument, arguments, name_of
from lrp_fx.relevance.engines import Engine
from lrp_fx.rules import Part, Rule

BiasPolicy = Literal["absorb", "ignore", "distribute"]
BIAS_POLICIES: tuple[BiasPolicy, ...] = ("absorb", "ignore", "distribute")


@dataclass(frozen=True)
class Counts:
    """How many factors of a nested product each of the two operands of a product contains.

    Each field has one number for the first operand and one for the second.

    Args:
        signals: the factors that get relevance, including attention weights. Gates and statistics do
            not count, unless there is nothing else.
        factors: all factors.
        values: the signals without attention weights, unless there is nothing else.
    """

    signals: tuple[int, ...]
    factors: tuple[int, ...]
    values: tuple[int, ...]

    @property
    def is_attention(self) -> bool:
        """Whether attention weights are among the factors."""
        return self.values != self.signals


class Facts(Protocol):
    """The results of the static analysis of a graph."""

    def is_dynamic(self, node: object) -> bool:
        """Whether the value depends on the explained inputs."""

    def is_nonnegative(self, node: object) -> bool:
        """Whether the value provably has no negative entries."""

    def is_preprocessing(self, node: object) -> bool:
        """Whether only routing and constant affine operations lie between the inputs and the node."""

    def counts(self, product: fx.Node) -> Counts:
        """The numbers of factors in both operands of a product or matrix product of activations."""

    def is_categorical(self, node: object) -> bool:
        """Whether the value only selects rows of tables, like a token: its size has no meaning."""


class Site(Protocol):
    """The place in the LRP graph where the relevance nodes of one operation are written.

    The methods take nodes of the canonical graph. :meth:`value`, :meth:`shape`, :meth:`item`,
    :meth:`bound` and :meth:`call` return nodes of the LRP graph.
    """

    node: fx.Node
    rule: Rule
    facts: Facts
    engine: Engine
    bias: BiasPolicy
    relevance: fx.Node
    """The relevance of the output; of the first one if the operation has several."""
    parts: dict[int, fx.Node]
    """The relevance of each output by its index, if the operation has several."""

    def receives(self, operand: object) -> bool:
        """Whether the relevance of this operand is wanted."""

    def value(self, argument: Argument) -> Argument:
        """The forward value of a node, or of all nodes in nested arguments."""

    def output(self) -> fx.Node:
        """The operation's output, or a value that equals it wherever the relevance is not zero."""

    def output_is_nonnegative(self) -> bool:
        """Whether :meth:`output` is known to have no negative entries."""

    def is_only_where_positive(self) -> bool:
        """Whether no relevance arrives where the operation's own output is zero or negative."""

    def shape(self, node: fx.Node) -> fx.Node:
        """The shape of a node's forward value, so that the value itself need not be kept in memory."""

    def modified(self, weight: fx.Node, part: Part) -> fx.Node:
        """A part of a weight, such as W⁺. It is computed once if it depends on parameters alone."""

    def item(self, node: fx.Node, index: int) -> fx.Node:
        """One of the forward values of a node that has several."""

    def bound(
        self, node: fx.Node, low: float | Tensor, high: float | Tensor
    ) -> tuple[fx.Node, fx.Node]:
        """The bounds of the model's input, carried through the graph to this node."""

    def call(
        self, module: nn.Module, *args: object, suffix: str = "relevance", **kwargs: object
    ) -> fx.Node:
        """Write a call of a relevance node. ``suffix`` ends the name of the new node."""

    def parts_of(self, node: fx.Node, count: int) -> list[fx.Node]:
        """The results of a relevance node that returns ``count`` results, as separate nodes."""


Received = dict[fx.Node, list[fx.Node]]
"""The relevance that each operand receives, in a list, since ``x + x`` gives ``x`` two shares."""


@dataclass(frozen=True)
class Operation:
    """How relevance goes back through one ATen operation.

    Args:
        name: the ATen name of the operation.
        kind: the family, by which composites choose rules (``convolution``, ``dense`` …).
        operands: a function from a node to the operands through which relevance can flow, in order.
        default: a function from a node and the facts to the rule that holds if a composite assigns
            none.
        write: a function that writes the relevance nodes, and returns the relevance of each
            operand.
        alternatives: the rules that a composite may assign.
        receivers: a function from a node, the rule and the facts to the operands that get
            relevance; None if all operands that depend on the inputs do.
        source: the formula or the paper, for the documentation.
        default_label: the default in words, if it depends on the node.
        kind_at: a function from a node to the family, if it depends on the node.
    """

    name: str
    kind: str
    operands: Callable[[fx.Node], list[Argument]]
    default: Callable[[fx.Node, Facts], Rule]
    write: Callable[[Site], Received]
    alternatives: tuple[type[Rule], ...] = ()
    receivers: Callable[[fx.Node, Rule, Facts], list[Argument]] | None = None
    source: str = ""
    default_label: str = ""
    kind_at: Callable[[fx.Node], str] | None = None

    def family(self, node: fx.Node) -> str:
        """The family of one call of the operation."""
        return self.kind if self.kind_at is None else self.kind_at(node)

    @property
    def default_text(self) -> str:
        """The default rule in words."""
        if isinstance(self.default, always):
            return type(self.default.rule).__name__
        return self.default_label

    def accepts(self, rule: Rule) -> bool:
        """Whether a composite may assign this rule to the operation."""
        return isinstance(rule, self.alternatives)


_REGISTRY: dict[str, Operation] = {}


def register(operations: Iterable[Operation]) -> None:
    """Add descriptions of operations to the registry.

    Raises:
        ValueError: if an operation is already described.
    """
    for operation in operations:
        if operation.name in _REGISTRY:
            raise ValueError(f"operation {operation.name} is described twice")
        _REGISTRY[operation.name] = operation


def operation_of(node: fx.Node) -> Operation | None:
    """The description of a node's operation; None if the registry has none."""
    return _REGISTRY.get(name_of(node)) if node.op == "call_function" else None


def registry() -> dict[str, Operation]:
    """A copy of the registry: all described operations by name."""
    return dict(_REGISTRY)


def by_operand(site: Site, call: fx.Node, operands: Iterable[Argument]) -> Received:
    """Map each operand to its relevance.

    Args:
        site: the site.
        call: a relevance node that returns one result for each operand that receives relevance.
        operands: all operands, in order.
    """
    receivers = [operand for operand in operands if site.receives(operand)]
    received: Received = {}
    for operand, share in zip(receivers, site.parts_of(call, len(receivers)), strict=True):
        received.setdefault(operand, []).append(share)
    return received


def argument(*names: str) -> Callable[[fx.Node], list[Argument]]:
    """A function from a node to the arguments with these ATen names; lists are flattened."""

    def operands(node: fx.Node) -> list[Argument]:
        bound = arguments(node)
        found: list[Argument] = []
        for name in names:
            value = bound[name]
            found.extend(value if isinstance(value, (list, tuple)) else [value])
        return found

    return operands


def first(node: fx.Node) -> list[Argument]:
    """The first argument of a call, as a list of one operand."""
    return [next(iter(arguments(node).values()))]


def others(node: fx.Node, operands: int = 1) -> dict[str, Any]:
    """All arguments after the first ``operands`` ones, by name."""
    return dict(list(arguments(node).items())[operands:])


@dataclass(frozen=True)
class always:  # noqa: N801 it is used like a function
    """A default rule that does not depend on the node: ``default=always(Pass())``."""

    rule: Rule

    def __call__(self, node: fx.Node, facts: Facts) -> Rule:
        """The rule."""
        return self.rule
