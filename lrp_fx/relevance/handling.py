"""What the library knows of an operation: its operands, its rules, how its relevance is written."""

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
    """How many factors a product of two holds on either side.

    Args:
        signals: those that get relevance; the weights of attention are among them.
        factors: all.
        values: the signals but for weights of attention.
    """

    signals: tuple[int, ...]
    factors: tuple[int, ...]
    values: tuple[int, ...]

    @property
    def is_attention(self) -> bool:
        """Whether weights of attention are among the factors."""
        return self.values != self.signals


class Facts(Protocol):
    """What the static analysis knows of the nodes of a graph."""

    def is_dynamic(self, node: object) -> bool:
        """Whether the value depends on the explained inputs."""

    def is_nonnegative(self, node: object) -> bool:
        """Whether the graph proves that no entry is negative."""

    def is_preprocessing(self, node: object) -> bool:
        """Whether only routing and constant affine operations lie between the inputs and here."""

    def counts(self, product: fx.Node) -> Counts:
        """Of a product or matrix product of two activations, how many factors each side holds."""

    def is_categorical(self, node: object) -> bool:
        """Whether the value only chooses rows of tables: it is a name, and its size means nothing."""


class Site(Protocol):
    """Where one operation's relevance is written: the node, its rule, and a pen.

    Nodes of the canonical graph go in; what :meth:`value`, :meth:`shape`, :meth:`item`,
    :meth:`bound` and :meth:`call` return are nodes of the LRP graph.
    """

    node: fx.Node
    rule: Rule
    facts: Facts
    engine: Engine
    bias: BiasPolicy
    relevance: fx.Node
    """The relevance of the output (of its first part, where an operation has several outputs)."""
    parts: dict[int, fx.Node]
    """The relevance of each part of an operation with several outputs."""

    def receives(self, operand: object) -> bool:
        """Whether the relevance of this operand is wanted."""

    def value(self, argument: Argument) -> Argument:
        """The forward value of a node, or of every node in a structure of arguments."""

    def output(self) -> fx.Node:
        """The operation's output, or another value that is the same wherever there is relevance."""

    def output_is_nonnegative(self) -> bool:
        """Whether :meth:`output` is known to have no negative entries."""

    def shape(self, node: fx.Node) -> fx.Node:
        """The shape of a node's forward value; keeps the value itself from being kept."""

    def modified(self, weight: fx.Node, part: Part) -> fx.Node:
        """A part of a weight, such as W⁺; computed once for all calls where it is a parameter's."""

    def item(self, node: fx.Node, index: int) -> fx.Node:
        """One of the several forward values of a node."""

    def bound(
        self, node: fx.Node, low: float | Tensor, high: float | Tensor
    ) -> tuple[fx.Node, fx.Node]:
        """Bounds of the model's input, carried to this node."""

    def call(
        self, module: nn.Module, *args: object, suffix: str = "relevance", **kwargs: object
    ) -> fx.Node:
        """Write a call of a relevance node; the suffix of its name says what it returns."""

    def parts_of(self, node: fx.Node, count: int) -> list[fx.Node]:
        """The results of a relevance node that returns several."""


Received = dict[fx.Node, list[fx.Node]]
"""Relevance for each operand, possibly several times for one (``x + x``)."""


@dataclass(frozen=True)
class Operation:
    """How relevance goes back through one ATen operation.

    Args:
        name: ATen's name of it.
        kind: the family, by which composites choose (``convolution``, ``dense``, ``addition`` …).
        operands: the arguments through which relevance can flow, in order.
        default: the rule where a composite says nothing, as a function of the node and the facts.
        alternatives: the rules that a composite may choose instead.
        receivers: of the operands, those that get relevance under a rule.
        write: writes the relevance nodes.
        source: formula or paper, for the documentation.
        default_label: the default in words, where it depends on the node.
        of_names: it is described for names alone, which have no size, and not for other values.
        kind_at: the family where it depends on the node.
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
    of_names: bool = False
    kind_at: Callable[[fx.Node], str] | None = None

    def family(self, node: fx.Node) -> str:
        """The family of one call."""
        return self.kind if self.kind_at is None else self.kind_at(node)

    @property
    def default_text(self) -> str:
        """The default in words."""
        if isinstance(self.default, always):
            return type(self.default.rule).__name__
        return self.default_label

    def accepts(self, rule: Rule) -> bool:
        """Whether a composite may assign this rule here."""
        return isinstance(rule, self.alternatives)


_REGISTRY: dict[str, Operation] = {}


def register(operations: Iterable[Operation]) -> None:
    """Make operations known; each name once."""
    for operation in operations:
        if operation.name in _REGISTRY:
            raise ValueError(f"operation {operation.name} is described twice")
        _REGISTRY[operation.name] = operation


def operation_of(node: fx.Node) -> Operation | None:
    """The description of a node's operation, None if nobody described it."""
    return _REGISTRY.get(name_of(node)) if node.op == "call_function" else None


def registry() -> dict[str, Operation]:
    """All described operations by name."""
    return dict(_REGISTRY)


def by_operand(site: Site, call: fx.Node, operands: Iterable[Argument]) -> Received:
    """The results of a relevance node that returns one for each operand that receives relevance."""
    receivers = [operand for operand in operands if site.receives(operand)]
    received: Received = {}
    for operand, share in zip(receivers, site.parts_of(call, len(receivers)), strict=True):
        received.setdefault(operand, []).append(share)
    return received


def argument(*names: str) -> Callable[[fx.Node], list[Argument]]:
    """Operands by ATen argument name; a list argument counts for its entries."""

    def operands(node: fx.Node) -> list[Argument]:
        bound = arguments(node)
        found: list[Argument] = []
        for name in names:
            value = bound[name]
            found.extend(value if isinstance(value, (list, tuple)) else [value])
        return found

    return operands


def first(node: fx.Node) -> list[Argument]:
    """The first argument, whatever ATen calls it."""
    return [next(iter(arguments(node).values()))]


def others(node: fx.Node, operands: int = 1) -> dict[str, Any]:
    """The arguments behind the first ``operands`` ones, by name."""
    return dict(list(arguments(node).items())[operands:])


@dataclass(frozen=True)
class always:  # noqa: N801 it reads as a word where it is used
    """The same default rule everywhere."""

    rule: Rule

    def __call__(self, node: fx.Node, facts: Facts) -> Rule:
        """The rule."""
        return self.rule
