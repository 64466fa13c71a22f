"""Numbers that Python reads from values, by which a captured graph goes on to compute."""

from __future__ import annotations

from torch import fx

from lrp_fx.graph import arguments, depends_on_inputs, name_of, packet_of, types_of

_READS = frozenset({"item", "_local_scalar_dense"})
_SIZES = ("int", "List[int]", "Optional[int]", "Optional[List[int]]")


def computes_with_numbers(graph: fx.Graph) -> bool:
    """Whether numbers that are read from values of the inputs become values: ``h * h.max().item()``.

    Such a number is a constant of one call, which rules treat by its value, such as its sign. A
    graph in which it is still unknown is not enough. Numbers that are only sizes are no values.

    Args:
        graph: a captured graph.
    """
    numbers: set[fx.Node] = set()
    for node in graph.nodes:
        if name_of(node) in _READS and depends_on_inputs(node):
            numbers.add(node)
        elif node.op == "call_function" and not numbers.isdisjoint(node.all_input_nodes):
            if packet_of(node.target) is None:  # Python computes with it
                numbers.add(node)
            elif node.users and _is_value(node, numbers):
                return True
    return False


def _is_value(node: fx.Node, numbers: set[fx.Node]) -> bool:
    """Whether a call takes one of the numbers for another argument than a size or a place."""
    types, bound = types_of(node), arguments(node)
    return any(bound[name] in numbers for name, kind in types.items() if kind not in _SIZES)
