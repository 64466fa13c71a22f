"""Final probabilities are explained at their logits.

The way from a final softmax or sigmoid to the model's result may hold re-arrangements, casts, clamps,
logarithms, positive scales and complements. The explained value is the logits, re-arranged in the same
way, so that targets index them as they index the result, and negated below a complement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import fx

from lrp_fx.aten import arguments, aten, name_of
from lrp_fx.canonize.graphs import call_like
from lrp_fx.literals import affine, literal
from lrp_fx.relevance.adjoints import ROUTING

_PROBABILITIES = frozenset(["softmax", "_softmax", "_safe_softmax", "sigmoid"])
_LOGARITHMS = frozenset(["log_softmax", "_log_softmax", "log_sigmoid"])
_FINAL = _PROBABILITIES | _LOGARITHMS
_SPLITS = frozenset(["split", "split_with_sizes", "chunk", "unbind", "tensor_split"])
_MOVES = (frozenset(ROUTING) - {"pad", "im2col", "unfold"}) | _SPLITS | {"getitem"}
_JOINS = frozenset(["cat", "stack"])
_CLAMPS = frozenset(["clamp", "clamp_min", "clamp_max"])
_KEY = "logits_of"
_NEARLY_ZERO = 1e-2
"""A number that is added for safety, ``log(p + 1e-6)``, moves a range by less, in its own widths."""


@dataclass(frozen=True)
class _Final:
    """A value that is a function of final probabilities, and grows or falls with each logit.

    Args:
        falls: whether it falls where the logit grows.
        low: where it ends as a probability; None where it is a logarithm.
        high: likewise.
        last: the operations that make it, from its own down to that of the probabilities.
    """

    falls: bool
    low: float | None
    high: float | None
    last: tuple[str, ...]

    @property
    def is_probability(self) -> bool:
        """Whether an end is zero, as of ``2 p`` and ``1 - p`` and not of ``2 p - 1``; or a logarithm."""
        if self.low is None or self.high is None:
            return True
        return min(abs(self.low), abs(self.high)) <= _NEARLY_ZERO * (self.high - self.low)


def explained_output(result: fx.Node) -> tuple[fx.Node, str]:
    """The node to explain for a model's result, and a note: final probabilities are left out.

    The logits in the shape of the result are new nodes of its graph, made once.
    """
    found = _read(result)
    final = found.get(result)
    if final is None or not final.is_probability:
        return result, f"explained: {result.name}"
    made = {node.meta[_KEY]: node for node in result.graph.nodes if _KEY in node.meta}
    explained = _logits(result, found, made)
    names = ", ".join(final.last)
    if _is_final(result):
        note = f"the input of the model's last operation ({names})"
    else:
        sign = ", negated," if final.falls else ""
        note = f"the logits{sign} behind the model's last operations ({names})"
    return explained, f"explained: {explained.name}, {note}"


def _read(result: fx.Node) -> dict[fx.Node, _Final]:
    """What is a function of final probabilities, of the values between these and the result."""
    found: dict[fx.Node, _Final] = {}
    seen: set[fx.Node] = set()
    waiting = [result]
    while waiting:
        node = waiting[-1]
        below = _operands(node)
        if missing := [n for n in below if n not in seen]:
            waiting.extend(missing)
            seen.update(missing)
            continue
        waiting.pop()
        final = _final(node, [found.get(n) for n in below])
        if final is not None:
            found[node] = final
    return found


def _is_final(node: object) -> bool:
    """Whether a value is a softmax, a sigmoid, or the logarithm of one."""
    return isinstance(node, fx.Node) and node.op == "call_function" and name_of(node) in _FINAL


def _operands(node: fx.Node) -> list[fx.Node]:
    """The values that a node moves, joins or maps one by one; none where it does anything else."""
    if node.op != "call_function" or not node.args:
        return []
    name = name_of(node)
    if name in _JOINS:
        tensors = arguments(node)["tensors"]
        return [tensor for tensor in tensors if isinstance(tensor, fx.Node)]
    form = affine(node)
    if form is not None:
        return [form.operand]
    if name in _MOVES or name in _CLAMPS or name == "log":
        return [node.args[0]] if isinstance(node.args[0], fx.Node) else []
    return []


def _final(node: fx.Node, below: list[_Final | None]) -> _Final | None:
    name = name_of(node)
    if _is_final(node):
        end = 1.0 if name in _PROBABILITIES else None
        names = [name]
        while _is_final(node.args[0]):
            node = node.args[0]  # type: ignore[assignment]
            names.append(name_of(node))
        return _Final(False, None if end is None else 0.0, end, tuple(names))
    known = [final for final in below if final is not None]
    if not known or len(known) < len(below):
        return None
    first = known[0]
    if name in _JOINS:
        if not all(final.is_probability for final in known):
            return None
        return replace(first, falls=all(f.falls for f in known), last=(name, *first.last))
    first = replace(first, last=(name, *first.last))
    if name == "log":
        is_one = first.low is not None and first.is_probability and (first.high or 0) > 0
        return replace(first, low=None, high=None) if is_one else None
    if name in _CLAMPS:
        return first if _is_for_safety(node, first) else None
    form = affine(node)
    if form is None:
        return first
    if form.scale == 0:
        return None
    first = replace(first, falls=first.falls != (form.scale < 0))
    if first.low is None or first.high is None:
        return first
    low, high = sorted(form.scale * end + form.shift for end in (first.low, first.high))
    return replace(first, low=low, high=high)


def _is_for_safety(node: fx.Node, value: _Final) -> bool:
    """Whether a clamp cuts off next to nothing of the range of probabilities; any of logarithms."""
    if value.low is None or value.high is None:
        return True
    bound, nearly = arguments(node), _NEARLY_ZERO * (value.high - value.low)
    low, high = (literal(bound.get(key)) for key in ("min", "max"))
    below = -math.inf if low is None else low
    above = math.inf if high is None else high
    return below <= value.low + nearly and above >= value.high - nearly


def _logits(
    result: fx.Node, found: dict[fx.Node, _Final], made: dict[tuple[fx.Node, bool], fx.Node]
) -> fx.Node:
    """The logits in the form of the result, negated where the result falls with them."""
    waiting = [(result, False)]
    while waiting:
        node, negated = waiting[-1]
        if (node, negated) in made:
            waiting.pop()
            continue
        below = _needed(node, negated)
        if missing := [each for each in below if each not in made]:
            waiting.extend(missing)
            continue
        waiting.pop()
        made[node, negated] = _moved(node, negated, [made[each] for each in below])
    return made[result, False]


def _needed(node: fx.Node, negated: bool) -> list[tuple[fx.Node, bool]]:
    """Of which values the logits are needed first, and which of them negated."""
    if _is_final(node):
        logits = node.args[0]
        return [(logits, negated)] if _is_final(logits) else []  # type: ignore[list-item]
    form = affine(node)
    negated = negated != (form is not None and form.scale < 0)
    return [(operand, negated) for operand in _operands(node)]


def _moved(node: fx.Node, negated: bool, below: list[fx.Node]) -> fx.Node:
    """A node of the way on the logits: what moves values moves these, anything else leaves them."""
    name, graph = name_of(node), node.graph
    if _is_final(node):
        logits = below[0] if below else node.args[0]
        assert isinstance(logits, fx.Node)
        if not negated or below:
            return logits
        with graph.inserting_after(node):
            moved = call_like(graph, node, aten.neg, logits)
    elif name in _MOVES or name in _JOINS:
        substitutes = dict(zip(_operands(node), below, strict=True))
        with graph.inserting_after(node):
            moved = graph.node_copy(node, lambda n: substitutes.get(n, n))
    else:
        return below[0]
    moved.name = f"{node.name}_logits" if not negated else f"{node.name}_negative_logits"
    moved.meta = {**node.meta, _KEY: (node, negated)}
    return moved


__all__ = ["explained_output"]
