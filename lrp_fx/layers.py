"""Finding a layer's node in a canonical graph."""

from __future__ import annotations

import difflib

from torch import fx, nn

from lrp_fx.capture import Call, Captured
from lrp_fx.errors import InputError

Layer = nn.Module | str


def find_layer(
    captured: Captured, model: nn.Module, layer: Layer, *, of_input: bool = False
) -> tuple[fx.Node, ...]:
    """The nodes whose values are a layer's output, or its inputs.

    Args:
        captured: the canonical graph.
        model: the user's model.
        layer: a module of the model, its path, ``path#i`` for the i-th call (from 0) of a module
            that is called several times, or the name of a node as the plan shows it.
        of_input: the tensors that the layer reads instead of the one it returns.

    Raises:
        InputError: when there is no such layer, when it has several calls, or when no operation of
            it is left in the graph.
    """
    if isinstance(layer, nn.Module):
        paths = [path for path, m in model.named_modules(remove_duplicate=False) if m is layer]
        if not paths:
            raise InputError(f"the layer {type(layer).__name__} is not a module of the model")
        return _of_module(captured, paths, None, of_input)
    path, _, index = layer.partition("#")
    if index and not index.isdecimal():
        raise InputError(f"'{layer}': after # comes the number of the call, from 0")
    modules = dict(model.named_modules(remove_duplicate=False))
    if path in modules:
        aliases = [p for p, m in modules.items() if m is modules[path]]
        return _of_module(captured, aliases, int(index) if index else None, of_input)
    for node in captured.module.graph.nodes:
        if node.name == layer and node.op == "call_function":
            return _inputs({node}) if of_input else (node,)
    names = [n.name for n in captured.module.graph.nodes if n.op == "call_function"]
    near = difflib.get_close_matches(layer, [*filter(None, modules), *names], n=3, cutoff=0.4)
    hint = f"; near misses: {', '.join(near)}" if near else ""
    raise InputError(f"the model has no module or node '{layer}'{hint}")


def _of_module(
    captured: Captured, paths: list[str], index: int | None, of_input: bool
) -> tuple[fx.Node, ...]:
    calls: dict[Call, set[fx.Node]] = {}
    for node in captured.module.graph.nodes:
        if node.op == "call_function" and _reads_input(node):
            for call in {
                *node.meta.get("module_calls", ()),
                *node.meta.get("merged_calls", ()),
            }:
                if call[0] in paths:
                    calls.setdefault(call, set()).add(node)
    if not calls:
        raise InputError(
            f"no operation of the layer '{paths[0]}' is left in the graph (dropout and identities "
            "are removed): name a neighbour"
        )
    known = sorted(calls)
    if index is None and len(known) > 1:
        names = ", ".join(f"{path}#{count}" for path, count in known)
        raise InputError(
            f"the layer '{paths[0]}' is called {len(known)} times: name one of {names}"
        )
    if index is not None and index >= len(known):
        raise InputError(f"the layer '{paths[0]}' is called {len(known)} times, from #0")
    members = calls[known[index or 0]]
    if of_input:
        return _inputs(members)
    leaving = [n for n in captured.module.graph.nodes if n in members and n.users.keys() - members]
    return (leaving[-1],)


def _inputs(members: set[fx.Node]) -> tuple[fx.Node, ...]:
    """The tensors that a set of nodes reads from outside, parameters and sizes aside."""
    found = dict.fromkeys(
        source
        for node in members
        for source in node.all_input_nodes
        if source not in members and _reads_input(source)
    )
    order = list(next(iter(members)).graph.nodes)
    return tuple(sorted(found, key=order.index))


def _reads_input(node: fx.Node) -> bool:
    """Whether a tensor depends on the model's inputs."""
    if node.op == "placeholder":
        return True
    if node.op != "call_function" or node.target is getattr:
        return False
    return any(_reads_input(source) for source in node.all_input_nodes)
