"""The plan: which operation gets which rule, and why, before anything runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, fx

from lrp_fx._common import columns, html_table
from lrp_fx.capture import Way
from lrp_fx.composites import Matcher, Place
from lrp_fx.errors import InputError
from lrp_fx.graph import name_of
from lrp_fx.meaning import Analysis, has_attention
from lrp_fx.relevance import MaskRelevance, Operation, TopK
from lrp_fx.rules import Rule

HookFunction = Callable[[Tensor, "Step"], Tensor | None]
"""The type of a relevance hook of the user.

It gets the relevance that enters a node, and the node's step of the plan. It returns the relevance
that goes on, of the same shape, or None to change nothing.
"""


Squashing = Literal["softmax", "sigmoid"]
"""The function of the explained value, over dimension 1 or entry by entry, that gives probabilities."""


@dataclass(frozen=True)
class Hook:
    """A relevance hook: a function, and a matcher of the nodes that it applies to."""

    matcher: Matcher
    function: HookFunction


@dataclass(frozen=True)
class Step:
    """One step of the relevance, at one node.

    Args:
        node: the node of the canonical graph.
        path: the path of its module.
        operation: the description of its operation; None for a node that takes out one of several
            results.
        rule: the rule chosen for it.
        chosen_by: the line of the composite that chose the rule, or "default".
        top_k: the part of the entering relevance that the filter keeps; None for no filter.
        receivers: the operands that get relevance; none if all relevance stays at the node.
        hooks: the user's hooks on the relevance that enters the node, after the filter.
        place: what the matchers of a composite know of it; None where ``operation`` is None.
    """

    node: fx.Node
    path: str
    operation: Operation | None
    rule: Rule | None
    chosen_by: str
    top_k: TopK | None
    receivers: tuple[fx.Node, ...]
    hooks: tuple[Hook, ...] = ()
    place: Place | None = None


@dataclass(frozen=True)
class Plan:
    """All steps in the order in which relevance passes them. ``print(plan)`` shows a table.

    Args:
        steps: one for each node that relevance reaches.
        explained: the node whose value is explained.
        groups: the nodes whose relevance is wanted, one group per layer.
        notes: remarks for the reader, shown above the table.
        facts: the static analysis on which the choices are based.
        way: how the model was captured.
        masks: node → mask of its relevance, whose channels are given for each run.
        through: if a run masks a node, only relevance through that node goes on.
        squashing: what makes probabilities of the explained value.
    """

    steps: tuple[Step, ...]
    explained: fx.Node
    groups: tuple[tuple[fx.Node, ...], ...]
    notes: tuple[str, ...]
    facts: Analysis
    way: Way
    masks: Mapping[fx.Node, MaskRelevance] = field(default_factory=dict)
    through: bool = False
    squashing: Squashing = "softmax"

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        """The nodes whose relevance is wanted, of all groups."""
        return tuple(node for group in self.groups for node in group)

    @property
    def has_attention(self) -> bool:
        """Whether the model has attention of queries, keys and values."""
        return has_attention(self.explained.graph)

    def probabilities(self, output: Tensor) -> Tensor:
        """The probabilities (N, classes, …) of an output, in single precision at least.

        Raises:
            InputError: if the output has no dimension of classes.
        """
        if output.ndim < 2:
            raise InputError(f"the output {tuple(output.shape)} has no classes in dimension 1")
        values = output.float() if output.itemsize < 4 else output
        return values.sigmoid() if self.squashing == "sigmoid" else values.softmax(1)

    def reaches(self, source: fx.Node) -> bool:
        """Whether any relevance arrives at a node."""
        return source is self.explained or any(source in step.receivers for step in self.steps)

    def __str__(self) -> str:
        return "\n".join([*self.notes, columns(_HEAD, self._rows())])

    def _repr_html_(self) -> str:
        return html_table(_HEAD, self._rows(), notes=self.notes)

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                *(step.node.name, step.path, name_of(step.node), str(step.rule), step.chosen_by),
                "" if step.top_k is None else str(step.top_k),
            )
            for step in self.steps
            if step.operation is not None
        ]


_HEAD = ("node", "module", "operation", "rule", "chosen by", "top-k")


def is_part(node: fx.Node) -> bool:
    """Whether the node takes out one of several results of an operation."""
    return node.target is operator.getitem
