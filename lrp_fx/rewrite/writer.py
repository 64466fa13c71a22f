"""Writes the LRP graph from a canonical graph and a plan.

The LRP graph is a plain ``fx.GraphModule``: the forward nodes, the start of the propagation, then
relevance nodes for the forward nodes in reverse order. The generated code drops every value after
its last use, so an activation is freed when its last relevance node has run.
"""

from __future__ import annotations

from torch import fx

from lrp_fx.capture import Captured
from lrp_fx.graph import PRODUCT, aten, needed_by, product, remove_unused
from lrp_fx.optimize import (
    NOTHING,
    Draft,
    Optimizations,
    Rectified,
    find_rectified,
    optimize as run_passes,
)
from lrp_fx.plan import Plan, Step
from lrp_fx.relevance import (
    BiasPolicy,
    Engine,
    HookRelevance,
    KeepRelevance,
    Start,
    StartRelevance,
    TopKFilter,
)
from lrp_fx.rewrite.assemble import assemble
from lrp_fx.rewrite.bounds import Bounds
from lrp_fx.rewrite.bypass import Bypass
from lrp_fx.rewrite.lrp_graph import LRPGraph
from lrp_fx.rewrite.nodes import NodeWriter
from lrp_fx.rewrite.site import WrittenSite


def rewrite(
    captured: Captured,
    plan: Plan,
    *,
    start: Start,
    bias: BiasPolicy,
    engine: Engine,
    audited: bool = False,
    optimize: Optimizations = NOTHING,
) -> LRPGraph:
    """Write the LRP graph of a plan.

    Args:
        captured: the canonical graph.
        plan: the rules.
        start: what the propagation starts with.
        bias: the bias policy.
        engine: how adjoints are computed.
        audited: also write the nodes at which all relevance stays, for the ledger.
        optimize: the optimizations that are on.
    """
    rectified = (
        find_rectified(plan, start, bias) if optimize.stand_ins else Rectified({}, frozenset())
    )
    nodes = NodeWriter(captured, plan.facts, optimize.precision, keeps=not optimize.recompute)
    draft = _Writer(captured, plan, nodes, bias, engine, audited, rectified).write(start)
    run_passes(draft, optimize.passes)
    return assemble(captured, draft, nodes.constants)


class _Writer:
    """Writes the forward nodes, the start and the relevance nodes of one LRP graph."""

    def __init__(
        self,
        captured: Captured,
        plan: Plan,
        nodes: NodeWriter,
        bias: BiasPolicy,
        engine: Engine,
        audited: bool,
        rectified: Rectified,
    ) -> None:
        self.captured, self.plan, self.nodes, self.graph = captured, plan, nodes, nodes.graph
        self.bias, self.engine, self.audited, self.rectified = bias, engine, audited, rectified
        self.bounds = Bounds(nodes)
        self.kept: list[fx.Node] = []
        self.channels: dict[fx.Node, fx.Node] = {}
        self.bypass = Bypass(nodes, plan.masks if plan.through else (), self.channels)
        self.start: fx.Node

    def write(self, start: Start) -> Draft:
        """Write the whole graph."""
        for node in self.captured.placeholders():
            self.nodes.values[node] = self.graph.placeholder(node.name)
        target = self.graph.placeholder("target", default_value=None)
        for i, node in enumerate(self.plan.masks):
            self.channels[node] = self.graph.placeholder(f"channels_{i}", default_value=None)
        for node in self._needed():
            copy = self.graph.node_copy(node, self.nodes.forward)
            copy.meta = dict(node.meta)
            if copy.target is PRODUCT:  # a saved graph must not need this library
                copy.target = product
            self.nodes.values[node] = copy
        output = self.nodes.values[self.plan.explained]
        self.start = self.nodes.call(
            StartRelevance(start), "start", "start", (output, target), {}, self.plan.explained
        )
        results = self._relevance_nodes()
        self.graph.output((tuple(results), output, self.start, *self.kept))
        remove_unused(self.graph)
        constants = self.nodes.constants
        constants.keep({str(n.target) for n in self.graph.find_nodes(op="get_attr")})
        return Draft(self.graph, self.nodes.modules, self.start, target, constants.graph)

    def _needed(self) -> list[fx.Node]:
        """The dynamic nodes that the explained output or a source depends on, in order."""
        wanted = (self.plan.explained, *self.plan.sources)
        constant = self.plan.facts.constant
        return [
            node
            for node in needed_by(self.captured.module.graph, wanted)
            if node.op == "call_function" and node not in constant
        ]

    def _relevance_nodes(self) -> list[fx.Node]:
        """Write all relevance nodes, and return the node of the relevance of each source."""
        arrived: dict[fx.Node, list[fx.Node]] = {self.plan.explained: [self.start]}
        parts: dict[fx.Node, dict[int, fx.Node]] = {}
        found: dict[fx.Node, fx.Node] = {}
        for step in self.plan.steps:
            relevance = self._sum(step.node, arrived, found)
            if step.operation is None:
                (parent,) = step.receivers
                index = step.node.args[1]
                assert isinstance(index, int) and relevance is not None
                relevance = self.bypass.not_around(step.node, parent, relevance)
                known = parts.setdefault(parent, {})
                if index in known:  # the same part is taken out twice
                    relevance = self.graph.call_function(aten.add, (known[index], relevance))
                known[index] = relevance
                continue
            self._step(step, relevance, parts.get(step.node, {}), arrived)
        return [self._result(source, arrived, found) for source in self.plan.sources]

    def _result(
        self, source: fx.Node, arrived: dict[fx.Node, list[fx.Node]], found: dict[fx.Node, fx.Node]
    ) -> fx.Node:
        """The relevance of a source; zeros if none arrived."""
        relevance = self._sum(source, arrived, found)
        if relevance is not None:
            return self.bypass.not_beside(source, relevance)
        return self.graph.call_function(aten.zeros_like, (self.nodes.forward(source),))

    def _sum(
        self, node: fx.Node, arrived: dict[fx.Node, list[fx.Node]], found: dict[fx.Node, fx.Node]
    ) -> fx.Node | None:
        """The sum of all relevance that arrived at a node; None if none arrived."""
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
                    self.nodes.call(KeepRelevance(), keep, keep, (relevance,), {}, step.node)
                )
            return
        site = WrittenSite(
            nodes=self.nodes,
            bounds=self.bounds,
            rectified=self.rectified,
            node=step.node,
            rule=step.rule,
            receivers=step.receivers,
            relevance=relevance,
            parts=parts,
            facts=self.plan.facts,
            engine=self.engine,
            bias=self.bias,
        )
        for operand, contributions in step.operation.write(site).items():
            if operand in step.receivers:
                arrived.setdefault(operand, []).extend(
                    self.bypass.not_around(step.node, operand, each) for each in contributions
                )

    def _hooked(self, step: Step, relevance: fx.Node, name: str) -> fx.Node:
        """The relevance after the filter, the hooks and the mask of a step."""
        if step.top_k is not None:
            filtered = f"{name}_filter"
            module = TopKFilter(step.top_k)
            inputs = (relevance, self.nodes.shape(self.captured.placeholders()[0]))
            relevance = self.nodes.call(module, filtered, filtered, inputs, {}, step.node)
        for i, hook in enumerate(step.hooks):
            hooked = f"{name}_hook_{i}"
            relevance = self.nodes.call(
                HookRelevance(hook.function, step), hooked, hooked, (relevance,), {}, step.node
            )
        if step.node in self.plan.masks:
            masked = f"{name}_mask"
            inputs = (relevance, self.channels[step.node])
            mask = self.plan.masks[step.node]
            relevance = self.nodes.call(mask, masked, masked, inputs, {}, step.node)
        return relevance
