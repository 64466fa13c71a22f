"""Rewrite: a canonical graph and a plan become the LRP graph.

The LRP graph is a plain ``fx.GraphModule``: the forward nodes, the start of the propagation, then one
relevance node for each forward node in reverse. Generated code drops every value after its last use,
so an activation is freed when its last relevance node has run.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn

from lrp_fx.capture import Captured
from lrp_fx.errors import CompositeError
from lrp_fx.graph import PRODUCT, ancestors, aten, name_of, needed_by, product, remove_unused
from lrp_fx.meaning import AFFINE
from lrp_fx.optimize import NOTHING, Draft, Optimizations, stand_ins
from lrp_fx.optimize import optimize as run_passes
from lrp_fx.plan import Plan, Step
from lrp_fx.relevance import (
    BiasPolicy,
    BoundRelevance,
    BypassRelevance,
    Engine,
    Facts,
    HookRelevance,
    KeepRelevance,
    RelevanceNode,
    Start,
    StartRelevance,
    TopKFilter,
    looked_up,
)
from lrp_fx.rewrite.assemble import assembled
from lrp_fx.rewrite.constants import ConstantGraph
from lrp_fx.rewrite.lrp_graph import LRPGraph
from lrp_fx.rules import FULL, MINUS, ONES, PLUS, SQUARE, Part, Rule, part_of

Memory = Literal["keep", "recompute"]

MEMORIES: tuple[Memory, ...] = ("keep", "recompute")

CONSTANTS, RELEVANCE = "constants", "relevance"


def rewrite(
    captured: Captured,
    plan: Plan,
    *,
    start: Start,
    bias: BiasPolicy,
    engine: Engine,
    audited: bool = False,
    optimize: Optimizations = NOTHING,
    memory: Memory = "keep",
    precision: torch.dtype | None = None,
) -> LRPGraph:
    """Write the LRP graph of a plan.

    Args:
        captured: the canonical graph.
        plan: the rules.
        start: what the propagation starts with.
        bias: the bias policy.
        engine: who computes adjoints.
        audited: also run the nodes that keep all relevance, for the ledger.
        optimize: what is optimized.
        memory: keep the activations, or compute most of them again.
        precision: the dtype of the relevance pass, None for that of the activations.
    """
    found: dict[fx.Node, fx.Node] = {}
    if optimize.stand_ins:
        found = stand_ins(plan, start, bias)
    keeps = memory == "keep"
    writer = _Writer(captured, plan, bias, engine, audited, found, precision, keeps)
    draft, constants = writer.write(start)
    run_passes(draft, {*optimize.passes, *([] if keeps else ["recompute"])})
    return assembled(captured, draft, constants)


_WORDS = {PLUS: "plus", MINUS: "minus", SQUARE: "square", ONES: "ones"}
"""How parts of weights are called."""

_OF_VALUES = (StartRelevance, BoundRelevance)
"""Relevance nodes that only read forward values, in whose dtype they work."""


@dataclass
class _Site:
    """The pen that a relevance kind gets for one node (see ``lrp_fx.relevance.Site``)."""

    writer: _Writer
    node: fx.Node
    rule: Rule
    receivers: tuple[fx.Node, ...]
    relevance: fx.Node
    parts: dict[int, fx.Node]
    facts: Facts
    engine: Engine
    bias: BiasPolicy

    def receives(self, operand: Any) -> bool:
        return isinstance(operand, fx.Node) and operand in self.receivers

    def value(self, argument: Any) -> Any:
        return fx.map_arg(argument, self.writer.forward)

    def shape(self, node: fx.Node) -> fx.Node:
        return self.writer.shape(node)

    def modified(self, weight: fx.Node, part: Part) -> fx.Node:
        return self.writer.modified(weight, part)

    def item(self, node: fx.Node, index: int) -> fx.Node:
        return self.writer.item(node, index)

    def bound(self, node: fx.Node, low: Any, high: Any) -> tuple[fx.Node, fx.Node]:
        return self.writer.bounds(node, low, high, self.node)

    def call(
        self, module: nn.Module, *args: Any, suffix: str = "relevance", **kwargs: Any
    ) -> fx.Node:
        name = self.node.name
        attribute = name if suffix == "relevance" else f"{name}_{suffix}"
        return self.writer.call(module, attribute, f"{name}_{suffix}", args, kwargs, self.node)

    def output(self) -> fx.Node:
        return self.writer.forward(self.writer.stand_ins.get(self.node, self.node))

    def output_is_nonnegative(self) -> bool:
        return self.node in self.writer.stand_ins or self.facts.is_nonnegative(self.node)

    def parts_of(self, node: fx.Node, count: int) -> list[fx.Node]:
        return [
            self.writer.graph.create_node(
                "call_function", operator.getitem, (node, i), name=f"{node.name}_{i}"
            )
            for i in range(count)
        ]


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, longer if the model has a parameter or a module of that name."""
    while any(path.partition(".")[0] == name for path in taken):
        name += "_"
    return name


class _Writer:
    def __init__(
        self,
        captured: Captured,
        plan: Plan,
        bias: BiasPolicy,
        engine: Engine,
        audited: bool,
        stand_ins: dict[fx.Node, fx.Node],
        precision: torch.dtype | None,
        keeps: bool,
    ) -> None:
        self.captured, self.plan = captured, plan
        self.precision, self.stand_ins, self.keeps = precision, stand_ins, keeps
        self.bias, self.engine, self.audited = bias, engine, audited
        self.kept: list[fx.Node] = []
        self.channels: dict[fx.Node, fx.Node] = {}
        self.below = {node: ancestors(node) for node in plan.masks if plan.through}
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module] = {}
        self.values: dict[fx.Node, fx.Node] = {}
        self.shapes: dict[fx.Node, fx.Node] = {}
        self.parts: dict[tuple[fx.Node, Part], fx.Node] = {}
        self.bound_nodes: dict[tuple[fx.Node, int, int], tuple[fx.Node, fx.Node]] = {}
        self.start: fx.Node
        taken = {str(n.target) for n in captured.module.graph.nodes if n.op == "get_attr"}
        self.constants = ConstantGraph(captured.module.graph, _free(CONSTANTS, taken))
        self.relevance_path = _free(RELEVANCE, taken)

    def write(self, start: Start) -> tuple[Draft, ConstantGraph]:
        """The whole graph, and what it reads of parameters."""
        for node in self.captured.placeholders():
            self.values[node] = self.graph.placeholder(node.name)
        target = self.graph.placeholder("target", default_value=None)
        for i, node in enumerate(self.plan.masks):
            self.channels[node] = self.graph.placeholder(f"channels_{i}", default_value=None)
        for node in self._needed():
            copy = self.graph.node_copy(node, self.forward)
            copy.meta = dict(node.meta)
            if copy.target is PRODUCT:  # a file of the graph must not need the library
                copy.target = product
            self.values[node] = copy
        output = self.values[self.plan.explained]
        self.start = self.call(
            StartRelevance(start), "start", "start", (output, target), {}, self.plan.explained
        )
        results = self._relevance_nodes()
        self.graph.output((tuple(results), output, self.start, *self.kept))
        remove_unused(self.graph)
        self.constants.keep({str(n.target) for n in self.graph.find_nodes(op="get_attr")})
        draft = Draft(self.graph, self.modules, self.start, target, self.constants.graph)
        return draft, self.constants

    def _needed(self) -> list[fx.Node]:
        """The nodes that depend on inputs and on which the explained output depends, in order."""
        wanted = (self.plan.explained, *self.plan.sources)
        constant = self.plan.facts.constant
        return [
            node
            for node in needed_by(self.captured.module.graph, wanted)
            if node.op == "call_function" and node not in constant
        ]

    # what the sites ask for

    def forward(self, node: fx.Node) -> fx.Node:
        """The node of the LRP graph that holds a node's forward value."""
        if node not in self.values:
            assert node in self.plan.facts.constant, node
            self.values[node] = self._read(self.constants.path_of(node), node.name)
        return self.values[node]

    def modified(self, weight: fx.Node, part: Part) -> fx.Node:
        """A part of a weight, such as W⁺."""
        if part == FULL:
            return self.forward(weight)
        key = (weight, part)
        if key not in self.parts:
            name = f"{weight.name}_{_WORDS.get(part, 'part')}"
            if self.keeps and weight in self.plan.facts.constant:
                self.parts[key] = self._read(self.constants.path_of_part(weight, part, name), name)
            else:
                form = (part.positive, part.negative, part.power)
                self.parts[key] = self.graph.create_node(
                    "call_function", part_of, (self.forward(weight), *form), name=name
                )
        return self.parts[key]

    def _read(self, path: str, name: str) -> fx.Node:
        with self.graph.inserting_before(self._first_call()):
            return self.graph.create_node("get_attr", path, name=name)

    def _first_call(self) -> fx.Node | None:
        return next((n for n in self.graph.nodes if n.op not in ("placeholder", "get_attr")), None)

    def shape(self, node: fx.Node) -> fx.Node:
        """The shape of a node's forward value."""
        if node not in self.shapes:
            value = self.forward(node)
            with self.graph.inserting_after(self._after_placeholders(value)):
                self.shapes[node] = self.graph.create_node(
                    "call_function", getattr, (value, "shape"), name=f"{value.name}_shape"
                )
        return self.shapes[node]

    def _after_placeholders(self, value: fx.Node) -> fx.Node:
        """A call may not come before the last placeholder."""
        if value.op not in ("placeholder", "get_attr"):
            return value
        leading: list[fx.Node] = [
            n for n in self.graph.nodes if n.op in ("placeholder", "get_attr")
        ]
        return leading[-1]

    def item(self, node: fx.Node, index: int) -> fx.Node:
        """One of the several forward values of a node."""
        value = self.forward(node)
        for user in value.users:
            if user.target is operator.getitem and user.args[1] == index:
                return user
        with self.graph.inserting_after(value):
            name = f"{value.name}_{index}"
            return self.graph.create_node(
                "call_function", operator.getitem, (value, index), name=name
            )

    def bounds(self, node: fx.Node, low: Any, high: Any, site: fx.Node) -> tuple[fx.Node, fx.Node]:
        """The input's bounds at ``node``, by the operations that lie between the input and it."""
        key = (node, id(low), id(high))
        if key in self.bound_nodes:
            return self.bound_nodes[key]
        if not self.plan.facts.is_preprocessing(node):
            raise CompositeError(
                f"ZBox is for first layers: the input of '{site.name}' is not the model's input, nor "
                "its padded, normalized or re-arranged form"
            )
        if looked_up(node, self.plan.facts.is_dynamic):
            raise CompositeError(
                f"ZBox is for first layers: the input of '{site.name}' is looked up in a table, and has "
                "not the bounds of the model's input"
            )
        if node.op == "placeholder":
            count = sum(known is node for known, *_ in self.bound_nodes)
            suffix = f"_{count}" if count else ""
            pair = tuple(
                self.call(
                    BoundRelevance(bound),
                    f"{node.name}_{name}{suffix}",
                    f"{node.name}_{name}{suffix}",
                    (self.forward(node),),
                    {},
                    node,
                )
                for name, bound in (("low", low), ("high", high))
            )
        else:
            below = {
                source: self.bounds(source, low, high, site)
                for source in node.all_input_nodes
                if self.plan.facts.is_dynamic(source)
            }
            pair = tuple(self._copy_on(node, {n: b[i] for n, b in below.items()}) for i in (0, 1))
            if name_of(node) in AFFINE:  # a negative factor swaps the bounds
                pair = (
                    self.graph.call_function(aten.minimum, pair),
                    self.graph.call_function(aten.maximum, pair),
                )
        self.bound_nodes[key] = (pair[0], pair[1])
        return self.bound_nodes[key]

    def _copy_on(self, node: fx.Node, values: dict[fx.Node, fx.Node]) -> fx.Node:
        """The same operation once more, with other values in the places of some operands."""
        return self.graph.node_copy(node, lambda n: values.get(n) or self.forward(n))

    def call(
        self, module: nn.Module, attribute: str, name: str, args: Any, kwargs: Any, origin: fx.Node
    ) -> fx.Node:
        """A call of a relevance node, kept under ``relevance.<attribute>``."""
        target = f"{self.relevance_path}.{attribute}"
        assert target not in self.modules, target
        if isinstance(module, RelevanceNode) and not isinstance(module, _OF_VALUES):
            module.precision = self.precision
        self.modules[target] = module
        node = self.graph.create_node("call_module", target, args, kwargs, name=name)
        node.meta = {**origin.meta, "origin": origin.name}
        return node

    # the relevance pass

    def _relevance_nodes(self) -> list[fx.Node]:
        """Write them all; the relevance of each source."""
        arrived: dict[fx.Node, list[fx.Node]] = {self.plan.explained: [self.start]}
        parts: dict[fx.Node, dict[int, fx.Node]] = {}
        found: dict[fx.Node, fx.Node] = {}
        for step in self.plan.steps:
            relevance = self._sum(step.node, arrived, found)
            if step.operation is None:
                (parent,) = step.receivers
                index = step.node.args[1]
                assert isinstance(index, int) and relevance is not None
                relevance = self._not_around(step.node, parent, relevance)
                known = parts.setdefault(parent, {})
                if index in known:  # the same part was taken out twice
                    relevance = self.graph.call_function(aten.add, (known[index], relevance))
                known[index] = relevance
                continue
            self._step(step, relevance, parts.get(step.node, {}), arrived)
        return [self._result(source, arrived, found) for source in self.plan.sources]

    def _result(
        self,
        source: fx.Node,
        arrived: dict[fx.Node, list[fx.Node]],
        found: dict[fx.Node, fx.Node],
    ) -> fx.Node:
        """The relevance of a source, zero where none arrived."""
        relevance = self._sum(source, arrived, found)
        if relevance is not None:
            return self._not_beside(source, relevance)
        return self.graph.call_function(aten.zeros_like, (self.forward(source),))

    def _sum(
        self,
        node: fx.Node,
        arrived: dict[fx.Node, list[fx.Node]],
        found: dict[fx.Node, fx.Node],
    ) -> fx.Node | None:
        """All the relevance that arrived at a node."""
        if node not in found and node in arrived:
            total, *rest = arrived[node]
            for more in rest:
                name = f"{node.name}_relevance_sum"
                total = self.graph.create_node("call_function", aten.add, (total, more), name=name)
            found[node] = total
        return found.get(node)

    def _step(
        self,
        step: Step,
        relevance: fx.Node | None,
        parts: dict[int, fx.Node],
        arrived: dict[fx.Node, list[fx.Node]],
    ) -> None:
        assert step.operation is not None and step.rule is not None
        name = step.node.name
        parts = {i: self._hooked(step, part, f"{name}_{i}") for i, part in parts.items()}
        if relevance is None:
            relevance = parts[min(parts)]
        else:
            relevance = self._hooked(step, relevance, name)
        if not step.receivers:
            if self.audited:
                keep = f"{name}_kept"
                self.kept.append(
                    self.call(KeepRelevance(), keep, keep, (relevance,), {}, step.node)
                )
            return
        site = _Site(
            self,
            step.node,
            step.rule,
            step.receivers,
            relevance,
            parts,
            self.plan.facts,
            self.engine,
            self.bias,
        )
        for operand, contributions in step.operation.write(site).items():
            if operand in step.receivers:
                arrived.setdefault(operand, []).extend(
                    self._not_around(step.node, operand, each) for each in contributions
                )

    def _not_around(self, upper: fx.Node, lower: fx.Node, relevance: fx.Node) -> fx.Node:
        """The relevance that goes from a node to its operand, but for that round a masked node."""
        for masked, below in self.below.items():
            if upper not in below and lower in below and lower is not masked:
                relevance = self._bypass(masked, relevance)
        return relevance

    def _not_beside(self, source: fx.Node, relevance: fx.Node) -> fx.Node:
        """The relevance of a source, but for one on another way than a masked node."""
        for masked, below in self.below.items():
            if source not in below and masked not in ancestors(source):
                relevance = self._bypass(masked, relevance)
        return relevance

    def _bypass(self, masked: fx.Node, relevance: fx.Node) -> fx.Node:
        count = sum(isinstance(module, BypassRelevance) for module in self.modules.values())
        name = f"{masked.name}_bypass_{count}"
        inputs = (relevance, self.channels[masked])
        return self.call(BypassRelevance(), name, name, inputs, {}, masked)

    def _hooked(self, step: Step, relevance: fx.Node, name: str) -> fx.Node:
        """The relevance behind the filter, the hooks and the mask of a step."""
        if step.top_k is not None:
            filtered = f"{name}_filter"
            module = TopKFilter(step.top_k)
            inputs = (relevance, self.shape(self.captured.placeholders()[0]))
            relevance = self.call(module, filtered, filtered, inputs, {}, step.node)
        for i, hook in enumerate(step.hooks):
            hooked = f"{name}_hook_{i}"
            relevance = self.call(
                HookRelevance(hook.function, step), hooked, hooked, (relevance,), {}, step.node
            )
        if step.node in self.plan.masks:
            masked = f"{name}_mask"
            inputs = (relevance, self.channels[step.node])
            mask = self.plan.masks[step.node]
            relevance = self.call(mask, masked, masked, inputs, {}, step.node)
        return relevance
