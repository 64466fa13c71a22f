"""Final probabilities are explained at their logits.

Between a final softmax or sigmoid and the model's result, probabilities may be moved, joined, and
mapped one by one by monotone functions: logarithms, odds, complements, clamps for numerical safety.
The logits, moved in the same way, are explained instead, so that targets index them as they index
the result. They are negated where the result decreases with them. Where the normalizer of a softmax
cancels, as in ``log p₁ − log p₀``, a difference of logits is explained. Any other result is
explained itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from lrp_fx.graph import (
    Shapes,
    affine,
    arguments,
    aten,
    call_like,
    ends_of_clip,
    equal_calls,
    literal,
    name_of,
    names_where,
    operand,
)
from lrp_fx.meaning import is_sum_of
from lrp_fx.plan.monotone import (
    MONOTONE,
    NEARLY_ZERO,
    OfProbability,
    are_of_one_sum,
    quotient,
    same_probabilities,
    scaled,
    through,
)
from lrp_fx.plan.plan import Squashing
from lrp_fx.relevance import ROUTING

_SOFTMAXES = names_where(lambda row: row.normalizes)
_LOGARITHMS = names_where(lambda row: row.high == 0)
_FINAL = _SOFTMAXES | {"sigmoid", "log_sigmoid"}
_SPLITS = names_where(lambda row: row.results == "pieces")
_MOVES = (frozenset(ROUTING) - {"pad", "im2col", "unfold"}) | _SPLITS | {"getitem"}
_SELECTIONS = frozenset(["select", "slice", "narrow", "index_select"])
_JOINS = frozenset(["cat", "stack"])
_MASKS = names_where(lambda row: row.choice == "mask")
_CLAMPS = names_where(lambda row: row.clips and row.rest is None)
_KEY = "logits_of"


@dataclass(frozen=True)
class ExplainedOutput:
    """What is explained of a model's result.

    Args:
        node: the node whose value is explained.
        note: a description of it, for the reader of the plan.
        squashing: the function that makes probabilities of it. A result that is explained itself
            counts as the logits of a softmax.
    """

    node: fx.Node
    note: str
    squashing: Squashing = "softmax"


def explained_output(result: fx.Node) -> ExplainedOutput:
    """What to explain for a model's result.

    For final probabilities the node holds their logits, in the shape of the result. New nodes that
    this needs are added to the graph, only once.
    """
    found = _Reader(result).found
    final = found.get(result)
    if final is None or not final.is_probability:
        return ExplainedOutput(result, f"explained: {result.name}")
    made = {node.meta[_KEY]: node for node in result.graph.nodes if _KEY in node.meta}
    explained = _logits(final, found, made)
    names = ", ".join(final.last)
    if _is_final(result):
        note = f"the input of the model's last operation ({names})"
    else:
        sign = ", negated," if _falls(result, found) else ""
        note = f"the logits{sign} before the model's last operations ({names})"
    of_softmax = any(name_of(node) in _SOFTMAXES for node in found if _is_final(node))
    return ExplainedOutput(
        explained, f"explained: {explained.name}, {note}", "softmax" if of_softmax else "sigmoid"
    )


def _falls(node: fx.Node, found: dict[fx.Node, OfProbability]) -> bool:
    """Whether all entries of a value decrease where their logits increase."""
    final = found[node]
    if name_of(final.of) not in _JOINS:
        return final.falls
    return all(_falls(part, found) != final.falls for part in _operands(final.of))


def _is_final(node: object) -> bool:
    """Whether a value is a softmax, a sigmoid, or the logarithm of one."""
    return isinstance(node, fx.Node) and node.op == "call_function" and name_of(node) in _FINAL


def _operands(node: fx.Node) -> list[fx.Node]:
    """The values that a node moves, joins or maps entrywise; empty for any other node."""
    if node.op != "call_function" or not node.args or _is_final(node):
        return []
    name = name_of(node)
    if name in _JOINS:
        tensors = arguments(node)["tensors"]
        return [tensor for tensor in tensors if isinstance(tensor, fx.Node)]
    form = affine(node)
    if form is not None:
        return [form.operand]
    if name in ("add", "sub", "mul", "div"):
        bound = arguments(node)
        return [v for v in (bound["self"], bound["other"]) if isinstance(v, fx.Node)]
    if name in _MASKS:
        chosen = arguments(node)[_chosen(node)[0]]
        return [chosen] if isinstance(chosen, fx.Node) else []
    if name in _MOVES or name in _CLAMPS or name in MONOTONE:
        return [node.args[0]] if isinstance(node.args[0], fx.Node) else []
    return []


class _Reader:
    """Finds which values between the final probabilities and the result are functions of them."""

    def __init__(self, result: fx.Node) -> None:
        self.found: dict[fx.Node, OfProbability] = {}
        self._first = equal_calls(result.graph)
        module = result.graph.owning_module
        assert module is not None
        self._shapes = Shapes(module)
        read: set[fx.Node] = set()
        waiting = [result]
        while waiting:
            below = _operands(waiting[-1])
            if missing := [n for n in below if n not in read]:
                waiting.extend(missing)
                continue
            node = waiting.pop()
            final = self._final(node, below)
            if final is not None:
                self.found[node] = final
            read.add(node)

    def _final(self, node: fx.Node, below: list[fx.Node]) -> OfProbability | None:
        name = name_of(node)
        if _is_final(node):
            return self._of_logits(node)
        if name == "div" and len(below) == 2 and (share := self._share(node, *below)) is not None:
            return share
        known = [self.found[n] for n in below if n in self.found]
        if not known or len(known) < len(below):
            return None
        first = known[0]
        if name in _JOINS:
            if not all(final.is_probability for final in known):
                return None
            low, high = sorted((first.at_zero, first.at_one))
            return OfProbability(node, (node,), low, high, (name, *first.last))
        first = replace(first, last=(name, *first.last))
        form = affine(node)
        if form is not None:
            return scaled(first, form.scale, form.shift)
        if len(known) == 2:
            return self._of_two(node, *known)
        if name in _MASKS:
            return _masked(node, first)
        if name in _CLAMPS:
            return first if _is_for_safety(node, first) else None
        if name in MONOTONE:
            return through(name, node, first)
        return replace(first, of=node, way=(*first.way, *self._step(node)))

    def _of_logits(self, node: fx.Node) -> OfProbability:
        """A softmax or sigmoid, also of another softmax or sigmoid."""
        at_zero, names = -math.inf if name_of(node) in _LOGARITHMS else 0.0, [name_of(node)]
        at_one = 0.0 if name_of(node) in _LOGARITHMS else 1.0
        outer = node
        while _is_final(node.args[0]):
            node = operand(node)
            names.append(name_of(node))
        logits = self._first[operand(node)]
        if outer is not node:
            return OfProbability(node, (node, str(outer.target)), at_zero, at_one, tuple(names))
        if name_of(node) in _SOFTMAXES:
            softmax = (logits, self._from_the_first(node, arguments(node)["dim"]))
            is_log = name_of(node) in _LOGARITHMS
            return OfProbability(node, softmax, at_zero, at_one, tuple(names), softmax, 1.0, is_log)
        form = affine(logits)
        opposite = self._with_opposite_weights(logits)
        if form is not None and (form.scale, form.shift) == (-1, 0):
            opposite = self._first[form.operand]
        if opposite is not None:  # the complement of sigmoid(z): both are functions of one logit
            return OfProbability(node, (opposite, "negated"), at_zero, at_one, tuple(names))
        return OfProbability(node, (logits,), at_zero, at_one, tuple(names))

    def _with_opposite_weights(self, logits: fx.Node) -> fx.Node | None:
        """The first call of a layer, if these are the logits of another call, negated by folding."""
        if name_of(logits) != "linear":
            return None
        b = arguments(logits)
        parts = [affine(b["weight"]), None if b["bias"] is None else affine(b["bias"])]
        if any(
            part is None and given is not None
            for part, given in zip(parts, self._parameters(b), strict=True)
        ):
            return None
        if any(part is not None and (part.scale, part.shift) != (-1, 0) for part in parts):
            return None
        wanted = [None if part is None else self._first[part.operand] for part in parts]
        for node in logits.graph.nodes:
            if node is logits:
                return None
            if name_of(node) == "linear":
                other = arguments(node)
                same = self._first[other["input"]] is self._first[b["input"]]
                if same and self._parameters(other) == wanted:
                    return self._first[node]
        return None

    def _parameters(self, bound: dict[str, Any]) -> list[fx.Node | None]:
        return [
            None if bound[name] is None else self._first[bound[name]] for name in ("weight", "bias")
        ]

    def _step(self, node: fx.Node) -> tuple[Any, ...]:
        """A key for how a node moves its operand: its name, its dimension and its other arguments."""
        if name_of(node) in _SPLITS:  # the getitem nodes say which part it is
            return ()
        split = node.args[0] if name_of(node) == "getitem" else node
        assert isinstance(split, fx.Node)
        rest = fx.map_arg((split.args[1:], split.kwargs, node.args[1:]), lambda n: self._first[n])
        is_part = name_of(split) in _SPLITS or name_of(split) in _SELECTIONS
        dim = self._from_the_first(split.args[0], arguments(split)["dim"]) if is_part else None
        return ((name_of(split), dim, str(rest)),)

    def _from_the_first(self, value: Any, dim: Any) -> Any:
        """A dimension counted from the front, if the shape of the value is known."""
        if not isinstance(dim, int) or dim >= 0:
            return dim
        known = self._shapes(value)
        return dim if known is None else dim % known.dim()

    def _share(self, node: fx.Node, value: fx.Node, divisor: fx.Node) -> OfProbability | None:
        """Probabilities divided by their sum: those of a softmax over the selected entries."""
        final = self.found.get(value)
        if final is None or not final.softmax or final.is_log or not is_sum_of(divisor, value):
            return None
        if final.factor <= 0:
            return None
        way = (*final.way, "share", self._first[divisor])
        last = ("div", *final.last)
        return replace(final, way=way, softmax=way, at_one=1.0, factor=1.0, last=last)

    def _of_two(self, node: fx.Node, a: OfProbability, b: OfProbability) -> OfProbability | None:
        """The sum, difference, product or quotient of functions of one probability or of two logits."""
        name, alpha = name_of(node), literal(arguments(node).get("alpha", 1))
        if alpha is None or arguments(node).get("rounding_mode") is not None:
            return None
        last = (name, *dict.fromkeys((*a.last, *b.last)))
        if name in ("add", "sub"):
            b, name = scaled(b, alpha if name == "add" else -alpha, 0) or b, "add"
        sign = same_probabilities(a.way, b.way)
        if not sign:
            return self._difference(node, name, a, b, last)
        ends = (b.at_zero, b.at_one) if sign > 0 else (b.at_one, b.at_zero)
        grows = (a.at_one > a.at_zero, ends[1] > ends[0])
        if grows[0] == (grows[1] if name != "div" else not grows[1]):
            if name != "add" and not (a.is_positive and b.is_positive):
                return None
            function = {"add": lambda x, y: x + y, "mul": lambda x, y: x * y, "div": quotient}[name]
            at_zero, at_one = function(a.at_zero, ends[0]), function(a.at_one, ends[1])
            if not (math.isnan(at_zero) or math.isnan(at_one)):
                return OfProbability(a.of, a.way, at_zero, at_one, last)
        return self._difference(node, name, a, b, last)

    def _difference(
        self, node: fx.Node, name: str, a: OfProbability, b: OfProbability, last: tuple[str, ...]
    ) -> OfProbability | None:
        """``log p₁ − log p₀`` or ``p₁ / p₀``, which increase with the difference of their logits."""
        cancels = a.is_log and a.factor + b.factor == 0 if name == "add" else name == "div"
        if not a.factor or not b.factor or a.is_log != b.is_log or not cancels:
            return None
        if name == "div" and (a.is_log or a.factor * b.factor < 0):
            return None
        if not a.softmax or a.softmax != b.softmax or not are_of_one_sum(a, b):
            return None
        ends = (-math.inf, math.inf) if name == "add" else (0.0, math.inf)
        if a.factor < 0 and name == "add":
            ends = ends[::-1]
        return OfProbability(node, (node,), *ends, last)


def _masked(node: fx.Node, value: OfProbability) -> OfProbability | None:
    """Probabilities some of which are replaced by a number."""
    if literal(arguments(node)[_chosen(node)[1]]) is None:
        return None
    return replace(value, of=node, way=(node,))


def _is_for_safety(node: fx.Node, value: OfProbability) -> bool:
    """Whether a clamp cuts off almost nothing of the range. Any clamp of a logarithm counts."""
    if math.isinf(value.width):
        return True
    nearly = NEARLY_ZERO * value.width
    low, high = map(literal, ends_of_clip(node))
    below = -math.inf if low is None else low
    above = math.inf if high is None else high
    return below <= value.low + nearly and above >= value.low + value.width - nearly


Wanted = tuple[fx.Node, bool]
"""Probabilities whose logits are wanted, and whether negated."""


def _logits(
    final: OfProbability, found: dict[fx.Node, OfProbability], made: dict[Wanted, fx.Node]
) -> fx.Node:
    """The node of the logits, moved like the result and negated where the result decreases."""
    waiting = [(final.of, final.falls)]
    while waiting:
        node, negated = waiting[-1]
        if (node, negated) in made:
            waiting.pop()
            continue
        below = _needed(node, negated, found)
        if missing := [each for each in below if each not in made]:
            waiting.extend(missing)
            continue
        waiting.pop()
        made[node, negated] = _moved(node, negated, [made[each] for each in below])
    return made[final.of, final.falls]


def _needed(node: fx.Node, negated: bool, found: dict[fx.Node, OfProbability]) -> list[Wanted]:
    """The values whose logits are needed first, and whether negated."""
    if _is_final(node):
        return []
    parts = [(found[operand], negated) for operand in _operands(node)]
    if _is_difference(node):
        return [(final.of, False) for final, _ in parts]
    if name_of(node) in _JOINS:
        return [(final.of, final.falls != sign) for final, sign in parts]
    return [(final.of, sign) for final, sign in parts]


def _is_difference(node: fx.Node) -> bool:
    return name_of(node) in ("add", "sub", "div")


def _moved(node: fx.Node, negated: bool, below: list[fx.Node]) -> fx.Node:
    """Apply a node that moves probabilities to their logits instead."""
    graph = node.graph
    if _is_final(node):
        logits = node.args[0]
        assert isinstance(logits, fx.Node)
        if not negated:
            return logits
        with graph.inserting_after(node):
            moved = call_like(graph, node, aten.neg, logits)
    elif _is_difference(node):
        with graph.inserting_after(node):
            moved = call_like(graph, node, aten.sub, *(below[::-1] if negated else below))
    else:
        substitutes = dict(zip(_operands(node), below, strict=True))
        with graph.inserting_after(node):
            moved = graph.node_copy(node, lambda n: substitutes.get(n, n))
        if name_of(node) in _MASKS:
            moved.args = tuple({**arguments(moved), _chosen(node)[1]: 0.0}.values())
            moved.kwargs = {}
    moved.name = f"{node.name}_logits" if not negated else f"{node.name}_negative_logits"
    moved.meta = {**node.meta, _KEY: (node, negated)}
    return moved


def _chosen(node: fx.Node) -> tuple[str, str]:
    """The argument names of a masking operation: the probabilities, and what replaces some of them."""
    if name_of(node) == "masked_fill":
        return "self", "value"
    is_second = literal(arguments(node)["self"]) is not None
    return ("other", "self") if is_second else ("self", "other")
