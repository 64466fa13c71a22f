"""Operations that nothing describes, written with those that torch composes them of.

``torch.column_stack`` is a reshape and a ``cat``, ``torch.renorm`` a product with a statistic: torch
knows how it computes them, for any sizes. This pass asks it, if all parts are known operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.canonize.call_writer import replace_results
from lrp_fx.capture import alone
from lrp_fx.graph import call_like, composed, packet_of, replace_by, shapes_of, simpler

Knows = Callable[[str], bool]
"""Whether the library describes an operation, by its ATen name."""


def decompose(graph: fx.Graph, module: fx.GraphModule, knows: Knows) -> bool:
    """Write out the calls that nothing describes, in place; return whether there were any.

    Args:
        graph: the graph.
        module: its module, with the shapes of the arguments that it was captured with. Without them
            nothing is written out.
        knows: whether the library describes an operation.
    """
    unknown = [node for node in graph.nodes if node.users and _lacks_description(node, knows)]
    table = simpler(knows) if unknown else {}
    parts = {node: _parts_of(node, module, knows, table) for node in unknown}
    for node, found in parts.items():
        if found is not None:
            with graph.inserting_before(node):
                _inline(node, found)
    return any(found is not None for found in parts.values())


def _lacks_description(node: fx.Node, knows: Knows) -> bool:
    packet = packet_of(node.target) if node.op == "call_function" else None
    return packet is not None and not knows(packet.__name__)


def _parts_of(
    node: fx.Node, module: fx.GraphModule, knows: Knows, table: Mapping[Any, Any]
) -> fx.Graph | None:
    """The graph of what torch computes for a call, with an input for each tensor that it reads.

    None if torch has no such form, if it needs data, or if nothing describes one of its parts either.
    """
    known = shapes_of(module)
    operands = list(node.all_input_nodes)
    examples = [each for operand in operands if (each := known(operand)) is not None]
    has_result = known(node) is not None or known.results_of(node) is not None
    if not has_result or not operands or len(examples) < len(operands):
        return None
    if any(example.is_complex() for example in examples):
        return None

    def call(*values: Tensor) -> Any:
        given = dict(zip(operands, values, strict=True))
        args, kwargs = fx.map_arg((node.args, node.kwargs), given.__getitem__)
        function: Any = node.target
        return function(*args, **kwargs)

    try:
        with alone(), torch.no_grad():
            graph = composed(call, examples, table)
    except Exception:  # torch has many reasons
        return None
    if any(part.op == "get_attr" or _lacks_description(part, knows) for part in graph.nodes):
        return None
    return graph


def _inline(node: fx.Node, parts: fx.Graph) -> None:
    """Write the calls of ``parts`` before a node, which they replace."""
    graph, made = node.graph, dict[Any, Any]()
    first, *_ = node.all_input_nodes
    operands = iter(node.all_input_nodes)
    for part in parts.nodes:
        if part.op == "placeholder":
            made[part] = next(operands)
        elif part.op == "call_function":
            args = fx.map_arg(part.args, made.__getitem__)
            kwargs = dict(fx.map_arg(part.kwargs, made.__getitem__))
            if "device" in kwargs:  # that of the example, which has no data
                kwargs["device"] = graph.call_function(getattr, (first, "device"))
            made[part] = call_like(graph, node, part.target, *args, **kwargs)
        elif part.op == "output":
            result = part.args[0]
    if isinstance(result, (list, tuple)):
        results: list[Any] = list(map(made.get, result))
        replace_results(node, results)
    else:
        replace_by(node, made[result])
