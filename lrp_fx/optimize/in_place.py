"""Overwrites values that are not read again.

A new large tensor costs memory, and page faults besides the arithmetic.
"""

from __future__ import annotations

import operator

from torch import fx

from lrp_fx.graph import ACTIVATIONS, in_place_form, name_of, names_where, packet_of
from lrp_fx.optimize.draft import Draft
from lrp_fx.relevance import RelevanceNode

FRESH = names_where(lambda row: row.fresh and not row.kept and not row.says)
"""Operations whose result shares no memory with other values and is not saved by autograd."""
PROMOTING = frozenset(["clamp", "clamp_min", "clamp_max", "tanh", "sigmoid"])
"""Activations whose result may have another dtype than their operand, such as a count of integers."""
_KEEPING = frozenset(ACTIVATIONS) - PROMOTING


def activate_in_place(draft: Draft) -> None:
    """Let activations overwrite their operand if nothing else reads it and the result has its dtype."""
    for node in draft.graph.nodes:
        in_place = in_place_form(name_of(node))
        if name_of(node) not in _KEEPING or in_place is None:
            continue
        operand = node.args[0]
        if not isinstance(operand, fx.Node) or name_of(operand) not in FRESH:
            continue
        if packet_of(node.target) is not None and readers(operand) == {node}:
            node.target = in_place


def overwrite_relevance(draft: Draft) -> None:
    """Let relevance nodes overwrite the incoming relevance if nothing else reads it."""
    for node in draft.graph.nodes:
        if node.op == "call_module":
            module = draft.modules[str(node.target)]
            relevance = node.args[0] if node.args else None
            if not (isinstance(module, RelevanceNode) and isinstance(relevance, fx.Node)):
                continue
            if _is_owned(relevance, draft):
                draft.modules[str(node.target)] = module.with_settings(overwrites=True)


def readers(node: fx.Node) -> set[fx.Node]:
    """The nodes that read the values of a node, not only its shape."""
    return {user for user in node.users if user.target is not getattr}


def _is_owned(relevance: fx.Node, draft: Draft) -> bool:
    """Whether a value has one reader and shares no memory with a value that has another reader.

    The result of a relevance node is a new tensor, or a view of what the node alone reads.
    """
    while len(readers(relevance)) == 1:
        call: object = relevance
        if relevance.op == "call_function":
            if relevance.target is not operator.getitem:
                return name_of(relevance) == "add"
            call = relevance.args[0]
            if not _is_taken_out_once(call):
                return False
        if not isinstance(call, fx.Node) or call.op != "call_module":
            return False
        module = draft.modules[str(call.target)]
        if not isinstance(module, RelevanceNode):
            return False
        if module.result == "new":
            return True
        below = call.args[0]
        if module.result == "shared" or not isinstance(below, fx.Node):
            return False
        relevance = below
    return False


def _is_taken_out_once(values: object) -> bool:
    """Whether each of several results of a relevance node is taken out at most once."""
    if not isinstance(values, fx.Node):
        return False
    taken_out = [user.args[1] for user in values.users if user.target is operator.getitem]
    return len(taken_out) == len(set(taken_out)) == len(values.users)
