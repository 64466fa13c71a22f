"""Does not keep summands that can be recovered as ``a = y − b`` from ``y = a + b`` and ``b``.

At residual additions ``y`` and ``b`` are kept anyway: ``y`` is the input of the next block, ``b``
that of this block. The output of a ReLU may stand in for ``y``; where the two differ, no relevance
arrives.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, fx

from lrp_fx.graph import LAYERS, arguments, descendants, name_of
from lrp_fx.optimize.draft import Draft
from lrp_fx.optimize.in_place import FRESH, readers
from lrp_fx.relevance import AdditionRelevance
from lrp_fx.rules import Proportional, may_write

_LAYERS = LAYERS | {"embedding"}
"""Layers. Values that no layer made may be masks with infinite entries, and cannot be recovered."""


def summed(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor | None]:
    """``a + b``, written into ``a`` if possible, and ``a`` if it was not overwritten."""
    if may_write() and a.shape == b.shape and a.dtype == b.dtype:
        return a.add_(b), None
    return a + b, a


def recovered(a: Tensor | None, y: Tensor, b: Tensor) -> Tensor:
    """``a``, from ``y = a + b`` if it was overwritten."""
    return y - b if a is None else a


def take_differences(draft: Draft) -> None:
    """Let residual additions overwrite a summand that only their relevance node reads again."""
    graph, modules = draft.graph, draft.modules
    made_by_layers = descendants(graph, (n for n in graph.nodes if name_of(n) in _LAYERS))
    for call in [node for node in graph.nodes if node.op == "call_module"]:
        node = modules[str(call.target)]
        if isinstance(node, AdditionRelevance) and isinstance(node.rule, Proportional):
            _, y, *summands = call.args
            values = [summand[0] for summand in summands]
            for a, b in (values, values[::-1]):
                addition = _addition_that_alone_reads(a, b, call)
                if addition is not None and isinstance(y, fx.Node) and b in made_by_layers:
                    _take_difference(graph, call, addition, a, b, y)
                    break


def _addition_that_alone_reads(a: Any, b: Any, call: fx.Node) -> fx.Node | None:
    """The plain addition ``a + b``, if only it and ``call`` read ``a``; else None."""
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)) or a is b:
        return None
    others = readers(a) - {call}
    if name_of(a) not in FRESH or len(others) != 1:
        return None
    (addition,) = others
    if name_of(addition) != "add" or addition.op != "call_function":
        return None
    bound = arguments(addition)
    is_plain = {bound["self"], bound["other"]} == {a, b} and bound.get("alpha", 1) == 1
    return addition if is_plain else None


def _take_difference(
    graph: fx.Graph, call: fx.Node, addition: fx.Node, a: fx.Node, b: fx.Node, y: fx.Node
) -> None:
    with graph.inserting_before(addition):
        both = graph.call_function(summed, (a, b))
        total = graph.call_function(operator.getitem, (both, 0))
        rest = graph.call_function(operator.getitem, (both, 1))
    with graph.inserting_before(call):
        again = graph.call_function(recovered, (rest, total if y is addition else y, b))
    call.replace_input_with(a, again)
    total.meta, name = addition.meta, addition.name
    addition.replace_all_uses_with(total)
    graph.erase_node(addition)
    total.name = name
